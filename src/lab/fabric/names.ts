// Names and fixed numbers of the fabric, in one place: namespaces, links, addresses that every lab has, mark bits.
// A name is a pure function of an object's id, so that a restarted process finds what the last one made.
import { type Ipv6, ipFromBytes, parseCidr, parseIp } from '../../base/ip.ts';
import { type Mac, macToBytes } from '../../base/mac.ts';

export const ROUTER = 'vpc';
export const INTERNET = 'internet';

/** Bytes: the VPC's links, and everything beyond the internet gateway (as on AWS). */
export const VPC_MTU = 9001;
export const INTERNET_MTU = 1500;

/** The router's address in every subnet has this hardware address: each subnet is a layer-2 domain of its own. */
export const ROUTER_MAC = '02:50:64:00:00:01' as Mac;

/** Router's link to the internet, and the addresses at its two ends. */
export const GATEWAY_LINK = 'igw';
export const INTERNET_LINK = 'eth0';
export const INTERNET_HOST = parseIp('203.0.113.10');
export const INTERNET_ROUTER = parseIp('203.0.113.1');
export const INTERNET_LENGTH = 24;

/** The same of IPv6. */
export const INTERNET_HOST6 = parseIp('2001:db8:113::10');
export const INTERNET_ROUTER6 = parseIp('2001:db8:113::1');
export const INTERNET_LENGTH6 = 64;

/**
 * The router in every subnet with IPv6: the address that AWS's has, beside one that follows from its MAC.
 * Amazon VPC User Guide, "Route tables".
 */
export const ROUTER_LINK_LOCAL = parseIp('fe80:ec2::1') as Ipv6;

/**
 * The address by which the router's routes name an ENI as next hop: the link-local one that follows from its MAC
 * (RFC 4291, appendix A). The guest may have it or not: the router's neighbour entry is permanent.
 */
export function linkLocalOf(mac: Mac): Ipv6 {
  const six = macToBytes(mac);
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set([six[0]! ^ 2, six[1]!, six[2]!, 0xff, 0xfe, six[3]!, six[4]!, six[5]!], 8);
  return ipFromBytes(bytes) as Ipv6;
}

export const IMDS_ADDRESS6 = parseIp('fd00:ec2::254');
/** EC2's and Kubernetes' APIs, for instances without IPv4; on AWS they are behind public names. */
export const EC2_ADDRESS6 = parseIp('fd00:ec2::10');
export const KUBE_ADDRESS6 = parseIp('fd00:ec2::11');
/** As IMDS_CALLERS: the router's own, one address for each port. */
export const IMDS_CALLERS6 = parseCidr('fd00:ec2:240::/96');

/** Which ENI holds an IPv6 address or prefix, of all VPCs: asked where a subnet's own table says that it is local. */
export const HOLDERS_TABLE = 0x4f00;
export const HOLDERS_PRIORITY = 1001;

/** The VPCs' resolver; each VPC reaches it at the third address of its first block too. */
export const RESOLVER_ADDRESS = parseIp('169.254.169.253');
export const RESOLVER_ADDRESS6 = parseIp('fd00:ec2::253');

export const IMDS_ADDRESS = parseIp('169.254.169.254');
export const EC2_ADDRESS = parseIp('169.254.169.10');
export const KUBE_ADDRESS = parseIp('169.254.169.11');
/**
 * What arrives for IMDS is sent on to this port at IMDS_CALLERS + number of the port (interface index) that it came
 * in by: the address that the server finds itself called by names the caller. Class E: nobody's VPC has it.
 */
export const IMDS_PORT = 8169;
export const IMDS_CALLERS = parseCidr('240.0.0.0/4');

/** RT_SCOPE_HOST: of the router's own addresses on its loopback link. */
export const HOST_SCOPE = 254;

/** Route table of a subnet: this plus the interface index of its bridge. */
export const TABLE_BASE = 0x5000;
export const RULE_PRIORITY = 1000;

/** Source ports of what a NAT gateway sends. Amazon VPC User Guide, "NAT gateways". */
export const NAT_PORTS = '1024-65535';

/** Conntrack mark bits, in the router's namespace alone: gates whose rule makes AWS not track the flow. */
export const EGRESS_UNTRACKED = 0x1;
export const INGRESS_UNTRACKED = 0x2;

export const NFT_TABLE = 'podway-fabric';

/** A lab's name has no `_`, so that a namespace's name has one reading, whatever the place is called. */
export const netnsName = (lab: string, where: string): string => `podway_${lab}_${where}`;
/** The lab whose namespace has this name; undefined for other namespaces. */
export const labOfNetns = (name: string): string | undefined => /^podway_([a-z0-9-]+)_./.exec(name)?.[1];
/** The place of a pod's sandbox. No instance's name begins so. */
export const podPlace = (containerId: string): string => `${POD_PLACE}${containerId.slice(0, 12)}`;
const POD_PLACE = 'pod-';

/** `sn-` and 12 hex digits of the id, within the kernel's 15 characters. */
export const bridgeName = (subnetId: string): string => `sn-${tail(subnetId)}`;
export const portName = (eniId: string): string => `eni${tail(eniId)}`;
/** The far end of a branch's port: in the router too, and good for nothing but that the port has a carrier. */
export const tagEndName = (eniId: string): string => `${TAG_END}${tail(eniId)}`;
export const isTagEnd = (link: string): boolean => link.startsWith(TAG_END);
const TAG_END = 'tag';
const tail = (id: string): string => id.slice(id.indexOf('-') + 1).slice(-12);

/** Name of an ENI's link in its instance. Cards beyond the first have numbers of their own, 128 for each. */
export const guestLinkName = (networkCard: number, deviceIndex: number): string =>
  `eth${networkCard * 128 + deviceIndex}`;

/** The place of a NAT gateway: its id. */
export const isNatPlace = (where: string): boolean => /^nat-[0-9a-f]{17}$/.test(where);

/** Can an instance's name be the name of its namespace beside the fabric's own and the pods'? */
export const isPlainName = (name: string): boolean =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name) &&
  name !== ROUTER &&
  name !== INTERNET &&
  !isNatPlace(name) &&
  !name.startsWith(POD_PLACE);
