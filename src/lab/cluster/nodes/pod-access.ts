// The nodes' side of logs, exec, port-forward and webhooks: where a running pod's process is, what it finds in its
// environment, and a way to an address of the VPC.
import { Socket } from 'node:net';
import { openNetns } from '../../../kernel/netns.ts';
import { connectTcpIn } from '../../../kernel/sockets.ts';
import type { Pod } from '../../../kube/types.ts';
import { netnsPath } from '../../daemon/paths.ts';
import { environmentOf } from '../environment.ts';
import type { PodAccess } from '../streaming/access.ts';
import { hostIpsOf } from './pod-status.ts';
import { processEnvironment } from './sandbox.ts';
import type { SandboxRecord } from './sandbox-journal.ts';

type Parts = {
  sandboxOf(pod: Pod): SandboxRecord | undefined;
  logFile(uid: string): string;
  ttyProgram(): Promise<string>;
  credentials(pod: Pod): Record<string, string>;
  /** Names of the namespaces of nodes by the nodes' names. */
  nodeNamespaces(): ReadonlyMap<string, string>;
  /** Name of the namespace that the API is in. */
  apiNamespace: string;
};

export const podAccess = ({
  sandboxOf,
  logFile,
  ttyProgram,
  credentials,
  nodeNamespaces,
  apiNamespace,
}: Parts): PodAccess => ({
  running(pod) {
    const record = sandboxOf(pod);
    if (record?.state !== 'made' || record.process === undefined) return undefined;
    const facts = { pod, ips: record.ips, hostIps: hostIpsOf(pod) };
    const own = environmentOf(pod.spec.containers[0]!, facts);
    const env = processEnvironment(record, pod, { ...credentials(pod), ...own });
    return { netns: netnsPath(record.netns), env };
  },
  logFile: (pod) => logFile(pod.metadata.uid!),
  ttyProgram,
  dial({ address, port, node, ofApi }) {
    const all = nodeNamespaces();
    const name = ofApi ? apiNamespace : (all.get(node ?? '') ?? [...all.values()][0]);
    if (name === undefined) throw new Error(`no node runs from which ${address} could be reached`);
    using netns = openNetns(netnsPath(name));
    return new Socket({ fd: connectTcpIn(netns, address, port), readable: true, writable: true });
  },
});
