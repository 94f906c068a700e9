// The whole fabric as a value, from the VPC's state alone: pure and total. What the state holds and the fabric cannot
// carry (a VPC whose addresses are another's) is left out and named in `problems`.
import {
  addToIp,
  type Cidr,
  cidrSize,
  cidrsOverlap,
  formatIp,
  type Ip,
  parseCidr,
  parseIp,
} from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import type { Instance, NetworkInterface, Subnet, Vpc, VpcState } from '../vpc/model.ts';
import { type Entries, type Entry, keyOf, type Put } from './entries.ts';
import { chainName, gateChain, membersSet, referencedGroups } from './gates.ts';
import { bridgeName, guestLinkName, INTERNET, isPlainName, portName, ROUTER } from './names.ts';
import { putNatGateways, wiredGateways } from './plan-nat.ts';
import { putInterface6, putIpv6, putMembers6 } from './plan6.ts';
import { pluggedInto, WIRED_STATES } from './plugged.ts';
import { subnetRoutes } from './routes.ts';
import { branchPort, putTags } from './trunk.ts';

export type FabricPlan = {
  entries: Entries;
  /** Instance by id: where it lives. */
  places: ReadonlyMap<string, string>;
  problems: readonly string[];
};

/** All IPv4 addresses that an ENI holds, its prefixes' included; the primary first. */
export function addressesOf(eni: NetworkInterface): Ip[] {
  const ips = eni.privateIps.map(parseIp);
  for (const prefix of eni.ipv4Prefixes) {
    const cidr = parseCidr(prefix);
    for (let i = 0; i < cidrSize(cidr); i++) ips.push(addToIp(cidr.ip, i));
  }
  return ips;
}

/** The name of each living instance's namespace; an instance without a plain name of its own goes by its id. */
export function placesOf(state: VpcState): Map<string, string> {
  const places = new Map<string, string>();
  const taken = new Set<string>();
  for (const instance of Object.values(state.instances)) {
    if (instance.state === 'terminated') continue;
    const free = isPlainName(instance.name) && !taken.has(instance.name);
    const place = free ? instance.name : instance.id;
    taken.add(place);
    places.set(instance.id, place);
  }
  return places;
}

/** One life of an instance: from a launch, start or reboot to the next. */
export const lifeOf = ({ id, launchTime, rebootedAt = 0 }: Instance): string =>
  `${id} ${launchTime} ${rebootedAt}`;

/** VPCs that one router can carry. Of two overlapping VPCs it carries the one with instances, else the older. */
function carriedVpcs(state: VpcState): { carried: Set<string>; problems: string[] } {
  const inUse = new Set(
    Object.values(state.instances)
      .filter((one) => one.state !== 'terminated')
      .map((one) => one.vpcId),
  );
  const all = Object.values(state.vpcs);
  const ordered = [...all.filter((vpc) => inUse.has(vpc.id)), ...all.filter((vpc) => !inUse.has(vpc.id))];
  const carried: { vpc: Vpc; cidrs: Cidr[] }[] = [];
  const problems: string[] = [];
  for (const vpc of ordered) {
    const cidrs = vpc.cidrs.map((one) => parseCidr(one.cidr, { mask: true }));
    const rival = carried.find((other) => other.cidrs.some((a) => cidrs.some((b) => cidrsOverlap(a, b))));
    if (rival === undefined) carried.push({ vpc, cidrs });
    else problems.push(`${vpc.id} has no packets: its addresses overlap those of ${rival.vpc.id}`);
  }
  return { carried: new Set(carried.map((one) => one.vpc.id)), problems };
}

/** Public addresses that lead somewhere: of an attached internet gateway's VPC, to an address that the ENI holds. */
export function publicPairs(state: VpcState): { publicIp: Ip; privateIp: Ip; eniId: string }[] {
  const withGateway = new Set(Object.values(state.internetGateways).map((gateway) => gateway.vpcId));
  const pairs: { publicIp: Ip; privateIp: Ip; eniId: string }[] = [];
  for (const one of Object.values(state.publicAddresses)) {
    const eni =
      one.networkInterfaceId === undefined ? undefined : state.networkInterfaces[one.networkInterfaceId];
    if (!eni || !withGateway.has(eni.vpcId)) continue;
    const privateIp = parseIp(one.privateIp ?? eni.privateIps[0] ?? '0.0.0.0');
    if (!addressesOf(eni).includes(privateIp)) continue;
    pairs.push({ publicIp: parseIp(one.publicIp), privateIp, eniId: eni.id });
  }
  return pairs;
}

export function desiredFabric(state: VpcState): FabricPlan {
  const { carried, problems } = carriedVpcs(state);
  const places = placesOf(state);
  const entries = new Map<string, Entry>();
  const put = (entry: Entry) => entries.set(keyOf(entry), entry);

  put({ kind: 'netns', where: ROUTER, role: 'router', life: '' });
  put({ kind: 'netns', where: INTERNET, role: 'internet', life: '' });
  for (const instance of Object.values(state.instances)) {
    const where = places.get(instance.id);
    // What is stopped has no kernel: its namespace goes, and a start makes another.
    if (where !== undefined && WIRED_STATES.has(instance.state))
      put({ kind: 'netns', where, role: 'instance', life: lifeOf(instance) });
  }

  for (const subnet of Object.values(state.subnets)) {
    if (carried.has(subnet.vpcId)) putSubnet(put, state, subnet);
  }
  for (const id of carried) put({ kind: 'resolver', ip: resolverOf(state.vpcs[id]!) });
  putIpv6(put, state, carried);
  putNatGateways(put, state, carried, routerIp);
  const wired = new Set(wiredGateways(state, carried).map(({ eni }) => eni.id));
  const groupsOfEnis = new Set<string>();
  for (const eni of Object.values(state.networkInterfaces)) {
    const subnet = state.subnets[eni.subnetId];
    // An EFA without an IP side is no network device in its instance.
    if (!subnet || !carried.has(eni.vpcId) || eni.interfaceType === 'efa-only') continue;
    if (wired.has(eni.id)) continue;
    putInterface(put, state, eni, subnet, places);
    putInterface6(put, state, eni, places);
    if (pluggedInto(state, eni)) for (const id of eni.groupIds) groupsOfEnis.add(id);
  }
  const peers = referencedGroups(groupsOfEnis, state.securityGroups);
  putMembers(put, state, peers, carried);
  putMembers6(put, state, peers, carried);
  putPublic(put, state, carried);
  return { entries, places, problems };
}

/** AWS keeps the third address of a VPC's first block for its resolver. */
const resolverOf = (vpc: Vpc): Ip => addToIp(parseCidr(vpc.cidrs[0]!.cidr, { mask: true }).ip, 2);

const routerIp = (subnet: Subnet): { ip: Ip; length: number } => {
  const cidr = parseCidr(subnet.cidr, { mask: true });
  return { ip: addToIp(cidr.ip, 1), length: cidr.length };
};

function putSubnet(put: Put, state: VpcState, subnet: Subnet): void {
  const name = bridgeName(subnet.id);
  if (subnet.ipv6Native) {
    put({ kind: 'bridge', name, ip: null, length: 0 });
    return;
  }
  put({ kind: 'bridge', name, ...routerIp(subnet) });
  put({ kind: 'rule', bridge: name });
  for (const route of subnetRoutes(state, subnet)) put(route);
}

function putInterface(
  put: Put,
  state: VpcState,
  eni: NetworkInterface,
  subnet: Subnet,
  places: ReadonlyMap<string, string>,
): void {
  const bridge = bridgeName(subnet.id);
  const mac = parseMac(eni.mac);
  const ips = addressesOf(eni);
  const instance = pluggedInto(state, eni);
  const where = instance && places.get(instance.id);
  const port = where === null || where === undefined ? null : portName(eni.id);
  put({ kind: 'fdb', bridge, mac, port });
  for (const ip of ips) put({ kind: 'neighbour', bridge, ip, mac });
  if (!instance || !where || port === null) return;

  const branch = branchPort(state, eni, subnet, instance);
  if (branch) for (const entry of branch) put(entry);
  else if (eni.attachment) {
    const { deviceIndex, networkCardIndex, id: attachmentId } = eni.attachment;
    const guestName = guestLinkName(networkCardIndex, deviceIndex);
    const ids = { eniId: eni.id, instanceId: instance.id, attachmentId };
    put({ kind: 'port', name: port, bridge, where, guestName, mac, ...ids });
    if (deviceIndex === 0 && networkCardIndex === 0 && ips[0] !== undefined) {
      const { ip: gateway, length } = routerIp(subnet);
      put({ kind: 'boot', port, where, ip: ips[0], length, gateway });
    }
    if (eni.interfaceType === 'trunk') putTags(put, state, eni);
  }
  for (const direction of ['egress', 'ingress'] as const) {
    put({ kind: 'chain', ...gateChain(direction, eni.groupIds, state.securityGroups) });
  }
  const element = (family: 'inet' | 'bridge', set: string, key: ElementKey, data: Data = null) =>
    put({ kind: 'element', family, set, key, data });
  if (!eni.sourceDestCheck) element('bridge', 'unchecked', [{ port }], { mark: port });
  element('inet', 'senders', [{ port }], { goto: chainName('egress', eni.groupIds) });
  // The metadata service says nothing to a branch.
  if (!branch && instance.httpEndpoint === 'enabled') element('inet', 'imds', [{ port }], { caller: port });
  for (const ip of ips) {
    element('bridge', 'sources', [{ port }, { ip }], { mark: port });
    element('inet', 'receivers', [{ ip }], { goto: chainName('ingress', eni.groupIds) });
  }
}

type ElementEntry = Extract<Entry, { kind: 'element' }>;
type ElementKey = ElementEntry['key'];
type Data = ElementEntry['data'];

/** Members of a group are the private addresses of all ENIs that have it. */
function putMembers(
  put: Put,
  state: VpcState,
  groupIds: ReadonlySet<string>,
  carried: ReadonlySet<string>,
): void {
  for (const id of groupIds) put({ kind: 'set', name: membersSet(id) });
  for (const eni of Object.values(state.networkInterfaces)) {
    const named = eni.groupIds.filter((id) => groupIds.has(id));
    if (named.length === 0 || !carried.has(eni.vpcId)) continue;
    for (const ip of addressesOf(eni)) {
      for (const id of named)
        put({ kind: 'element', family: 'inet', set: membersSet(id), key: [{ ip }], data: null });
    }
  }
}

function putPublic(put: Put, state: VpcState, carried: ReadonlySet<string>): void {
  const seen = new Set<string>();
  for (const { publicIp, privateIp, eniId } of publicPairs(state)) {
    const eni = state.networkInterfaces[eniId];
    // 1:1 both ways: of two public addresses for one private the first counts.
    if (!eni || !carried.has(eni.vpcId) || seen.has(formatIp(privateIp))) continue;
    seen.add(formatIp(privateIp));
    const [outer, inner] = [{ ip: publicIp }, { ip: privateIp }];
    put({ kind: 'public-route', ip: publicIp });
    put({ kind: 'element', family: 'inet', set: 'public', key: [inner], data: null });
    put({ kind: 'element', family: 'inet', set: 'public_to_private', key: [outer], data: inner });
    put({ kind: 'element', family: 'inet', set: 'private_to_public', key: [inner], data: outer });
  }
}
