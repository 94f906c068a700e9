// Keeps secrets out of a dump, in three ways: objects of the Kubernetes API keep only what is on a list (`bareObject`),
// text and every string lose what looks like a secret (`scrubText`), and values that are known to be secrets, as a lab's own
// keys, are looked for as they are. Pure.
import type { KubeObject } from '../../kube/index.ts';

export const LEFT_OUT = '(left out)';

const PATTERNS: [RegExp, string][] = [
  // PEM, with line ends of a text or of a JSON string.
  [/-----BEGIN [A-Z ]+-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]+-----)?/g, LEFT_OUT],
  // Access key ids of IAM users and of roles.
  [/\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b/g, LEFT_OUT],
  // JSON web tokens, as service accounts have them.
  [/\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, LEFT_OUT],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${LEFT_OUT}`],
  [/(\w:\/\/)[^/\s:@"']+:[^/\s@"']+@/g, `$1${LEFT_OUT}@`],
  // key=value, "key": "value", and the same with the quotes of JSON inside JSON.
  [
    /((?:secret[_-]?(?:access[_-]?)?key|session[_-]?token|security[_-]?token|access[_-]?token|id[_-]?token|auth[_-]?token|api[_-]?key|password|passwd|client-key-data|client-certificate-data|token-data|X-Amz-(?:Signature|Credential|Security-Token))\\?["']?\s*[:=]\s*\\?["']?)[^\s"',;&}\\]+/gi,
    `$1${LEFT_OUT}`,
  ],
];

/** `known`: values that are secrets, whatever they look like. */
export function scrubText(text: string, known: readonly string[] = []): string {
  let shown = text;
  for (const value of known) if (value.length >= 8) shown = shown.replaceAll(value, LEFT_OUT);
  for (const [pattern, instead] of PATTERNS) shown = shown.replace(pattern, instead);
  return shown;
}

/** Annotations that say what Podway, policies or the AWS VPC CNI do; others may hold a whole manifest. */
const KEPT_ANNOTATION = /(^|[./])(podway\.(dev|io)|vpc\.amazonaws\.com|policy\.networking\.k8s\.io)(\/|$)/;

const pick = <T extends object>(from: T | undefined, names: readonly string[]): Partial<T> | undefined =>
  from &&
  (Object.fromEntries(
    Object.entries(from).filter(([name, value]) => names.includes(name) && value !== undefined),
  ) as Partial<T>);

const POD_SPEC = [
  'nodeName',
  'hostNetwork',
  'nodeSelector',
  'tolerations',
  'schedulerName',
  'schedulingGates',
  'priority',
  'restartPolicy',
  'serviceAccountName',
];
const CONTAINER = ['name', 'image', 'ports', 'resources', 'restartPolicy'];
type Fields = Record<string, unknown>;

function barePodSpec(spec: Fields): Fields {
  const bare: Fields = { ...pick(spec, POD_SPEC) };
  for (const key of ['containers', 'initContainers'])
    if (Array.isArray(spec[key])) bare[key] = (spec[key] as Fields[]).map((one) => bareContainer(one));
  return bare;
}

/** Names of variables tell what is set; their values, commands and arguments may be anything. */
function bareContainer(container: Fields): Fields {
  const env = container['env'];
  return {
    ...pick(container, CONTAINER),
    ...(Array.isArray(env)
      ? { env: env.map(({ name }: { name: string }) => ({ name, value: LEFT_OUT })) }
      : {}),
  };
}

/** An object without what no command of Podway reads and a person may have put a secret in. */
export function bareObject<T extends KubeObject>(object: T): T {
  const {
    annotations,
    managedFields: _,
    ...metadata
  } = object.metadata as T['metadata'] & { managedFields?: unknown };
  const kept = Object.entries(annotations ?? {}).filter(([key]) => KEPT_ANNOTATION.test(key));
  const bare: Fields = {
    ...object,
    metadata: { ...metadata, ...(kept.length > 0 ? { annotations: Object.fromEntries(kept) } : {}) },
  };
  const spec = bare['spec'] as Fields | undefined;
  if (Array.isArray(spec?.['containers'])) bare['spec'] = barePodSpec(spec);
  const template = spec?.['template'] as { metadata?: { labels?: unknown }; spec?: Fields } | undefined;
  if (template?.spec)
    bare['spec'] = {
      ...spec,
      template: { metadata: { labels: template.metadata?.labels }, spec: barePodSpec(template.spec) },
    };
  return bare as T;
}
