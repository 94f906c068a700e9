// The words by which the mode of pods with branch ENIs is set: in settings, environment and annotations.

/**
 * strict: all that the pod begins and all that begins elsewhere goes by its branch, and the VPC judges it by the pod's groups.
 * standard: only what leaves the node does; the node carries what stays on it.
 */
export const BRANCH_MODES = ['strict', 'standard'] as const;
export type BranchMode = (typeof BRANCH_MODES)[number];
