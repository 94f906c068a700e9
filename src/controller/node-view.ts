// What Node and PodwayNode say of each other. Pure.
import type { Node, PodwayNode } from '../kube/index.ts';

/** The instance of `aws:///ZONE/i-…`; null where the Node names none. */
export const instanceOf = ({ spec }: Pick<Node, 'spec'>): string | null =>
  /\/(i-[0-9a-f]+)$/.exec(spec?.providerID ?? '')?.[1] ?? null;

/** True when the agent has said this of this very Node, not of one that had its name before. */
export function speaksOf(own: PodwayNode | undefined, node: Pick<Node, 'metadata' | 'spec'>): boolean {
  if (own?.status?.nodeUID === undefined || own.status.nodeUID !== node.metadata.uid) return false;
  const instance = instanceOf(node);
  return instance === null || instance === own.spec?.instanceId;
}
