// Writes data/kube-protobuf.txt: which field of which Kubernetes message has which number, from the protobuf tags of
// the Go types. Run by hand when the Kubernetes release moves:
//   bin/podway-node tools/kube-protobuf.ts "$(go env GOMODCACHE)/k8s.io" v0.36.3
// One line per message: `package.Message|number:json:type|…`. Types: s text, b bool, i integer, d double, y bytes,
// T time, U time with microseconds, D duration, Q quantity, I int-or-string, R raw JSON, L list of text in a message,
// B schema or bool, A schema or list of schemas, P schema or list of text; else a message; `[` is a list, `{` a map from text, a `?` means left out when zero, an empty name is inlined.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [root, version] = process.argv.slice(2);
if (root === undefined || version === undefined) throw new Error('usage: kube-protobuf.ts DIRECTORY VERSION');

const packages = [
  'admissionregistration/v1',
  'apps/v1',
  'authentication/v1',
  'authorization/v1',
  'autoscaling/v1',
  'autoscaling/v2',
  'batch/v1',
  'certificates/v1',
  'coordination/v1',
  'core/v1',
  'discovery/v1',
  'events/v1',
  'networking/v1',
  'node/v1',
  'policy/v1',
  'rbac/v1',
  'scheduling/v1',
  'storage/v1',
];
const roots = [
  'apiextensions/v1 CustomResourceDefinition',
  'admissionregistration/v1 MutatingWebhookConfiguration ValidatingWebhookConfiguration',
  'apps/v1 ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet',
  'authentication/v1 SelfSubjectReview TokenRequest',
  'authorization/v1 SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview',
  'autoscaling/v1 Scale',
  'autoscaling/v2 HorizontalPodAutoscaler',
  'batch/v1 CronJob Job',
  'certificates/v1 CertificateSigningRequest',
  'coordination/v1 Lease',
  'core/v1 Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount',
  'discovery/v1 EndpointSlice',
  'events/v1 Event',
  'meta/v1 DeleteOptions',
  'networking/v1 IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR',
  'node/v1 RuntimeClass',
  'policy/v1 Eviction PodDisruptionBudget',
  'rbac/v1 ClusterRole ClusterRoleBinding Role RoleBinding',
  'scheduling/v1 PriorityClass',
  'storage/v1 CSIDriver CSINode StorageClass VolumeAttachment',
].flatMap((line) => {
  const [pack, ...kinds] = line.split(' ');
  return kinds.map((kind) => `${pack}.${kind}`);
});

type Struct = { lines: string[]; pack: string };
const structs = new Map<string, Struct>();
const named = new Map<string, string>();

function read(directory: string, pack: string): void {
  for (const file of readdirSync(directory)) {
    if (!/^(micro_time|.*types.*)\.go$/.test(file) || file.includes('_test') || file.includes('swagger'))
      continue;
    const text = readFileSync(join(directory, file), 'utf8');
    for (const [, name, body] of text.matchAll(/^type (\w+) struct ?\{(?:\}|\n([\s\S]*?)^\})/gm)) {
      structs.set(`${pack}.${name}`, { lines: (body ?? '').split('\n'), pack });
    }
    for (const [, name, type] of text.matchAll(/^type (\w+) (?!struct)([^\s{]+)/gm))
      named.set(`${pack}.${name}`, type!);
  }
}

for (const pack of packages) {
  const directory = join(root, `api@${version}`, pack);
  if (existsSync(directory)) read(directory, pack);
}
read(join(root, `apimachinery@${version}`, 'pkg/apis/meta/v1'), 'meta/v1');
read(join(root, `apiextensions-apiserver@${version}`, 'pkg/apis/apiextensions/v1'), 'apiextensions/v1');

/** How the types of other packages are called in these. */
const aliases: Record<string, string> = {
  metav1: 'meta/v1',
  v1: 'core/v1',
  corev1: 'core/v1',
  apiv1: 'core/v1',
};
const special: Record<string, string> = {
  'metav1.Time': 'T',
  'metav1.MicroTime': 'U',
  'metav1.Duration': 'D',
  Time: 'T',
  MicroTime: 'U',
  Duration: 'D',
  'resource.Quantity': 'Q',
  'intstr.IntOrString': 'I',
  'runtime.RawExtension': 'R',
  FieldsV1: 'R',
  'metav1.FieldsV1': 'R',
  JSON: 'R',
  JSONSchemaPropsOrBool: 'B',
  JSONSchemaPropsOrArray: 'A',
  JSONSchemaPropsOrStringArray: 'P',
};
const scalars: Record<string, string> = {
  string: 's',
  bool: 'b',
  int32: 'i',
  int64: 'i',
  int: 'i',
  uint8: 'i',
  uint32: 'i',
  uint64: 'i',
  float64: 'd',
  'types.UID': 's',
  'types.NodeName': 's',
  'types.NamespacedName': 's',
};

function typeOf(go: string, pack: string): string {
  const type = go.replace(/^\*/, '');
  if (type === '[]byte') return 'y';
  if (type.startsWith('[]')) return `[${typeOf(type.slice(2), pack)}`;
  const map = /^map\[[\w.]+\](.+)$/.exec(type);
  if (map) return `{${typeOf(map[1]!, pack)}`;
  if (Object.hasOwn(special, type)) return special[type]!;
  if (Object.hasOwn(scalars, type)) return scalars[type]!;
  const dot = type.indexOf('.');
  const home = dot < 0 ? pack : aliases[type.slice(0, dot)];
  if (home === undefined) throw new Error(`no package for ${type} in ${pack}`);
  const full = `${home}.${type.slice(dot + 1)}`;
  if (structs.has(full)) return full;
  const under = named.get(full);
  if (under === undefined) throw new Error(`no type ${full}`);
  if (under.startsWith('[]')) return 'L';
  return typeOf(under, home);
}

/** A named list is a message with a list in it, unless its own field repeats. */
function fieldType(go: string, pack: string, repeats: boolean): string {
  const under = named.get(`${pack}.${go}`);
  return repeats && under?.startsWith('[]') ? typeOf(under, pack) : typeOf(go, pack);
}

const done = new Map<string, string>();

function emit(name: string): void {
  if (done.has(name)) return;
  const struct = structs.get(name);
  if (struct === undefined) throw new Error(`no message ${name}`);
  done.set(name, '');
  const fields: string[] = [];
  for (const line of struct.lines) {
    const match = /^\t(?:(\w+) +)?(\S+) +`([^`]*)`/.exec(line) ?? /^\t()(\S+)\t*`([^`]*)`/.exec(line);
    const number = match && /protobuf:"\w+,(\d+)/.exec(match[3]!)?.[1];
    if (!match || !number) continue;
    const json = /json:"([^"]*)"/.exec(match[3]!)?.[1] ?? '';
    const [field = '', ...options] = json.split(',');
    const inline = options.includes('inline') || json === '';
    const type = fieldType(match[2]!, struct.pack, /protobuf:"\w+,\d+,rep/.test(match[3]!));
    const omit =
      options.includes('omitempty') && !match[2]!.startsWith('*') && /^[sbidy]$/.test(type) ? '?' : '';
    fields.push(`${number}:${inline ? '' : field}:${type}${omit}`);
    const message = type.replace(/^[[{]+/, '');
    if (message.includes('.')) emit(message);
  }
  done.set(name, fields.join('|'));
}

for (const name of roots) emit(name);
const lines = [...done].map(([name, fields]) => (fields === '' ? name : `${name}|${fields}`)).sort();
writeFileSync(new URL('../data/kube-protobuf.txt', import.meta.url), `${lines.join('\n')}\n`);
process.stdout.write(`${lines.length} messages\n`);
