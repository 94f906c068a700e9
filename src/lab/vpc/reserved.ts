// IPv4 ranges that no VPC can have: ranges without host addresses, and ranges that the lab itself uses.
// And destinations that no route can have. Asked by EC2's actions on VPCs and routes, and when a lab.yaml is read.
import { type Cidr, cidrCovers, cidrsOverlap, formatCidr, parseCidr } from '../../base/ip.ts';

const RESERVED: readonly (readonly [Cidr, string])[] = (
  [
    ['0.0.0.0/8', 'it is "this network" (RFC 791)'],
    ['127.0.0.0/8', 'it is loopback (RFC 1122)'],
    ['169.254.0.0/16', 'it is link-local (RFC 3927), where instance metadata answers'],
    ['224.0.0.0/4', 'it is multicast (RFC 5771)'],
    ['240.0.0.0/4', 'it is reserved (RFC 1112)'],
    ['198.18.0.0/15', "it is the lab's own: its public addresses"],
    ['203.0.113.0/24', "it is the lab's own: its internet"],
  ] as const
).map(([text, why]) => [parseCidr(text), why]);

/** Why a VPC cannot have the block, as a sentence's end; undefined when it can. */
export function whyNoVpc(block: Cidr): string | undefined {
  return RESERVED.find(([range]) => cidrsOverlap(range, block))?.[1];
}

const RFC_1918 = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].map((text) => parseCidr(text));
/** Within an own range of RFC 1918, what one still cannot add, and beside which CIDRs (undefined: any). */
const RESTRICTED: readonly (readonly [Cidr, Cidr | undefined])[] = [
  [parseCidr('10.0.0.0/16'), parseCidr('10.0.0.0/15')],
  [parseCidr('172.31.0.0/16'), undefined],
];

/**
 * Why a VPC with these CIDRs, the primary one first, cannot have `block` as another one, as a sentence's end; undefined
 * when it can. Source: Amazon VPC User Guide, "IPv4 CIDR block association restrictions".
 */
export function whyNotBeside(present: readonly Cidr[], block: Cidr): string | undefined {
  const primary = present[0];
  if (primary === undefined) return undefined;
  const range = RFC_1918.find((each) => cidrCovers(each, block));
  if (range && !cidrCovers(range, primary))
    return `a VPC of ${formatCidr(primary)} takes none from ${formatCidr(range)}`;
  for (const [restricted, beside] of RESTRICTED) {
    if (!cidrsOverlap(restricted, block)) continue;
    const other = beside ? present.find((each) => cidrCovers(beside, each)) : primary;
    if (other) return `${formatCidr(restricted)} is restricted beside ${formatCidr(other)}`;
  }
  return undefined;
}

/** Instance metadata, the VPC's resolver and time service (Amazon VPC User Guide, "Route tables"). */
const SERVICES = parseCidr('169.254.168.0/22');

/** Why no route of a VPC with these CIDRs leads there, as a sentence's end; undefined when one can. */
export function whyNoRoute(to: Cidr, vpc: readonly Cidr[], byGateway: boolean): string | undefined {
  if (cidrCovers(SERVICES, to)) return `${formatCidr(SERVICES)} is of services of the VPC itself`;
  const own = byGateway ? vpc.find((cidr) => cidrCovers(cidr, to)) : undefined;
  return own && `it lies in the VPC's ${formatCidr(own)}, which no internet gateway leads to`;
}
