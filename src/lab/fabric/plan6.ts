// The IPv6 side of the plan. An ENI is one next hop (a link-local address with a permanent neighbour), and what it holds,
// addresses and /80 prefixes, are routes by it: so a prefix costs as much as an address. A VPC without an IPv6 block
// adds nothing here.
import { hostCidr, parseCidr, parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { ipv6CidrsOf, routerOfIpv6 } from '../vpc/ipv6.ts';
import type { NetworkInterface, Subnet, VpcState } from '../vpc/model.ts';
import type { ElementEntry, Put } from './entries.ts';
import { chainName, gateChain, memberPrefixesSet, membersSet } from './gates.ts';
import { bridgeName, linkLocalOf, portName } from './names.ts';
import { pluggedInto } from './plugged.ts';
import { subnetRoutes6, tableOf } from './routes.ts';

const hasIpv6 = (state: VpcState, vpcId: string): boolean => ipv6CidrsOf(state.vpcs[vpcId]).length > 0;

/** The router's own part, the subnets' and the VPCs' way to and from the internet. */
export function putIpv6(put: Put, state: VpcState, carried: ReadonlySet<string>): void {
  const vpcs = Object.values(state.vpcs).filter((vpc) => carried.has(vpc.id) && hasIpv6(state, vpc.id));
  if (vpcs.length > 0) put({ kind: 'ipv6' });
  for (const subnet of Object.values(state.subnets)) {
    const [block] = ipv6CidrsOf(subnet);
    if (block === undefined || !carried.has(subnet.vpcId)) continue;
    const name = bridgeName(subnet.id);
    put({ kind: 'bridge6', name, ip: routerOfIpv6(block) });
    put({ kind: 'rule6', bridge: name });
    put({ kind: 'holder', dst: parseCidr(block), hop: { to: 'nowhere' } });
    for (const route of subnetRoutes6(state, subnet)) put(route);
    if (isOpen(state, subnet)) put(element('open', [{ port: name }]));
  }
  for (const vpc of vpcs) {
    const hasGateway = [state.internetGateways, state.egressOnlyInternetGateways].some((gateways) =>
      Object.values(gateways).some((gateway) => gateway.vpcId === vpc.id),
    );
    if (!hasGateway) continue;
    for (const block of ipv6CidrsOf(vpc)) put({ kind: 'internet-route', dst: parseCidr(block) });
  }
}

/** Whether a connection may begin on the internet: the subnet's table leads there by an internet gateway. */
const isOpen = (state: VpcState, subnet: Subnet): boolean =>
  (tableOf(state, subnet)?.routes ?? []).some(
    ({ destination, target }) =>
      destination.includes(':') &&
      target.kind === 'internet-gateway' &&
      state.internetGateways[target.id]?.vpcId === subnet.vpcId,
  );

const element = (
  set: string,
  key: ElementEntry['key'],
  data: ElementEntry['data'] = null,
  family: ElementEntry['family'] = 'ip6',
): ElementEntry => ({ kind: 'element', family, set, key, data });

/** An attached ENI of a subnet with IPv6; what no attached ENI holds leads nowhere. */
export function putInterface6(
  put: Put,
  state: VpcState,
  eni: NetworkInterface,
  places: ReadonlyMap<string, string>,
): void {
  const instance = pluggedInto(state, eni);
  const where = instance && places.get(instance.id);
  if (!instance || !where || ipv6CidrsOf(state.subnets[eni.subnetId]).length === 0) return;
  const bridge = bridgeName(eni.subnetId);
  const port = portName(eni.id);
  const mac = parseMac(eni.mac);
  const gateway = linkLocalOf(mac);
  put({ kind: 'neighbour', bridge, ip: gateway, mac });
  for (const direction of ['egress', 'ingress'] as const) {
    put({ kind: 'chain', family: 'ip6', ...gateChain(direction, eni.groupIds, state.securityGroups, 6) });
  }
  put(element('senders', [{ port }], { goto: chainName('egress', eni.groupIds) }));
  put(element('receivers', [{ ip: gateway }], { goto: chainName('ingress', eni.groupIds) }));
  if (eni.attachment && instance.httpEndpoint === 'enabled' && instance.httpProtocolIpv6 === 'enabled')
    put(element('imds', [{ port }], { caller6: port }));

  const hop = { to: 'eni', bridge, gateway } as const;
  for (const text of eni.ipv6Addresses) {
    const ip = parseIp(text);
    put({ kind: 'holder', dst: hostCidr(ip), hop });
    put(element('sources6', [{ port }, { ip }], { mark: port }, 'bridge'));
    put(element('addresses', [{ ip }]));
  }
  for (const text of eni.ipv6Prefixes) {
    const dst = parseCidr(text);
    put({ kind: 'holder', dst, hop });
    put(element('prefixes6', [{ port }, { ip: dst.ip }], { mark: port }, 'bridge'));
    put(element('prefixes', [{ ip: dst.ip }]));
  }
  if (!eni.attachment) return;
  const { deviceIndex, networkCardIndex } = eni.attachment;
  const [first] = eni.ipv6Addresses;
  if (deviceIndex === 0 && networkCardIndex === 0 && first !== undefined)
    put({ kind: 'boot6', port, where, ip: parseIp(first) });
}

/** Members of a group by address, and by prefix. */
export function putMembers6(
  put: Put,
  state: VpcState,
  groupIds: ReadonlySet<string>,
  carried: ReadonlySet<string>,
): void {
  if (!Object.keys(state.vpcs).some((id) => carried.has(id) && hasIpv6(state, id))) return;
  for (const id of groupIds) {
    for (const name of [membersSet(id), memberPrefixesSet(id)]) put({ kind: 'set', family: 'ip6', name });
    for (const eni of Object.values(state.networkInterfaces)) {
      if (!eni.groupIds.includes(id) || !carried.has(eni.vpcId)) continue;
      for (const ip of eni.ipv6Addresses) put(element(membersSet(id), [{ ip: parseIp(ip) }]));
      for (const prefix of eni.ipv6Prefixes)
        put(element(memberPrefixesSet(id), [{ ip: parseCidr(prefix).ip }]));
    }
  }
}
