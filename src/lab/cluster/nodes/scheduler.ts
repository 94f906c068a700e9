// The scheduler's choice: of the nodes that take a pod, one with the fewest taints that it would rather not have, then the
// one with most free pod slots, then the first name. A pod without a node is told why, in kube-scheduler's words; nobody
// is preempted. Pure.
import type { Node, Pod } from '../../../kube/types.ts';
import { matchesNode, OWN_SCHEDULER, tolerates, toleratesTaints, untolerated } from '../fits.ts';
import { Room } from './requests.ts';

export type Placement = { kind: 'node'; name: string } | { kind: 'none'; reason: string };

const UNSCHEDULABLE = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

export const isActive = (pod: Pod): boolean =>
  pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';
const isReady = (node: Node): boolean =>
  node.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true;

/** True for a pod without a node that names no other scheduler. */
export const isWaiting = ({ spec, metadata }: Pod): boolean =>
  !spec.nodeName && !metadata.deletionTimestamp && (spec.schedulerName ?? OWN_SCHEDULER) === OWN_SCHEDULER;

/** `pods`: all that there are. */
export function placePod(pod: Pod, nodes: readonly Node[], pods: readonly Pod[]): Placement {
  const { tolerations, schedulingGates = [] } = pod.spec;
  if (schedulingGates.length > 0) {
    const gates = schedulingGates.map(({ name }) => name).join(' ');
    return { kind: 'none', reason: `waiting for scheduling gates: [${gates}]` };
  }
  if (nodes.length === 0) return { kind: 'none', reason: 'no nodes available to schedule pods' };
  const reasons = new Map<string, number>();
  const takers: { name: string; disliked: number; free: number }[] = [];
  for (const node of nodes) {
    const name = node.metadata.name!;
    const here = pods.filter((other) => other.spec.nodeName === name && isActive(other));
    const room = new Room(node, here);
    const against = refusals(pod, node, room);
    for (const reason of against) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    const disliked = untolerated(tolerations, node, ['PreferNoSchedule']).length;
    if (against.length === 0) takers.push({ name, disliked, free: room.freePods });
  }
  const [best] = takers.sort(
    (a, b) => a.disliked - b.disliked || b.free - a.free || (a.name < b.name ? -1 : 1),
  );
  if (best) return { kind: 'node', name: best.name };
  const told = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return { kind: 'none', reason: `0/${nodes.length} nodes are available: ${told.join(', ')}.` };
}

/** The first filter that refuses speaks, in kube-scheduler's order. */
function refusals(pod: Pod, node: Node, room: Room): string[] {
  const { spec } = pod;
  const cordoned = node.spec?.unschedulable === true;
  if (cordoned && !tolerates(spec.tolerations ?? [], UNSCHEDULABLE)) return ['node(s) were unschedulable'];
  // There, a controller gives such nodes a taint.
  if (!isReady(node)) return ['node(s) were not ready'];
  if (!toleratesTaints(spec.tolerations, node, ['NoSchedule', 'NoExecute']))
    return ['node(s) had untolerated taint(s)'];
  if (!matchesNode(spec, node)) return ["node(s) didn't match Pod's node affinity/selector"];
  return room.missing(pod);
}
