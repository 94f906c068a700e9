// The nodes' side of logs, exec and port-forward: where a running pod's process is and what it finds in its environment.
import type { Pod } from '../../../kube/types.ts';
import { netnsPath } from '../../daemon/paths.ts';
import { environmentOf } from '../environment.ts';
import type { PodAccess } from '../streaming/access.ts';
import { processEnvironment } from './sandbox.ts';
import type { SandboxRecord } from './sandbox-journal.ts';

type Parts = {
  sandboxOf(pod: Pod): SandboxRecord | undefined;
  logFile(uid: string): string;
  ttyProgram(): Promise<string>;
};

export const podAccess = ({ sandboxOf, logFile, ttyProgram }: Parts): PodAccess => ({
  running(pod) {
    const record = sandboxOf(pod);
    if (record?.state !== 'made' || record.process === undefined) return undefined;
    const facts = { pod, ips: record.ips, hostIp: pod.status?.hostIP ?? '' };
    const env = processEnvironment(record, pod, environmentOf(pod.spec.containers[0]!, facts));
    return { netns: netnsPath(record.netns), env };
  },
  logFile: (pod) => logFile(pod.metadata.uid!),
  ttyProgram,
});
