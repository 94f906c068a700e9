// The seam between the lab and its cluster, which is the embedded one or a real Kubernetes: what the daemon asks of
// either. What the API holds is behind ClusterStore (cluster/nodes/store.ts).
import type { Server } from 'node:net';
import type { KubeObject, Pod } from '../../kube/types.ts';
import type { PodFailure } from '../cluster/nodes/pod-status.ts';
import type { SandboxRecord } from '../cluster/nodes/sandbox-journal.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';
import type { VpcState } from '../vpc/model.ts';
import type { NodePaths } from './paths.ts';

export type ClusterNode = {
  readonly name: string;
  readonly paths: Pick<NodePaths, 'apiSocket'>;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly failure: PodFailure | undefined;
};

export type PodSandbox = Pick<
  SandboxRecord,
  'containerId' | 'node' | 'hostNetwork' | 'netns' | 'state' | 'ips'
> & {
  /** Where the namespace is found when it is not one of `ip netns`. */
  netnsPath?: string;
};

export type LabCluster = {
  node(name: string): ClusterNode | undefined;
  nodes(): ClusterNode[];
  sandboxOf(pod: Pod): PodSandbox | undefined;
  /** True while any node still holds something of that pod. */
  hasSandbox(uid: string): boolean;
  /** Where a pod's output is written, when it is not in the pod's folder of the lab. */
  logFile?(pod: Pod): string;
  /** Ends what must end before the fabric follows the state. */
  leave(state: VpcState): Promise<void>;
  /** Starts what the state has, after the fabric. */
  settle(state: VpcState): Promise<void>;
};

/** A cluster with its API, opened. */
export type ClusterSide = {
  cluster: LabCluster;
  store: ClusterStore;
  /** Servers of the API: on the host's loopback, and on the router when it has one there. */
  hostServer(): Server;
  inLabServer?(): Server;
  /** The user's; `server` is the host's. */
  kubeconfig(server: string): string;
  /** Once its servers listen. */
  begin(): void;
  /** Resolves when the cluster has all that it needs to take pods. Throws LabError with the cause. */
  settled(say: (text: string) => void): Promise<void>;
  /** Objects put as they are, whatever their kind; `name` is for the file that holds them. */
  apply(name: string, objects: readonly object[]): Promise<void>;
  /** Of a lab.yaml: ENIConfigs, SecurityGroupPolicies. The embedded cluster leaves those that are there as they are. */
  putObjects(objects: readonly KubeObject[]): Promise<void>;
  /** The daemon ends and the nodes go on. */
  detach(): void;
  /** After detach, once nobody is served any more. */
  close(): Promise<void>;
};
