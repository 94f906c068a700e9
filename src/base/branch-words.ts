// The words by which security groups of pods are set: in settings, environment and annotations.

/**
 * strict: all that the pod begins and all that begins elsewhere goes by its branch, and the VPC judges it by the pod's
 * groups. standard: only what leaves the node does; the node carries what stays on it.
 */
export const BRANCH_MODES = ['strict', 'standard'] as const;
export type BranchMode = (typeof BRANCH_MODES)[number];

/**
 * Of a pod that a SecurityGroupPolicy selects and that asks for no branch. refuse: it does not start. allow: it has the
 * node's groups.
 */
export const MISSING_GROUPS = ['refuse', 'allow'] as const;
export type MissingGroups = (typeof MISSING_GROUPS)[number];
