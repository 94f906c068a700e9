// The node's own addresses for pods of IPv6 alone that reach IPv4 hosts by it: link-local, the same range on every node,
// as the AWS VPC CNI's egress plugin has it. No host but the node ever sees one, and no ENI carries one.
import { cidrContains, type Ip, parseCidr } from './ip.ts';

export const EGRESS4 = parseCidr('169.254.172.0/22');

export const isEgress = (ip: Ip): boolean => typeof ip === 'number' && cidrContains(EGRESS4, ip);
