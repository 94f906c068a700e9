// The environment of a container and its command as it runs: values, fields of the pod (downward API), and `$(NAME)` in
// both, as Kubernetes expands them. Values from ConfigMaps and Secrets are not read here: whoever asks is told
// (api/warnings.ts). Pure.
import type { Container, Pod } from '../../kube/types.ts';
import { commandOf } from './command.ts';

type PodFacts = { pod: Pod; ips: readonly string[]; hostIps: readonly string[] };

/** The fields of a pod that `fieldRef` names; undefined for one that is not known. */
function fieldOf({ pod, ips, hostIps }: PodFacts, path: string): string | undefined {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (keyed) return metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2]!] ?? '';
  switch (path) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace;
    case 'metadata.uid':
      return metadata.uid;
    case 'spec.nodeName':
      return spec.nodeName;
    case 'spec.serviceAccountName':
      return spec.serviceAccountName;
    case 'status.hostIP':
      return hostIps[0];
    case 'status.hostIPs':
      return hostIps.join(',');
    case 'status.podIP':
      return ips[0];
    case 'status.podIPs':
      return ips.join(',');
    default:
      return undefined;
  }
}

export function environmentOf(container: Container, facts: PodFacts): Record<string, string> {
  const known: Record<string, string> = {};
  for (const { name, value, valueFrom } of container.env ?? []) {
    const path = valueFrom?.fieldRef?.fieldPath;
    known[name] = path === undefined ? expand(value ?? '', known) : (fieldOf(facts, path) ?? '');
  }
  return known;
}

/** Empty for the built-in server. */
export const expandedCommand = (container: Container, environment: Record<string, string>): string[] =>
  commandOf(container).map((word) => expand(word, environment));

/** `$(NAME)` of a variable that is not known stays as it is, and `$$(NAME)` is `$(NAME)`. */
function expand(text: string, known: Record<string, string>): string {
  return text.replace(/\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : Object.hasOwn(known, name) ? known[name]! : whole,
  );
}
