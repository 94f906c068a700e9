// CNI_ARGS: `KEY=VALUE;KEY=VALUE`, each pair with exactly one `=`. A key that is not known here is refused unless
// IgnoreUnknown says 1 or true. Fails with BAD_ENVIRONMENT, naming the pair or the key.
import { PodwayError } from '../base/errors.ts';
import type { PodName } from './types.ts';

const KNOWN = new Set([
  'IgnoreUnknown',
  'IP',
  'MAC',
  'K8S_POD_NAMESPACE',
  'K8S_POD_NAME',
  'K8S_POD_INFRA_CONTAINER_ID',
  'K8S_POD_UID',
]);

const bad = (message: string): PodwayError =>
  new PodwayError('BAD_ENVIRONMENT', message, { object: 'CNI_ARGS' });

export function parseArgs(text: string): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  if (text === '') return args;
  for (const pair of text.split(';')) {
    const [key = '', value, more] = pair.split('=');
    if (key === '' || value === undefined || more !== undefined) {
      throw bad(`CNI_ARGS has ${JSON.stringify(pair.slice(0, 64))}, which is not KEY=VALUE`);
    }
    args.set(key, value);
  }
  return args;
}

/** Refuses unknown keys unless IgnoreUnknown is set. The plugin leaves this to the agent. */
export function checkArgs(args: ReadonlyMap<string, string>): void {
  const ignore = (args.get('IgnoreUnknown') ?? '0').toLowerCase();
  if (!['0', '1', 'true', 'false'].includes(ignore)) {
    throw bad(`CNI_ARGS has IgnoreUnknown=${ignore.slice(0, 64)}, which is neither true nor false`);
  }
  const unknown = [...args.keys()].filter((key) => !KNOWN.has(key));
  if (unknown.length > 0 && ignore !== '1' && ignore !== 'true') {
    throw bad(`CNI_ARGS has unknown keys (${unknown.slice(0, 8).join(', ')}) and no IgnoreUnknown=1`);
  }
}

/** The pod that the arguments name; null when they name none (cnitool, podman). */
export function podOf(args: ReadonlyMap<string, string>): PodName | null {
  const name = args.get('K8S_POD_NAME');
  if (!name) return null;
  const pod: PodName = { namespace: args.get('K8S_POD_NAMESPACE') || 'default', name };
  const uid = args.get('K8S_POD_UID');
  const infraContainerId = args.get('K8S_POD_INFRA_CONTAINER_ID');
  if (uid) pod.uid = uid;
  if (infraContainerId) pod.infraContainerId = infraContainerId;
  return pod;
}
