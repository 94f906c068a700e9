// What the node runner and the scheduler ask of the Kubernetes API, in process. One adapter (daemon/store.ts) fulfils it
// with the embedded API's object store; every change that it reports is a committed one.
import type { Node, NodeStatus, Pod, PodStatus } from '../../../kube/types.ts';

export type ClusterChange =
  | { kind: 'Pod'; type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: Pod }
  | { kind: 'Node'; type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: Node };

export type PodEvent = { type: 'Normal' | 'Warning'; reason: string; message: string };

export type ClusterStore = {
  pods(): Pod[];
  pod(namespace: string, name: string): Pod | undefined;
  nodes(): Node[];
  createPod(pod: Pod): Promise<Pod>;
  /** Sets spec.nodeName of a pod that has none, as the binding subresource does. */
  bindPod(pod: Pod, node: string): Promise<void>;
  /** Writes status when the pod of that uid still exists; a conflict is tried again with the newest object. */
  setPodStatus(pod: Pod, status: PodStatus): Promise<void>;
  /** Asks for deletion, as a user does: the node runner then ends the pod. */
  deletePod(namespace: string, name: string): Promise<void>;
  /** Removes the object for good, after its sandbox is gone. */
  removePod(pod: Pod): Promise<void>;
  putNode(node: Node): Promise<void>;
  setNodeStatus(name: string, status: NodeStatus): Promise<void>;
  removeNode(name: string): Promise<void>;
  /** Creates the Event, or counts it up when the same one is there. */
  recordEvent(pod: Pod, component: string, event: PodEvent): Promise<void>;
  watch(onChange: (change: ClusterChange) => void): { close(): void };
};
