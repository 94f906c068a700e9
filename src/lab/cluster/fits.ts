// Whether a node takes a pod, by what the pod's spec and the node say: node selector, required node affinity, taints.
// Readiness and free slots are the scheduler's; a DaemonSet asks this alone. Pure.
import { matchesRequirements, type Requirement } from '../../kube/selectors.ts';
import type { Node, PodSpec, Taint, Toleration } from '../../kube/types.ts';

/** The scheduler of pods that name none: the lab's. */
export const OWN_SCHEDULER = 'default-scheduler';

type Term = {
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
  matchFields?: { key: string; operator: string; values?: string[] }[];
};
type Affinity = {
  nodeAffinity?: { requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms?: Term[] } };
};

const OPERATORS: Record<string, Requirement['operator']> = {
  In: 'in',
  NotIn: 'notin',
  Exists: 'exists',
  DoesNotExist: 'absent',
  Gt: 'gt',
  Lt: 'lt',
};

export function matchesNode(spec: PodSpec, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  if (!Object.entries(spec.nodeSelector ?? {}).every(([key, value]) => labels[key] === value)) return false;
  const affinity = (spec as PodSpec & { affinity?: Affinity }).affinity?.nodeAffinity;
  const terms = affinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms === undefined) return true;
  const fields = { 'metadata.name': node.metadata.name ?? '' };
  // Terms are alternatives; one that says nothing matches nothing.
  return terms.some(
    ({ matchExpressions = [], matchFields = [] }) =>
      matchExpressions.length + matchFields.length > 0 &&
      matchesRequirements(requirementsOf(matchExpressions), labels) &&
      matchesRequirements(requirementsOf(matchFields), fields),
  );
}

const requirementsOf = (expressions: NonNullable<Term['matchExpressions']>): Requirement[] =>
  expressions.map(({ key, operator, values = [] }) => ({
    key,
    // An unknown operator matches nothing: no value is in an empty list.
    operator: OPERATORS[operator] ?? 'in',
    values: OPERATORS[operator] === undefined ? [] : values,
  }));

const meets = ({ key, operator = 'Equal', value = '', effect }: Toleration, taint: Taint): boolean =>
  (!effect || effect === taint.effect) &&
  (key ? key === taint.key : operator === 'Exists') &&
  (operator === 'Exists' || value === (taint.value ?? ''));

export const tolerates = (tolerations: readonly Toleration[], taint: Taint): boolean =>
  tolerations.some((each) => meets(each, taint));

const taintsOf = (node: Node, effects: readonly string[]): Taint[] =>
  (node.spec?.taints ?? []).filter(({ effect }) => effects.includes(effect));

/** The node's taints with one of these effects that the pod does not tolerate. */
export const untolerated = (
  tolerations: readonly Toleration[] | undefined,
  node: Node,
  effects: readonly string[],
): Taint[] => taintsOf(node, effects).filter((taint) => !tolerates(tolerations ?? [], taint));

/** True when no taint with one of these effects keeps the pod away. */
export const toleratesTaints = (
  tolerations: readonly Toleration[] | undefined,
  node: Node,
  effects: readonly string[],
): boolean => untolerated(tolerations, node, effects).length === 0;

/** Seconds for which taints with one of these effects are tolerated; none for those tolerated without an end. */
export const allowances = (
  tolerations: readonly Toleration[] | undefined,
  node: Node,
  effects: readonly string[],
): number[] =>
  taintsOf(node, effects).flatMap(
    (taint) => (tolerations ?? []).find((each) => meets(each, taint))?.tolerationSeconds ?? [],
  );
