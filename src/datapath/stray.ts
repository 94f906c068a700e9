// Connections that began while our nft table was missing, and stay wrong once it is back: they lack their mark or their
// source NAT, and the kernel asks neither chain again for an entry that it has confirmed. A client that tries again from
// the same port meets the same entry for as long as it tries. Pure; the sync that brought the table back removes them.
// Never one that is assured: packets went both ways, so it works, by whatever way.
import { cidrContains, familyOf, type Ip } from '../base/ip.ts';
import type { ConntrackEntry } from '../kernel/nfnetlink.ts';
import { CT_SNAT, ENI_MASK } from './marks.ts';
import { exemptPrefixes, LINK_LOCAL, nodeAddress, snatOf, VPC_SERVICES6 } from './nft.ts';
import type { NodeDatapath } from './types.ts';

/** enum ip_conntrack_status (linux/netfilter/nf_conntrack_common.h). */
const IPS_ASSURED = 4;

/** `pods`: the addresses that pods of this node hold. */
export function strayJudge(node: NodeDatapath, pods: ReadonlySet<Ip>): (entry: ConntrackEntry) => boolean {
  const own = new Set(node.enis.flatMap((eni) => [eni.primaryIp, eni.ownIp6]));
  const exempt = { 4: exemptPrefixes(node, 4), 6: exemptPrefixes(node, 6) };
  const leaves = (ip: Ip): boolean => {
    const family = familyOf(ip);
    if (nodeAddress(node, family) === undefined) return false;
    if (cidrContains(family === 4 ? LINK_LOCAL : VPC_SERVICES6, ip)) return true;
    return snatOf(node, family) !== 'none' && !exempt[family].some((cidr) => cidrContains(cidr, ip));
  };
  return ({ status, mark, orig, reply, zone }) => {
    // In a zone: of a branch, whose connections the VPC judges and translates.
    if (status & IPS_ASSURED || zone !== 0) return false;
    const by = mark & ENI_MASK;
    // Came in to the node: its answers, or those of the pod behind a host port, would leave by the main table.
    if (by === 0 && own.has(orig.dst)) return true;
    // A later packet gets the mark; the translation is decided by the first one alone. `reply.src` is the real target.
    return (by === 0 || by === CT_SNAT) && pods.has(orig.src) && reply.dst === orig.src && leaves(reply.src);
  };
}
