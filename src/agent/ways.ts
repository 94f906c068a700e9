// What decides which way a packet of a pod takes, as the agent shows it to who asks for a connection's way.
import { formatCidr, formatIp, type Ip } from '../base/ip.ts';
import { exemptPrefixes, nodeAddress, snatOf } from '../datapath/nft.ts';
import type { NodeDatapath } from '../datapath/types.ts';

/** `onLinks`: addresses on the node's own links. */
export function waysView(node: NodeDatapath, onLinks: Iterable<Ip>) {
  return {
    snat: snatOf(node, 4),
    snat6: nodeAddress(node, 6) === undefined ? 'none' : snatOf(node, 6),
    exempt: ([4, 6] as const).flatMap((family) => exemptPrefixes(node, family).map(formatCidr)),
    onNode: [...onLinks].map(formatIp),
    nodeLocal: (node.nodeLocal ?? []).map(formatIp),
  } as const;
}
