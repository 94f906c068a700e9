// What a lab.yaml may say, and what its parts must agree on: names are unique and defined, subnets lie in a CIDR of
// their VPC and overlap nobody, targets of routes exist. Returns a Shape or throws LabError BAD_SHAPE with the line.
import { isDeepStrictEqual } from 'node:util';
import { type Cidr, cidrCovers, cidrsOverlap, formatCidr, parseCidr } from '../../base/ip.ts';
import { NAT64 } from '../vpc/ipv6.ts';
import { whyNoRoute, whyNotBeside, whyNoVpc } from '../vpc/reserved.ts';
import { readEniConfigs } from './eni-configs.ts';
import { readDemo, readGroupPolicies } from './group-policies.ts';
import { checkSetting, type SettingTexts } from './settings.ts';
import {
  DEFAULT_TYPE,
  EGRESS_ONLY,
  GATEWAYS,
  hasIpv6,
  type InstanceShape,
  type InstanceTypeShape,
  MAX_NODES,
  type NatGatewayShape,
  type RouteTableShape,
  type RuleShape,
  type SecurityGroupShape,
  type Shape,
  type SubnetShape,
  type VpcShape,
} from './shape.ts';
import { instanceTypeExists } from './types.ts';
import { type Reader, readYaml } from './yaml.ts';
import { readFaults } from './yaml-faults.ts';
import { checkRoom, inRegion, MAX_LIST, NAME, readCidr, readSubnet, unique } from './yaml-subnets.ts';

// Bounds: a shape is one machine's.
const MAX_VPCS = 5;
const MAX_SUBNETS = 40;
const MAX_ENIS = 100;
const MAX_ADDRESSES = 250;
const MAX_PORT = 65_535;
const REGION = { pattern: /^[a-z]{2}(-[a-z]+)+-\d$/, says: 'not a region, as us-west-2' };
const TYPE = { pattern: /^[a-z0-9-]+\.[a-z0-9-]+$/, says: 'not an instance type, as m5.large' };
const VPC_KEYS = ['name', 'cidrs', 'subnets', 'routeTables', 'natGateways', 'securityGroups'] as const;
const RESERVED = ['vpc', 'internet', EGRESS_ONLY, 'pod'];

export function parseLabYaml(text: string, file: string): Shape {
  const whole = readYaml(text, file);
  if (whole.absent) throw whole.fail('the file is empty: a lab has at least one VPC');
  const top = whole.map([
    'region',
    'zones',
    'vpcs',
    'instances',
    'instanceTypes',
    'settings',
    'eniConfigs',
    'securityGroupPolicies',
    'demo',
    'faults',
    'throttle',
  ]);
  const region = top.region.textOr('us-west-2', REGION);
  const zones = top.zones.list(MAX_LIST).map((zone) => inRegion(zone, region));
  const taken: Cidr[] = [];
  const vpcs = top.vpcs.list(MAX_VPCS).map((vpc) => readVpc(vpc, region, taken));
  if (vpcs.length === 0) throw top.vpcs.fail('is missing: a lab has at least one VPC');
  unique(
    top.vpcs,
    vpcs.map((vpc) => vpc.name),
    'VPC',
  );
  unique(
    top.vpcs,
    vpcs.flatMap((vpc) => vpc.subnets.map((subnet) => subnet.name)),
    'subnet',
  );
  for (const subnet of vpcs.flatMap((vpc) => vpc.subnets))
    if (!zones.includes(subnet.zone)) zones.push(subnet.zone);
  const instances = top.instances.list(MAX_NODES).map((instance) => readInstance(instance, vpcs));
  unique(
    top.instances,
    instances.map((instance) => instance.name),
    'instance',
  );
  checkRouteTargets(top.vpcs, vpcs, instances);
  checkRoom(top.instances, vpcs, instances);
  const types = top.instanceTypes.absent ? {} : { instanceTypes: readInstanceTypes(top.instanceTypes) };
  const names = instances.map((instance) => instance.name);
  const settings = readSettingTexts(top.settings);
  checkFamilies(top.vpcs, vpcs, settings);
  return {
    region,
    zones: zones.sort(),
    ...types,
    vpcs,
    instances,
    settings,
    ...readEniConfigs(top.eniConfigs, vpcs),
    ...readGroupPolicies(top.securityGroupPolicies, vpcs),
    ...readDemo(top.demo, vpcs, instances),
    ...readFaults(top.faults, top.throttle, names),
  };
}

/** What is of IPv6 needs a lab that has it. */
function checkFamilies(reader: Reader, vpcs: VpcShape[], settings: SettingTexts): void {
  if (hasIpv6(settings)) return;
  const native = vpcs.flatMap((vpc) => vpc.subnets).find((subnet) => subnet.ipv6Native);
  const route = vpcs
    .flatMap((vpc) => vpc.routeTables)
    .flatMap((table) => table.routes)
    .find(({ to }) => to.includes(':'));
  const dns64 = vpcs.flatMap((vpc) => vpc.subnets).find((subnet) => subnet.dns64);
  const what = native
    ? `the IPv6-only subnet ${native.name}`
    : route
      ? `the route to ${route.to}`
      : dns64
        ? `DNS64 of ${dns64.name}`
        : undefined;
  if (what !== undefined) throw reader.fail(`have ${what}, which needs settings: families: dual or ipv6`);
}

/** Numbers by which the lab's EC2 differs from the table of types. */
function readInstanceTypes(reader: Reader): Record<string, InstanceTypeShape> {
  const read: Record<string, InstanceTypeShape> = {};
  for (const [type, value] of reader.entries()) {
    if (!instanceTypeExists(type)) throw value.fail('is no instance type');
    const keys = value.map(['enis', 'ipv4PerEni']);
    if (keys.enis.absent && keys.ipv4PerEni.absent) throw value.fail('has neither enis nor ipv4PerEni');
    read[type] = {
      ...(keys.enis.absent ? {} : { enis: readCount(keys.enis, 1, MAX_ENIS) }),
      ...(keys.ipv4PerEni.absent ? {} : { ipv4PerEni: readCount(keys.ipv4PerEni, 1, MAX_ADDRESSES) }),
    };
  }
  return read;
}

function readCount(reader: Reader, min: number, max: number): number {
  const text = reader.text();
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw reader.fail(`is "${text}", not a whole number from ${min} to ${max}`);
  return value;
}

function readVpc(reader: Reader, region: string, taken: Cidr[]): VpcShape {
  const keys = reader.map(VPC_KEYS);
  const cidrs = keys.cidrs.list(5).map((cidr) => readCidr(cidr, 16, 28));
  if (cidrs.length === 0) throw keys.cidrs.fail('is missing: a VPC has at least one CIDR');
  for (const [index, cidr] of cidrs.entries()) {
    const why = whyNoVpc(cidr);
    if (why !== undefined)
      throw keys.cidrs.list(5)[index]!.fail(`is ${formatCidr(cidr)}, which no VPC can have: ${why}`);
    const unfit = whyNotBeside(cidrs.slice(0, index), cidr);
    if (unfit !== undefined)
      throw keys.cidrs.list(5)[index]!.fail(`is ${formatCidr(cidr)}, which this VPC cannot have: ${unfit}`);
    const other = taken.find((each) => cidrsOverlap(each, cidr));
    if (other)
      throw keys.cidrs.list(5)[index]!.fail(`is ${formatCidr(cidr)}, which overlaps ${formatCidr(other)}`);
    taken.push(cidr);
  }
  const routeTables = keys.routeTables.list(MAX_LIST).map((table) => readRouteTable(table, cidrs));
  unique(
    keys.routeTables,
    routeTables.map((table) => table.name),
    'route table',
  );
  const subnets: SubnetShape[] = [];
  for (const subnet of keys.subnets.list(MAX_SUBNETS))
    subnets.push(readSubnet(subnet, region, cidrs, subnets, routeTables));
  if (subnets.length === 0) throw keys.subnets.fail('is missing: a VPC has at least one subnet');
  const natGateways = keys.natGateways.list(MAX_LIST).map((gateway) => readNatGateway(gateway, subnets));
  unique(
    keys.natGateways,
    natGateways.map((gateway) => gateway.name),
    'NAT gateway',
  );
  const groupNames = keys.securityGroups
    .list(MAX_LIST)
    .map((group) => group.map(['name', 'ingress', 'egress']).name.text(NAME));
  unique(keys.securityGroups, groupNames, 'security group');
  const securityGroups = keys.securityGroups.list(MAX_LIST).map((group) => readGroup(group, groupNames));
  return {
    name: keys.name.textOr('vpc', NAME),
    cidrs: cidrs.map(formatCidr),
    subnets,
    routeTables,
    ...(natGateways.length ? { natGateways } : {}),
    securityGroups,
  };
}

function readNatGateway(reader: Reader, subnets: SubnetShape[]): NatGatewayShape {
  const keys = reader.map(['name', 'subnet', 'private']);
  const subnet = keys.subnet.text(NAME);
  const there = subnets.find((each) => each.name === subnet);
  if (there === undefined) throw keys.subnet.fail(`is "${subnet}", which this VPC does not have`);
  if (there.ipv6Native)
    throw keys.subnet.fail(`is "${subnet}", an IPv6-only subnet: a NAT gateway has an IPv4 address`);
  const name = keys.name.text(NAME);
  if (GATEWAYS.includes(name)) throw keys.name.fail(`is "${name}", which routes mean something else by`);
  return { name, subnet, ...(keys.private.flag(false) ? { private: true } : {}) };
}

/** A destination of either family. */
function readBlock(reader: Reader): Cidr {
  const text = reader.text();
  if (!text.includes(':')) return readCidr(reader, 0, 32);
  try {
    return parseCidr(text);
  } catch (error) {
    throw reader.fail(`is "${text}": ${(error as Error).message}`);
  }
}

function readRouteTable(reader: Reader, cidrs: Cidr[]): RouteTableShape {
  const keys = reader.map(['name', 'routes']);
  const routes: RouteTableShape['routes'] = [];
  for (const route of keys.routes.list(MAX_LIST)) {
    const { to, via } = route.map(['to', 'via']);
    const block = readBlock(to);
    const read = { to: formatCidr(block), via: via.text(NAME) };
    if (read.via === EGRESS_ONLY && typeof block.ip === 'number')
      throw to.fail(`is ${read.to}, and only IPv6 leads by an egress-only gateway`);
    const why = whyNoRoute(block, cidrs, read.via === 'internet');
    if (why !== undefined) throw to.fail(`is ${read.to}, where no route leads: ${why}`);
    if (cidrs.some((cidr) => formatCidr(cidr) === read.to))
      throw to.fail(`is ${read.to}, a CIDR of the VPC: its local route is always there`);
    if (routes.some((other) => other.to === read.to))
      throw to.fail(`is ${read.to}, which has a route already`);
    routes.push(read);
  }
  return { name: keys.name.text(NAME), routes };
}

function checkRouteTargets(reader: Reader, vpcs: VpcShape[], instances: InstanceShape[]): void {
  for (const [index, vpc] of vpcs.entries()) {
    for (const [number, table] of vpc.routeTables.entries()) {
      for (const [position, route] of table.routes.entries()) {
        const byNat = vpc.natGateways?.some((gateway) => gateway.name === route.via) ?? false;
        const isNoNat64 = route.to.includes(':') && !cidrCovers(NAT64, parseCidr(route.to));
        const isKnown =
          byNat || GATEWAYS.includes(route.via) || instances.some((instance) => instance.name === route.via);
        if (isKnown && !(byNat && isNoNat64)) continue;
        const tables = reader.list(MAX_VPCS)[index]!.map(VPC_KEYS).routeTables;
        const routes = tables.list(MAX_LIST)[number]!.map(['name', 'routes']).routes.list(MAX_LIST);
        const keys = routes[position]!.map(['to', 'via']);
        if (byNat)
          throw keys.to.fail(
            `is ${route.to}, and IPv6 leads to a NAT gateway within ${formatCidr(NAT64)} alone`,
          );
        throw keys.via.fail(
          `is "${route.via}", neither internet nor an instance, nor a NAT gateway of the VPC, and not ${EGRESS_ONLY}`,
        );
      }
    }
  }
}

function readGroup(reader: Reader, groups: string[]): SecurityGroupShape {
  const keys = reader.map(['name', 'ingress', 'egress']);
  const ingress = readRules(keys.ingress, 'from', groups);
  const egress = keys.egress.absent
    ? [{ protocol: 'all' as const, peer: '0.0.0.0/0' }]
    : readRules(keys.egress, 'to', groups);
  return { name: keys.name.text(NAME), ingress, egress };
}

function readRules(reader: Reader, side: 'from' | 'to', groups: string[]): RuleShape[] {
  const rules: RuleShape[] = [];
  for (const each of reader.list(MAX_LIST)) {
    const rule = readRule(each, side, groups);
    if (rules.some((other) => isDeepStrictEqual(other, rule)))
      throw each.fail('says what a rule before it says');
    rules.push(rule);
  }
  return rules;
}

function readRule(reader: Reader, side: 'from' | 'to', groups: string[]): RuleShape {
  const keys = reader.map([side, 'protocol', 'ports']);
  const protocol = keys.protocol.oneOf(['all', 'tcp', 'udp', 'icmp', 'icmpv6'], 'all');
  const peerText = keys[side].text();
  const peer = groups.includes(peerText)
    ? peerText
    : peerText.includes('/')
      ? formatCidr(readBlock(keys[side]))
      : undefined;
  if (peer === undefined)
    throw keys[side].fail(`is "${peerText}", neither a CIDR nor a security group of this VPC`);
  if (keys.ports.absent) return { protocol, peer };
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw keys.ports.fail(`are given for protocol ${protocol}, only tcp and udp have ports`);
  const ports = keys.ports.text({
    pattern: /^\d{1,5}(-\d{1,5})?$/,
    says: 'not a port or a range, as 80 or 8000-8100',
  });
  const [from, to] = ports.split('-').map(Number) as [number, number | undefined];
  if (from > 65535 || (to ?? from) > 65535 || (to ?? from) < from)
    throw keys.ports.fail(`is "${ports}", not within 0-65535 in order`);
  return { protocol, peer, fromPort: from, toPort: to ?? from };
}

function readInstance(reader: Reader, vpcs: VpcShape[]): InstanceShape {
  const keys = reader.map(['name', 'type', 'subnet', 'agent', 'publicAddress', 'securityGroups', 'serve']);
  const name = keys.name.text(NAME);
  if (RESERVED.includes(name) || name.startsWith('pod-'))
    throw keys.name.fail(`is "${name}", a name that the lab uses itself`);
  const subnet = keys.subnet.text(NAME);
  const vpc = vpcs.find((each) => each.subnets.some((other) => other.name === subnet));
  if (vpc === undefined) throw keys.subnet.fail(`is "${subnet}", which no VPC has`);
  const securityGroups = keys.securityGroups.list(5).map((group) => {
    const text = group.text(NAME);
    if (!vpc.securityGroups.some((other) => other.name === text))
      throw group.fail(`is "${text}", which VPC ${vpc.name} does not have`);
    return text;
  });
  const type = keys.type.textOr(DEFAULT_TYPE, TYPE);
  if (!instanceTypeExists(type)) throw keys.type.fail(`is "${type}", which is no instance type`);
  const agent = keys.agent.oneOf(['podway', 'none'] as const, 'podway');
  return {
    name,
    type,
    subnet,
    agent,
    publicAddress: keys.publicAddress.flag(agent === 'podway'),
    securityGroups,
    serve: readServe(keys.serve),
  };
}

/** True, or the port. */
function readServe(reader: Reader): boolean | number {
  return reader.absent || /^(true|false)$/.test(reader.text())
    ? reader.flag(false)
    : readCount(reader, 1, MAX_PORT);
}

function readSettingTexts(reader: Reader): SettingTexts {
  const texts: SettingTexts = {};
  for (const [key, value] of reader.entries()) {
    const text = key === 'excludeSnatCidrs' && !value.absent ? listText(value) : value.text();
    try {
      texts[checkSetting(key, text)] = text;
    } catch (error) {
      throw value.fail(`cannot be: ${(error as Error).message}`);
    }
  }
  return texts;
}

const listText = (reader: Reader): string => {
  try {
    return reader
      .list(MAX_LIST)
      .map((item) => item.text())
      .join(',');
  } catch {
    return reader.text();
  }
};
