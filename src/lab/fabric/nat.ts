// The rules in a NAT gateway's own namespace: what is forwarded by its one link leaves under its address, and nothing
// begins from outside. A TCP flow that was silent for longer than it is remembered is reset from inside, as on AWS.
import { formatIp, type Ip } from '../../base/ip.ts';
import { withoutTable } from '../../kernel/nft-text.ts';
import { Nft } from '../../kernel/nftables.ts';
import { guestLinkName, NAT_PORTS } from './names.ts';
import type { Space } from './spaces.ts';

const TABLE = 'inet podway-nat';
const LINK = guestLinkName(0, 0);

const script = (ip: Ip): string => `${withoutTable(TABLE)}table ${TABLE} {
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${LINK}" meta nfproto ipv4 meta l4proto { tcp, udp } snat ip to ${formatIp(ip)}:${NAT_PORTS}
    oifname "${LINK}" meta nfproto ipv4 snat ip to ${formatIp(ip)}
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state invalid meta nfproto ipv4 meta l4proto tcp reject with tcp reset
    ct state invalid drop
  }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  }
}
`;

/** Idempotent; flows that are open go on. */
export async function translateAt(space: Space, ip: Ip): Promise<void> {
  await using nft = Nft.open(space.ns);
  await nft.run(script(ip));
}
