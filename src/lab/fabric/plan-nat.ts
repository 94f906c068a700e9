// A NAT gateway as the fabric has it: a namespace, plugged into its subnet by its ENI like an instance, that translates the
// source of what is routed to it and sends it back to the router under its own address. So its way on is that of its
// subnet's table, and its Elastic IP is the internet gateway's work, as of any ENI. With IPv6 in the VPC it takes
// 64:ff9b::/96 too; the translator there (native/nat64.c) is started by the daemon. Pure.
import { type Ip, type Ipv6, parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { ipv6CidrsOf, NAT64 } from '../vpc/ipv6.ts';
import type { NatGateway, NetworkInterface, Subnet, VpcState } from '../vpc/model.ts';
import type { ElementEntry, Entry, Put } from './entries.ts';
import { RECEIVER_CHAIN } from './gates.ts';
import { bridgeName, guestLinkName, linkLocalOf, portName, ROUTER_LINK_LOCAL } from './names.ts';
import { subnetRoutes6 } from './routes.ts';

/** No security group judges a NAT gateway. */
const FROM = 'from_nat_gateways';
const TO = 'to_nat_gateways';

type WiredGateway = { gateway: NatGateway; eni: NetworkInterface; subnet: Subnet; ip: Ip };

/** The NAT gateways that carry packets, of these VPCs. */
export function wiredGateways(state: VpcState, carried: ReadonlySet<string>): WiredGateway[] {
  return Object.values(state.natGateways).flatMap((gateway) => {
    const eni = state.networkInterfaces[gateway.networkInterfaceId ?? ''];
    const subnet = state.subnets[gateway.subnetId];
    if (gateway.state !== 'available' || !eni || !subnet || !carried.has(gateway.vpcId)) return [];
    return [{ gateway, eni, subnet, ip: parseIp(eni.privateIps[0]!) }];
  });
}

/** Whether it translates IPv6: its VPC has some. */
const translatesIpv6 = (state: VpcState, { vpcId }: NatGateway): boolean =>
  ipv6CidrsOf(state.vpcs[vpcId]).length > 0;

export function putNatGateways(
  put: Put,
  state: VpcState,
  carried: ReadonlySet<string>,
  routerOf: (subnet: Subnet) => { ip: Ip; length: number },
): void {
  for (const wired of wiredGateways(state, carried)) {
    const { gateway, eni, subnet, ip } = wired;
    const bridge = bridgeName(subnet.id);
    const port = portName(eni.id);
    const mac = parseMac(eni.mac);
    const where = gateway.id;
    put({ kind: 'netns', where, role: 'nat', life: '' });
    put({ kind: 'fdb', bridge, mac, port });
    put({ kind: 'neighbour', bridge, ip, mac });
    put({
      kind: 'port',
      name: port,
      bridge,
      where,
      guestName: guestLinkName(0, 0),
      mac,
      eniId: eni.id,
      instanceId: gateway.id,
      attachmentId: 'nat',
    });
    const { ip: router, length } = routerOf(subnet);
    put({ kind: 'boot', port, where, ip, length, gateway: router });
    put({ kind: 'nat', where, ip });
    for (const entry of gates(undefined)) put(entry);
    put(element('bridge', 'unchecked', [{ port }], { mark: port }));
    put(element('inet', 'senders', [{ port }], { goto: FROM }));
    put(element('inet', 'receivers', [{ ip }], { goto: TO }));
    if (translatesIpv6(state, gateway)) putSide6(put, state, wired);
  }
}

/** A subnet without a block of its own gets no more than the router in it and its table. */
function putSide6(put: Put, state: VpcState, { gateway, eni, subnet, ip }: WiredGateway): void {
  const bridge = bridgeName(subnet.id);
  const port = portName(eni.id);
  const mac = parseMac(eni.mac);
  if (ipv6CidrsOf(subnet).length === 0) {
    put({ kind: 'bridge6', name: bridge, ip: ROUTER_LINK_LOCAL });
    put({ kind: 'rule6', bridge });
    for (const route of subnetRoutes6(state, subnet)) put(route);
  }
  put({ kind: 'neighbour', bridge, ip: linkLocalOf(mac), mac });
  for (const entry of gates('ip6')) put(entry);
  put(element('ip6', 'senders', [{ port }], { goto: FROM }));
  put(element('ip6', 'receivers', [{ ip: linkLocalOf(mac) }], { goto: TO }));
  // Its errors come from the address that stands for its own.
  const own = ((NAT64.ip as bigint) | BigInt(ip)) as Ipv6;
  put({ kind: 'boot6', port, where: gateway.id, ip: own });
}

const gates = (family: 'ip6' | undefined): Entry[] => [
  { kind: 'chain', name: FROM, rules: [`goto ${RECEIVER_CHAIN}`], ...(family ? { family } : {}) },
  { kind: 'chain', name: TO, rules: ['accept'], ...(family ? { family } : {}) },
];

const element = (
  family: ElementEntry['family'],
  set: string,
  key: ElementEntry['key'],
  data: ElementEntry['data'],
): ElementEntry => ({ kind: 'element', family, set, key, data });
