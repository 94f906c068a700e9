// A plain scheduler: a pod with no node goes to the ready node with most free pod slots. Pure choice, one small loop.
import type { Node, Pod } from '../../../kube/types.ts';
import { matchesNode, OWN_SCHEDULER, toleratesTaints } from '../fits.ts';

export type Placement = { kind: 'node'; name: string } | { kind: 'none'; reason: string };

const active = (pod: Pod): boolean => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';
const isReady = (node: Node): boolean =>
  node.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true;

/** True for a pod without a node that names no other scheduler. */
export const isWaiting = ({ spec, metadata }: Pod): boolean =>
  !spec.nodeName && !metadata.deletionTimestamp && (spec.schedulerName ?? OWN_SCHEDULER) === OWN_SCHEDULER;

/** True when a taint of the pod's node evicts it. A toleration never expires here: its seconds are ignored. */
export function isEvicted(pod: Pod, nodes: Node[]): boolean {
  const node = nodes.find((each) => each.metadata.name === pod.spec.nodeName);
  if (!node || pod.metadata.deletionTimestamp || !active(pod)) return false;
  return !toleratesTaints(pod.spec.tolerations, node, ['NoExecute']);
}

/** Chooses by readiness, selector and affinity, taints and free pod slots; ties go to the first name. */
export function placePod(pod: Pod, nodes: Node[], pods: Pod[]): Placement {
  const { tolerations, schedulingGates = [] } = pod.spec;
  if (schedulingGates.length > 0) {
    const gates = schedulingGates.map(({ name }) => name).join(', ');
    return { kind: 'none', reason: `it waits until its scheduling gates are taken away: ${gates}` };
  }
  const fitting = nodes.filter(
    (node) => matchesNode(pod.spec, node) && toleratesTaints(tolerations, node, ['NoSchedule', 'NoExecute']),
  );
  const usable = fitting.filter((node) => isReady(node) && node.spec?.unschedulable !== true);
  const free = (node: Node): number => {
    const limit = Number(node.status?.allocatable?.['pods'] ?? 0);
    return limit - pods.filter((other) => other.spec.nodeName === node.metadata.name && active(other)).length;
  };
  const ranked = usable
    .map((node) => ({ name: node.metadata.name!, free: free(node) }))
    .filter((each) => each.free > 0)
    .sort((a, b) => b.free - a.free || (a.name < b.name ? -1 : 1));
  if (ranked[0]) return { kind: 'node', name: ranked[0].name };
  const full = usable.length;
  const reason =
    `0 of ${nodes.length} nodes take the pod: ${nodes.length - fitting.length} do not match its node selector or have a taint, ` +
    `${fitting.length - full} are not ready, ${full} hold all the pods of their instance type`;
  return { kind: 'none', reason };
}
