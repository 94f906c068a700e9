// The nodes of the cluster as peers of policies: their labels and addresses. A Node changes with each heartbeat; only what
// policies look at is passed on. Followed from the first policy on whose peers are nodes.
import type { Node, Sink } from '../kube/index.ts';
import type { NodePeer, Nodes } from '../policy/model.ts';
import { nodePeer } from '../policy/objects.ts';

export function nodePeers(onChange: (nodes: Nodes) => void): Sink<Node> {
  let known: Map<string, NodePeer> | null = null;
  const isSame = (one: NodePeer | undefined, other: NodePeer) =>
    one !== undefined &&
    one.ips.join() === other.ips.join() &&
    JSON.stringify(one.labels) === JSON.stringify(other.labels);
  const tell = (next: Map<string, NodePeer>) => {
    known = next;
    onChange(next);
  };
  return {
    replace: (all) => tell(new Map(all.map((one) => [one.metadata.name!, nodePeer(one)]))),
    put: (one) => {
      const peer = nodePeer(one);
      if (!isSame(known?.get(one.metadata.name!), peer)) tell(new Map(known).set(one.metadata.name!, peer));
    },
    remove: ({ metadata }) => {
      const next = new Map(known);
      if (next.delete(metadata.name!)) tell(next);
    },
  };
}
