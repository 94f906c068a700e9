// The IPv6 part of the router's nft tables: what the bridge lets a guest send, and the table `ip6 podway-fabric`, which is
// there when a VPC has an IPv6 block. As IPv4's (ruleset.ts), but for two things: the receiver is known by its ENI (the
// next hop), not by address; and an internet gateway translates nothing, it lets pass what a VPC's ENI holds.
import { formatCidr, formatIp, ipToBytes } from '../../base/ip.ts';
import type { NftChain } from '../../kernel/nft-text.ts';
import { PREFIX_MASK, RECEIVER_CHAIN } from './gates.ts';
import {
  EC2_ADDRESS6,
  EGRESS_UNTRACKED,
  GATEWAY_LINK,
  IMDS_ADDRESS6,
  IMDS_CALLERS6,
  IMDS_PORT,
  INGRESS_UNTRACKED,
  KUBE_ADDRESS6,
  ROUTER_LINK_LOCAL,
  ROUTER_MAC,
} from './names.ts';

export type FixedChains = Readonly<Record<string, Omit<NftChain, 'name'>>>;

export const SETS6 = {
  senders: 'map senders { type mark : verdict; }',
  receivers: 'map receivers { type ipv6_addr : verdict; }',
  imds: 'map imds { type mark : ipv6_addr . inet_service; }',
  // What attached ENIs hold: an internet gateway passes on nothing from another source.
  addresses: 'set addresses { type ipv6_addr; }',
  prefixes: 'set prefixes { type ipv6_addr; }',
  // Bridges of subnets that an internet gateway leads to.
  open: 'set open { type iface_index; }',
} as const;

const router = formatIp(ROUTER_LINK_LOCAL);
/** nft 1.0.6 has no word for the target of a neighbour solicitation: 16 bytes, after the ICMPv6 header. */
const asksForRouter = `@th,64,128 0x${Buffer.from(ipToBytes(ROUTER_LINK_LOCAL)).toString('hex')}`;

export const BRIDGE_CHAINS6: FixedChains = {
  // Of multicast only the question for the router passes: other guests are never asked, for nothing is on the link but
  // the router. Link-local packets go no further than to the router.
  from_guest6: {
    rules: [
      `icmpv6 type nd-neighbor-solicit ${asksForRouter} ip6 saddr fe80::/10 accept`,
      `icmpv6 type nd-neighbor-solicit ${asksForRouter} goto solicits6`,
      'ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop',
      `ip6 daddr ${router} ip6 saddr fe80::/10 accept`,
      'icmpv6 type nd-neighbor-advert ip6 saddr fe80::/10 ip6 daddr fe80::/10 accept',
      'ip6 saddr fe80::/10 drop',
      'meta mark set iif . ip6 saddr map @sources6 goto enter6',
      `meta mark set iif . (ip6 saddr & ${PREFIX_MASK}) map @prefixes6 goto enter6`,
      'meta mark set iif map @unchecked goto enter6',
      'drop',
    ],
  },
  // A guest without a link-local address asks under one that it holds.
  solicits6: {
    rules: [
      'meta mark set iif . ip6 saddr map @sources6 accept',
      `meta mark set iif . (ip6 saddr & ${PREFIX_MASK}) map @prefixes6 accept`,
      'drop',
    ],
  },
  enter6: {
    rules: [
      'ip6 hoplimit 1 ip6 hoplimit set 2',
      `ether daddr set ${ROUTER_MAC} meta pkttype set host accept`,
    ],
  },
};

const guard = `oifname "${GATEWAY_LINK}"`;

export const CHAINS6: FixedChains = {
  translate_in: {
    hook: 'type nat hook prerouting priority dstnat; policy accept;',
    rules: [`ip6 daddr ${formatIp(IMDS_ADDRESS6)} tcp dport 80 dnat ip6 to meta mark map @imds`],
  },
  forward: {
    hook: 'type filter hook forward priority filter; policy drop;',
    rules: [
      `ct state established ct mark & ${EGRESS_UNTRACKED | INGRESS_UNTRACKED} == 0 accept`,
      'ct state related accept',
      'ct state invalid drop',
      `${guard} jump leaving`,
      'ct state established ct direction reply accept',
      `iifname "${GATEWAY_LINK}" oif @open goto ${RECEIVER_CHAIN}`,
      `iifname "${GATEWAY_LINK}" drop`,
      `ct state established ct mark & ${EGRESS_UNTRACKED} == 0 goto ${RECEIVER_CHAIN}`,
      'meta mark vmap @senders',
    ],
  },
  leaving: {
    rules: ['ip6 saddr @addresses return', `ip6 saddr & ${PREFIX_MASK} @prefixes return`, 'drop'],
  },
  [RECEIVER_CHAIN]: {
    rules: [
      `${guard} accept`,
      `ct state established ct mark & ${INGRESS_UNTRACKED} == 0 accept`,
      'rt ip6 nexthop vmap @receivers',
    ],
  },
  input: {
    hook: 'type filter hook input priority filter; policy drop;',
    rules: [
      'iif "lo" accept',
      'ct state established,related accept',
      'icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept',
      `iifname "${GATEWAY_LINK}" drop`,
      'udp dport 53 accept',
      `ip6 daddr ${formatCidr(IMDS_CALLERS6)} tcp dport ${IMDS_PORT} ct status dnat accept`,
      `ip6 daddr ${formatIp(EC2_ADDRESS6)} tcp dport 80 accept`,
      `ip6 daddr ${formatIp(KUBE_ADDRESS6)} tcp dport 443 accept`,
      'meta l4proto tcp reject with tcp reset',
    ],
  },
};
