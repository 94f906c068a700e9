// The names that a VPC's resolver knows, from the VPC's state alone: EC2's own of instances, and the lab's. Pure.
// Whose addresses a question comes from decides: its subnet's DNS64, its VPC's DNS support.
import { cidrContains, formatIp, type Ip, type Ipv4, type Ipv6, parseCidr, parseIp } from '../../base/ip.ts';
import { INTERNET_HOST, INTERNET_HOST6, RESOLVER_ADDRESS, RESOLVER_ADDRESS6 } from '../fabric/names.ts';
import { privateDnsName, publicDnsName, resourceName } from '../vpc/actions/interface-answers.ts';
import { ipv6CidrsOf, NAT64 } from '../vpc/ipv6.ts';
import type { NetworkInterface, Subnet, VpcState } from '../vpc/model.ts';
import { A, AAAA, ANY, type Rcode } from './message.ts';

/** The lab's own names: instances by name, and its internet host, by both families and by one alone. */
export const LAB_DOMAIN = 'podway.test';
/** By which a client finds out the prefix of NAT64 (RFC 7050). */
const PREFIX_NAME = 'ipv4only.arpa';
const PREFIX_ADDRESSES = ['192.0.0.170', '192.0.0.171'].map(parseIp);

/** What `pod exec` finds as /etc/resolv.conf. */
export const resolvConf = (families: 'ipv4' | 'ipv6' | 'dual'): string =>
  `nameserver ${formatIp(families === 'ipv6' ? RESOLVER_ADDRESS6 : RESOLVER_ADDRESS)}\nsearch ${LAB_DOMAIN}\n`;

export type Found = { rcode: Rcode; addresses: Ip[] };

/** The interface that holds the address, itself or within a prefix. */
export function holderOf(state: VpcState, ip: Ip): NetworkInterface | undefined {
  return Object.values(state.networkInterfaces).find((eni) =>
    typeof ip === 'number'
      ? eni.privateIps.some((one) => parseIp(one) === ip) ||
        eni.ipv4Prefixes.some((one) => cidrContains(parseCidr(one), ip))
      : eni.ipv6Addresses.some((one) => parseIp(one) === ip) ||
        eni.ipv6Prefixes.some((one) => cidrContains(parseCidr(one), ip)),
  );
}

/** What the resolver of the subnet's VPC says; undefined where that has no DNS support. */
export function lookUp(state: VpcState, subnet: Subnet, name: string, type: number): Found | undefined {
  if (state.vpcs[subnet.vpcId]?.enableDnsSupport === false) return undefined;
  const all = addressesOf(state, subnet.vpcId, name);
  if (all === undefined) return { rcode: 'no-name', addresses: [] };
  const four = all.filter((ip) => typeof ip === 'number');
  const six = all.filter((ip) => typeof ip === 'bigint');
  const made = six.length === 0 && subnet.enableDns64 ? four.map(throughNat64) : six;
  if (type === A) return { rcode: 'ok', addresses: four };
  if (type === AAAA) return { rcode: 'ok', addresses: made };
  return { rcode: 'ok', addresses: type === ANY ? all : [] };
}

const throughNat64 = (ip: Ipv4): Ipv6 => ((NAT64.ip as bigint) | BigInt(ip)) as Ipv6;

function addressesOf(state: VpcState, vpcId: string, name: string): Ip[] | undefined {
  if (name === PREFIX_NAME) return PREFIX_ADDRESSES;
  if (name.endsWith(`.${LAB_DOMAIN}`))
    return labAddresses(state, vpcId, name.slice(0, -LAB_DOMAIN.length - 1));
  for (const eni of Object.values(state.networkInterfaces)) {
    if (eni.vpcId !== vpcId) continue;
    const subnet = state.subnets[eni.subnetId];
    const held = eni.privateIps.find((ip) => privateDnsName(state, ip) === name);
    if (held !== undefined) return [parseIp(held)];
    if (subnet?.ipv6Native && eni.attachment && resourceName(state, eni.attachment.instanceId) === name)
      return eni.ipv6Addresses.slice(0, 1).map(parseIp);
  }
  // A public name is a private address within its VPC.
  for (const { publicIp, privateIp, networkInterfaceId = '' } of Object.values(state.publicAddresses)) {
    const eni = state.networkInterfaces[networkInterfaceId];
    if (eni === undefined || publicDnsName(state, eni.vpcId, publicIp) !== name) continue;
    return [parseIp(eni.vpcId === vpcId ? (privateIp ?? publicIp) : publicIp)];
  }
  return undefined;
}

function labAddresses(state: VpcState, vpcId: string, name: string): Ip[] | undefined {
  const hasIpv6 = Object.values(state.vpcs).some((vpc) => ipv6CidrsOf(vpc).length > 0);
  const six = hasIpv6 ? [INTERNET_HOST6] : [];
  if (name === 'internet') return [INTERNET_HOST, ...six];
  if (name === 'ipv4.internet') return [INTERNET_HOST];
  if (name === 'ipv6.internet') return six;
  const instance = Object.values(state.instances).find(
    (one) => one.vpcId === vpcId && one.state !== 'terminated' && one.name.toLowerCase() === name,
  );
  const primary =
    instance &&
    Object.values(state.networkInterfaces).find(
      ({ attachment }) =>
        attachment?.instanceId === instance.id &&
        attachment.deviceIndex === 0 &&
        attachment.networkCardIndex === 0,
    );
  return primary && [...primary.privateIps.slice(0, 1), ...primary.ipv6Addresses.slice(0, 1)].map(parseIp);
}
