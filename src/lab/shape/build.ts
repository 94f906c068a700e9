// Brings the VPC to a shape through EC2's own actions, as a user would: what is there by its Name tag is kept, what is
// missing is made, nothing is removed. Each step is safe to repeat, so an interrupted build goes on where it was.
import type * as ec2 from '@aws-sdk/client-ec2';
import { formatCidr, type Ipv6, parseCidr } from '../../base/ip.ts';
import type { Instance, SecurityGroup, Subnet, Vpc, VpcState } from '../vpc/model.ts';
import {
  EGRESS_ONLY,
  GATEWAYS,
  hasIpv6,
  type InstanceShape,
  type NatGatewayShape,
  type RuleShape,
  type SecurityGroupShape,
  type Shape,
  type SubnetShape,
  type VpcShape,
} from './shape.ts';

/** Calls an EC2 action in process, as the lab's administrator. */
export type Act = (action: string, input: Record<string, unknown>) => Promise<Record<string, unknown>>;

/** Tag of an instance that runs the pods' built-in server: `true`, or its port. EC2 has no field for it. */
export const SERVE_TAG = 'podway:serve';

type Deps = { act: Act; state: () => VpcState; progress: (text: string) => void };

export async function buildShape(shape: Shape, deps: Deps): Promise<void> {
  const groupIds = new Map<string, string>();
  for (const vpc of shape.vpcs) await buildVpc(vpc, deps, groupIds, hasIpv6(shape.settings));
  for (const instance of shape.instances) await buildInstance(shape, instance, deps, groupIds);
  for (const vpc of shape.vpcs) await buildRoutesByInstance(vpc, deps);
}

const named = <T extends { tags: Record<string, string> }>(
  rows: Record<string, T>,
  name: string,
  also: (row: T) => boolean = () => true,
) => Object.values(rows).find((row) => row.tags['Name'] === name && also(row));

const tagged = (type: string, name: string, more: Record<string, string> = {}) => [
  {
    ResourceType: type,
    Tags: Object.entries({ Name: name, ...more }).map(([Key, Value]) => ({ Key, Value })),
  },
];

async function buildVpc(
  vpc: VpcShape,
  deps: Deps,
  groupIds: Map<string, string>,
  ipv6: boolean,
): Promise<void> {
  const { act, state } = deps;
  if (!named(state().vpcs, vpc.name)) {
    deps.progress(`VPC ${vpc.name} ${vpc.cidrs.join(', ')}`);
    await act('CreateVpc', {
      CidrBlock: vpc.cidrs[0],
      ...(ipv6 ? { AmazonProvidedIpv6CidrBlock: true } : {}),
      TagSpecifications: tagged('vpc', vpc.name),
    });
  }
  const vpcId = named(state().vpcs, vpc.name)!.id;
  const associated = state().vpcs[vpcId]!.cidrs.map((each) => each.cidr);
  for (const cidr of vpc.cidrs)
    if (!associated.includes(cidr)) await act('AssociateVpcCidrBlock', { VpcId: vpcId, CidrBlock: cidr });

  let gateway = Object.values(state().internetGateways).find((each) => each.tags['Name'] === vpc.name);
  if (!gateway) {
    await act('CreateInternetGateway', { TagSpecifications: tagged('internet-gateway', vpc.name) });
    gateway = Object.values(state().internetGateways).find((each) => each.tags['Name'] === vpc.name)!;
  }
  if (gateway.vpcId !== vpcId)
    await act('AttachInternetGateway', { VpcId: vpcId, InternetGatewayId: gateway.id });

  for (const [index, subnet] of vpc.subnets.entries())
    await buildSubnet(subnet, vpcId, deps, ipv6 ? ipv6BlockOf(state().vpcs[vpcId]!, index) : undefined);
  const main = Object.values(state().routeTables).find(
    (table) => table.vpcId === vpcId && table.associations.some((each) => each.main),
  )!;
  // With tables of its own a VPC says what each subnet reaches; without, the main table leads to the internet.
  if (vpc.routeTables.length === 0) {
    for (const to of ipv6 ? ['0.0.0.0/0', '::/0'] : ['0.0.0.0/0'])
      await addRoute(deps, main.id, to, { GatewayId: gateway.id });
  }
  for (const gateway of vpc.natGateways ?? []) await buildNatGateway(gateway, vpcId, deps);
  for (const table of vpc.routeTables) {
    const ofName = () => named(state().routeTables, table.name, (row) => row.vpcId === vpcId);
    if (!ofName())
      await act('CreateRouteTable', { VpcId: vpcId, TagSpecifications: tagged('route-table', table.name) });
    for (const route of table.routes) {
      if (route.via === 'internet') await addRoute(deps, ofName()!.id, route.to, { GatewayId: gateway.id });
      if (vpc.natGateways?.some((each) => each.name === route.via))
        await addRoute(deps, ofName()!.id, route.to, {
          NatGatewayId: findNatGateway(state(), vpcId, route.via)!.id,
        });
      if (route.via === EGRESS_ONLY)
        await addRoute(deps, ofName()!.id, route.to, {
          EgressOnlyInternetGatewayId: await egressOnlyOf(vpc, vpcId, deps),
        });
    }
  }
  for (const subnet of vpc.subnets) {
    if (subnet.routeTable === undefined) continue;
    const table = named(state().routeTables, subnet.routeTable, (row) => row.vpcId === vpcId)!;
    const subnetId = findSubnet(state(), subnet.name)!.id;
    if (table.associations.some((each) => each.subnetId === subnetId)) continue;
    await act('AssociateRouteTable', { RouteTableId: table.id, SubnetId: subnetId });
  }
  await buildGroups(vpc, vpcId, deps, groupIds);
}

const findNatGateway = (state: VpcState, vpcId: string, name: string) =>
  named(state.natGateways, name, (row) => row.vpcId === vpcId && row.endedAt === undefined);

/** It may still be pending when the lab is built: its routes are there already. */
async function buildNatGateway(
  gateway: NatGatewayShape,
  vpcId: string,
  { act, state, progress }: Deps,
): Promise<void> {
  if (findNatGateway(state(), vpcId, gateway.name)) return;
  progress(`NAT gateway ${gateway.name}`);
  // An Elastic IP that an interrupted build left is taken up.
  const address = () =>
    Object.values(state().publicAddresses).find(
      (each) => each.tags['Name'] === gateway.name && each.allocationId && !each.associationId,
    );
  if (!gateway.private && !address())
    await act('AllocateAddress', { Domain: 'vpc', TagSpecifications: tagged('elastic-ip', gateway.name) });
  await act('CreateNatGateway', {
    SubnetId: findSubnet(state(), gateway.subnet)!.id,
    ...(gateway.private ? { ConnectivityType: 'private' } : { AllocationId: address()!.allocationId }),
    TagSpecifications: tagged('natgateway', gateway.name),
  });
}

async function egressOnlyOf(vpc: VpcShape, vpcId: string, { act, state }: Deps): Promise<string> {
  const there = () => Object.values(state().egressOnlyInternetGateways).find((each) => each.vpcId === vpcId);
  if (!there())
    await act('CreateEgressOnlyInternetGateway', {
      VpcId: vpcId,
      TagSpecifications: tagged('egress-only-internet-gateway', vpc.name),
    });
  return there()!.id;
}

/** The /64 of a VPC's subnet, by the subnet's place among them. */
function ipv6BlockOf(vpc: Vpc, index: number): string {
  const block = parseCidr(vpc.ipv6Cidrs![0]!.cidr);
  const ip = ((block.ip as bigint) + (BigInt(index + 1) << 64n)) as Ipv6;
  return formatCidr({ ip, length: 64 });
}

async function buildSubnet(
  subnet: SubnetShape,
  vpcId: string,
  { act, state }: Deps,
  ipv6Block: string | undefined,
): Promise<void> {
  if (!findSubnet(state(), subnet.name)) {
    await act('CreateSubnet', {
      VpcId: vpcId,
      ...(subnet.ipv6Native ? { Ipv6Native: true } : { CidrBlock: subnet.cidr }),
      ...(ipv6Block === undefined ? {} : { Ipv6CidrBlock: ipv6Block }),
      AvailabilityZone: subnet.zone,
      TagSpecifications: tagged('subnet', subnet.name, subnet.tags),
    });
  }
  if (subnet.dns64 && !findSubnet(state(), subnet.name)!.enableDns64)
    await act('ModifySubnetAttribute', {
      SubnetId: findSubnet(state(), subnet.name)!.id,
      EnableDns64: { Value: true },
    });
  const { id: SubnetId, tags } = findSubnet(state(), subnet.name)!;
  for (const { cidr, type } of subnet.reservations ?? []) {
    const rows = Object.values(state().subnetCidrReservations);
    if (rows.some((row) => row.subnetId === SubnetId && row.cidr === cidr)) continue;
    await act('CreateSubnetCidrReservation', { SubnetId, Cidr: cidr, ReservationType: type });
  }
  if (!subnet.held?.length || tags[HELD_TAG] === 'set') return;
  // Once: whoever gives these addresses back does not find them held again.
  const name = `${subnet.name}-held`;
  if (!named(state().networkInterfaces, name, (row) => row.subnetId === SubnetId)) {
    await act('CreateNetworkInterface', {
      SubnetId,
      Description: `addresses of ${subnet.name} that nobody uses`,
      PrivateIpAddresses: subnet.held.map((ip, i) => ({ PrivateIpAddress: ip, Primary: i === 0 })),
      TagSpecifications: tagged('network-interface', name),
    });
  }
  await act('CreateTags', { Resources: [SubnetId], Tags: [{ Key: HELD_TAG, Value: 'set' }] });
}

const HELD_TAG = 'podway:held';

async function addRoute(
  deps: Deps,
  tableId: string,
  to: string,
  target: Record<string, string>,
): Promise<void> {
  if (deps.state().routeTables[tableId]!.routes.some((route) => route.destination === to)) return;
  const destination = to.includes(':') ? { DestinationIpv6CidrBlock: to } : { DestinationCidrBlock: to };
  await deps.act('CreateRoute', { RouteTableId: tableId, ...destination, ...target });
}

async function buildRoutesByInstance(vpc: VpcShape, deps: Deps): Promise<void> {
  for (const table of vpc.routeTables) {
    for (const route of table.routes) {
      if (GATEWAYS.includes(route.via) || vpc.natGateways?.some((each) => each.name === route.via)) continue;
      const target = findInstance(deps.state(), route.via)!;
      const eni = Object.values(deps.state().networkInterfaces).find(
        (each) => each.attachment?.instanceId === target.id && each.attachment.deviceIndex === 0,
      )!;
      const row = named(deps.state().routeTables, table.name, (each) => each.vpcId === target.vpcId)!;
      await addRoute(deps, row.id, route.to, { NetworkInterfaceId: eni.id });
      // What forwards for others must be allowed to.
      if (eni.sourceDestCheck) {
        await deps.act('ModifyNetworkInterfaceAttribute', {
          NetworkInterfaceId: eni.id,
          SourceDestCheck: { Value: false },
        });
      }
    }
  }
}

async function buildGroups(
  vpc: VpcShape,
  vpcId: string,
  deps: Deps,
  groupIds: Map<string, string>,
): Promise<void> {
  const { act, state } = deps;
  const ofName = (name: string): SecurityGroup | undefined =>
    Object.values(state().securityGroups).find((each) => each.vpcId === vpcId && each.name === name);
  const fresh: SecurityGroupShape[] = [];
  for (const group of vpc.securityGroups) {
    if (!ofName(group.name)) {
      await act('CreateSecurityGroup', {
        VpcId: vpcId,
        GroupName: group.name,
        Description: `podway lab ${group.name}`,
        TagSpecifications: tagged('security-group', group.name),
      });
    }
    const row = ofName(group.name)!;
    groupIds.set(`${vpc.name}/${group.name}`, row.id);
    if (row.tags[RULES_TAG] !== 'set') fresh.push(group);
  }
  // Rules are set once, when the group is made, and never put back: they are the user's to change afterwards.
  for (const group of fresh) {
    const row = ofName(group.name)!;
    const has = (direction: string, rule: RuleShape) =>
      row.rules.some(
        (each) =>
          each.direction === direction && sameRule(each, rule, groupIds.get(`${vpc.name}/${rule.peer}`)),
      );
    const permission = (rule: RuleShape) => ipPermission(rule, groupIds.get(`${vpc.name}/${rule.peer}`));
    const ingress = group.ingress.filter((rule) => !has('ingress', rule)).map(permission);
    const egress = group.egress.filter((rule) => !has('egress', rule)).map(permission);
    if (ingress.length > 0)
      await act('AuthorizeSecurityGroupIngress', { GroupId: row.id, IpPermissions: ingress });
    if (egress.length > 0)
      await act('AuthorizeSecurityGroupEgress', { GroupId: row.id, IpPermissions: egress });
    // What EC2 lets out of a new group goes when the group lets out less; a group of IPv4 alone keeps both families.
    const isOut = (cidr: string) =>
      group.egress.some((rule) => rule.protocol === 'all' && rule.peer === cidr);
    for (const cidr of ['0.0.0.0/0', '::/0']) {
      const isThere = ofName(group.name)!.rules.some(
        (rule) =>
          rule.direction === 'egress' &&
          rule.protocol === '-1' &&
          rule.peer.kind === 'cidr' &&
          rule.peer.cidr === cidr,
      );
      if (!isThere || isOut(cidr) || isOut('0.0.0.0/0')) continue;
      await act('RevokeSecurityGroupEgress', {
        GroupId: row.id,
        IpPermissions: [{ IpProtocol: '-1', ...rangeOf(cidr) }],
      });
    }
    await act('CreateTags', { Resources: [row.id], Tags: [{ Key: RULES_TAG, Value: 'set' }] });
  }
}

const RULES_TAG = 'podway:rules';

const rangeOf = (cidr: string): ec2.IpPermission =>
  cidr.includes(':') ? { Ipv6Ranges: [{ CidrIpv6: cidr }] } : { IpRanges: [{ CidrIp: cidr }] };

function ipPermission(rule: RuleShape, groupId: string | undefined): ec2.IpPermission {
  const protocol = rule.protocol === 'all' ? '-1' : rule.protocol;
  const ports =
    rule.protocol === 'icmp' || rule.protocol === 'icmpv6'
      ? { FromPort: -1, ToPort: -1 }
      : rule.protocol === 'all'
        ? {}
        : { FromPort: rule.fromPort ?? 0, ToPort: rule.toPort ?? 65535 };
  const peer = groupId === undefined ? rangeOf(rule.peer) : { UserIdGroupPairs: [{ GroupId: groupId }] };
  return { IpProtocol: protocol, ...ports, ...peer };
}

function sameRule(
  row: SecurityGroup['rules'][number],
  rule: RuleShape,
  groupId: string | undefined,
): boolean {
  const protocol = rule.protocol === 'all' ? '-1' : rule.protocol;
  const peer = row.peer.kind === 'cidr' ? row.peer.cidr : row.peer.groupId;
  return (
    row.protocol === protocol &&
    peer === (groupId ?? rule.peer) &&
    (protocol === '-1' ||
      protocol === 'icmp' ||
      protocol === 'icmpv6' ||
      (row.fromPort === (rule.fromPort ?? 0) && row.toPort === (rule.toPort ?? 65535)))
  );
}

async function buildInstance(
  shape: Shape,
  instance: InstanceShape,
  deps: Deps,
  groupIds: Map<string, string>,
): Promise<void> {
  if (findInstance(deps.state(), instance.name)) return;
  deps.progress(`instance ${instance.name} (${instance.type})`);
  const vpc = shape.vpcs.find((each) => each.subnets.some((subnet) => subnet.name === instance.subnet))!;
  const ipv6 = hasIpv6(shape.settings);
  const subnet = findSubnet(deps.state(), instance.subnet)!;
  const groups = instance.securityGroups.map((name) => groupIds.get(`${vpc.name}/${name}`)!);
  await deps.act('RunInstances', {
    ImageId: 'ami-00000000000podway',
    InstanceType: instance.type,
    MinCount: 1,
    MaxCount: 1,
    MetadataOptions: {
      HttpTokens: 'required',
      HttpPutResponseHopLimit: 2,
      HttpEndpoint: 'enabled',
      ...(ipv6 ? { HttpProtocolIpv6: 'enabled' } : {}),
    },
    NetworkInterfaces: [
      {
        DeviceIndex: 0,
        SubnetId: subnet.id,
        ...(subnet.ipv6Native ? {} : { AssociatePublicIpAddress: instance.publicAddress }),
        ...(ipv6 ? { Ipv6AddressCount: 1 } : {}),
        DeleteOnTermination: true,
        ...(groups.length === 0 ? {} : { Groups: groups }),
      },
    ],
    TagSpecifications: tagged(
      'instance',
      instance.name,
      instance.serve ? { [SERVE_TAG]: String(instance.serve) } : {},
    ),
    // Not EC2's: whether the lab runs an agent there. Only callers in this process can say it.
    LabAgent: instance.agent,
  });
}

export const findSubnet = (state: VpcState, name: string): Subnet | undefined => named(state.subnets, name);
export const findInstance = (state: VpcState, name: string): Instance | undefined =>
  Object.values(state.instances).find(
    (each) => each.name === name && each.state !== 'terminated' && each.state !== 'shutting-down',
  );
