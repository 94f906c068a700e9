// Route tables, their routes and their associations with subnets. The local routes of the VPC's CIDRs are always there.
// A route whose target is gone stays, as a black hole. Fails with RouteAlreadyExists, InvalidRoute.NotFound,
// Resource.AlreadyAssociated, DependencyViolation.
import type * as ec2 from '@aws-sdk/client-ec2';
import { cidrCovers, formatCidr, parseCidr } from '../../../base/ip.ts';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { Ec2Error, invalidValue, oneWay, required } from '../errors.ts';
import { ipv6CidrsOf, NAT64 } from '../ipv6.ts';
import type { Route, RouteTable, RouteTarget, VpcState } from '../model.ts';
import { whyNoRoute } from '../reserved.ts';
import { absent, select } from '../select.ts';
import { interfacesOf } from './attachments.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

/** `active`, or `blackhole` when the target cannot take packets. */
export function routeState(state: VpcState, vpcId: string, target: RouteTarget): 'active' | 'blackhole' {
  switch (target.kind) {
    case 'local':
      return 'active';
    case 'internet-gateway':
      return state.internetGateways[target.id]?.vpcId === vpcId ? 'active' : 'blackhole';
    case 'egress-only-internet-gateway':
      return state.egressOnlyInternetGateways[target.id]?.vpcId === vpcId ? 'active' : 'blackhole';
    case 'nat-gateway':
      return state.natGateways[target.id]?.state === 'available' ? 'active' : 'blackhole';
    case 'network-interface': {
      const attachment = state.networkInterfaces[target.id]?.attachment;
      return attachment && state.instances[attachment.instanceId]?.state === 'running'
        ? 'active'
        : 'blackhole';
    }
  }
}

const isIpv6 = (destination: string): boolean => destination.includes(':');

function routeAnswer(state: VpcState, table: RouteTable, route: Route): ec2.Route {
  const { target } = route;
  const answer: ec2.Route = {
    ...(isIpv6(route.destination)
      ? { DestinationIpv6CidrBlock: route.destination }
      : { DestinationCidrBlock: route.destination }),
    State: routeState(state, table.vpcId, target),
    Origin: target.kind === 'local' ? 'CreateRouteTable' : 'CreateRoute',
  };
  if (target.kind === 'local') return { ...answer, GatewayId: 'local' };
  if (target.kind === 'internet-gateway') return { ...answer, GatewayId: target.id };
  if (target.kind === 'egress-only-internet-gateway')
    return { ...answer, EgressOnlyInternetGatewayId: target.id };
  if (target.kind === 'nat-gateway') return { ...answer, NatGatewayId: target.id };
  const attachment = state.networkInterfaces[target.id]?.attachment;
  return {
    ...answer,
    NetworkInterfaceId: target.id,
    ...(attachment ? { InstanceId: attachment.instanceId, InstanceOwnerId: state.accountId } : {}),
  };
}

const tableAnswer = (state: VpcState, table: RouteTable): ec2.RouteTable => ({
  RouteTableId: table.id,
  VpcId: table.vpcId,
  OwnerId: state.accountId,
  Routes: table.routes.map((route) => routeAnswer(state, table, route)),
  Associations: table.associations.map((association) => ({
    RouteTableAssociationId: association.id,
    RouteTableId: table.id,
    Main: association.main,
    ...(association.subnetId === undefined ? {} : { SubnetId: association.subnetId }),
    AssociationState: { State: 'associated' },
  })),
  PropagatingVgws: [],
  Tags: tagList(table.tags),
});

type RouteRequest = ec2.CreateRouteRequest & ec2.ReplaceRouteRequest;

type Destination = Pick<ec2.CreateRouteRequest, 'DestinationCidrBlock' | 'DestinationIpv6CidrBlock'>;

/** The destination in canonical text, of the family that its parameter says. */
function readDestination(input: Destination): string {
  oneWay(input, 'DestinationCidrBlock', 'DestinationIpv6CidrBlock');
  const six = input.DestinationIpv6CidrBlock !== undefined;
  const name = six ? 'destinationIpv6CidrBlock' : 'destinationCidrBlock';
  const text = six ? input.DestinationIpv6CidrBlock : input.DestinationCidrBlock;
  try {
    const cidr = parseCidr(required(text, name), { mask: true });
    if (typeof cidr.ip !== (six ? 'bigint' : 'number')) throw new Error('the other family');
    return formatCidr(cidr);
  } catch (error) {
    if (error instanceof Ec2Error) throw error;
    throw invalidValue(`Value (${text}) for parameter ${name} is invalid. This is not a valid CIDR block.`);
  }
}

function readTarget(ctx: Context, table: RouteTable, input: RouteRequest): RouteTarget {
  const given = [
    input.GatewayId,
    input.NetworkInterfaceId,
    input.InstanceId,
    input.EgressOnlyInternetGatewayId,
    input.NatGatewayId,
  ].filter((id) => id !== undefined);
  if (given.length !== 1)
    throw new Ec2Error(
      'InvalidParameterCombination',
      'The request must contain exactly one target of the route',
    );
  if (input.EgressOnlyInternetGatewayId !== undefined) {
    if (input.DestinationIpv6CidrBlock === undefined)
      throw invalidValue('An egress-only internet gateway is a target of IPv6 routes alone.');
    const gateway = need(ctx, 'egressOnlyInternetGateways', input.EgressOnlyInternetGatewayId);
    if (gateway.vpcId !== table.vpcId)
      throw invalidValue(
        `route table ${table.id} and network gateway ${gateway.id} belong to different networks`,
      );
    return { kind: 'egress-only-internet-gateway', id: gateway.id };
  }
  if (input.NatGatewayId !== undefined) {
    const gateway = natGatewayById(ctx, input.NatGatewayId);
    if (gateway.vpcId !== table.vpcId)
      throw invalidValue(
        `route table ${table.id} and NAT gateway ${gateway.id} belong to different networks`,
      );
    return { kind: 'nat-gateway', id: gateway.id };
  }
  if (input.GatewayId !== undefined) {
    if (input.GatewayId === 'local' && input.LocalTarget !== false) return { kind: 'local' };
    const gateway = ctx.draft.state.internetGateways[input.GatewayId];
    if (!gateway)
      throw new Ec2Error('InvalidGatewayID.NotFound', `The gateway ID '${input.GatewayId}' does not exist`);
    if (gateway.vpcId !== table.vpcId) {
      throw invalidValue(
        `route table ${table.id} and network gateway ${gateway.id} belong to different networks`,
      );
    }
    return { kind: 'internet-gateway', id: gateway.id };
  }
  const eni =
    input.NetworkInterfaceId !== undefined
      ? need(ctx, 'networkInterfaces', input.NetworkInterfaceId)
      : onlyInterface(ctx, input.InstanceId!);
  if (eni.vpcId !== table.vpcId)
    throw invalidValue(`route table ${table.id} and interface ${eni.id} belong to different networks`);
  return { kind: 'network-interface', id: eni.id };
}

/** Routes speak of a NAT gateway that is not there, or no more, in words of their own. */
function natGatewayById(ctx: Context, id: string) {
  const gateway = ctx.draft.state.natGateways[id];
  if (gateway && gateway.state !== 'deleted') return gateway;
  throw new Ec2Error('InvalidNatGatewayID.NotFound', `The natGateway ID '${id}' does not exist`);
}

function onlyInterface(ctx: Context, instanceId: string) {
  const instance = need(ctx, 'instances', instanceId);
  const enis = interfacesOf(ctx.draft.state, instance.id);
  if (enis.length !== 1) {
    throw new Ec2Error(
      'InvalidInstanceID',
      `There are ${enis.length} interfaces attached to instance '${instance.id}'. Please specify an interface ID for the operation instead.`,
    );
  }
  return enis[0]!;
}

const notLocal = (destination: string): Ec2Error =>
  invalidValue(`A local target is only for a CIDR of the VPC, not ${destination}`);

/** Amazon VPC User Guide, "Route tables": what no route may lead elsewhere. */
function checkRoute(ctx: Context, table: RouteTable, destination: string, target: RouteTarget): void {
  const block = parseCidr(destination);
  const cidrs = ownCidrs(ctx.draft.state, table.vpcId).map((cidr) => parseCidr(cidr));
  if (target.kind === 'nat-gateway' && typeof block.ip === 'bigint' && !cidrCovers(NAT64, block))
    throw new Ec2Error(
      'UnsupportedOperation',
      `An IPv6 route to a NAT gateway has no meaning in this VPC but within ${formatCidr(NAT64)}, not ${destination}.`,
    );
  const byGateway = target.kind === 'internet-gateway' || target.kind === 'egress-only-internet-gateway';
  const why = whyNoRoute(block, cidrs, byGateway);
  if (why !== undefined)
    throw invalidValue(
      `Value (${destination}) for parameter ${isIpv6(destination) ? 'destinationIpv6CidrBlock' : 'destinationCidrBlock'} is invalid: ${why}.`,
    );
}

/** All blocks of a VPC, of both families. */
const ownCidrs = (state: VpcState, vpcId: string): string[] => [
  ...(state.vpcs[vpcId]?.cidrs ?? []).map((block) => block.cidr),
  ...ipv6CidrsOf(state.vpcs[vpcId]),
];

const isLocalOfVpc = (ctx: Context, table: RouteTable, destination: string): boolean =>
  ownCidrs(ctx.draft.state, table.vpcId).includes(destination);

function associationById(
  ctx: Context,
  id: string,
): { table: RouteTable; association: RouteTable['associations'][number] } {
  for (const table of Object.values(ctx.draft.state.routeTables)) {
    const association = table.associations.find((a) => a.id === id);
    if (association) return { table, association };
  }
  throw new Ec2Error('InvalidAssociationID.NotFound', `The association ID '${id}' does not exist`);
}

const setAssociations = (
  ctx: Context,
  table: RouteTable,
  change: (a: RouteTable['associations']) => RouteTable['associations'],
): void => ctx.draft.put('routeTables', table.id, { ...table, associations: change(table.associations) });

export const routeActions: Meanings<
  | 'CreateRouteTable'
  | 'DescribeRouteTables'
  | 'DeleteRouteTable'
  | 'CreateRoute'
  | 'ReplaceRoute'
  | 'DeleteRoute'
  | 'AssociateRouteTable'
  | 'DisassociateRouteTable'
  | 'ReplaceRouteTableAssociation'
> = {
  CreateRouteTable: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    const table: RouteTable = {
      id: newId(ctx, 'rtb'),
      vpcId: vpc.id,
      routes: ownCidrs(ctx.draft.state, vpc.id).map((destination) => ({
        destination,
        target: { kind: 'local' },
      })),
      associations: [],
      tags: tagsOnCreate(input.TagSpecifications, 'route-table'),
    };
    ctx.draft.put('routeTables', table.id, table);
    return {
      RouteTable: tableAnswer(ctx.draft.state, table),
      ...(input.ClientToken === undefined ? {} : { ClientToken: input.ClientToken }),
    };
  },

  DescribeRouteTables: (ctx, input) => {
    const { state } = ctx.draft;
    const { items, nextToken } = select<RouteTable>(
      {
        items: Object.values(state.routeTables),
        idOf: (table) => table.id,
        tagsOf: (table) => table.tags,
        words: wordsOf('routeTables'),
        maxPage: 100,
        filters: {
          'route-table-id': (table) => table.id,
          'vpc-id': (table) => table.vpcId,
          'owner-id': () => state.accountId,
          'association.main': (table) => table.associations.map((a) => a.main),
          'association.subnet-id': (table) => table.associations.map((a) => a.subnetId),
          'association.route-table-association-id': (table) => table.associations.map((a) => a.id),
          'association.route-table-id': (table) => (table.associations.length ? table.id : undefined),
          'route.destination-cidr-block': (table) =>
            table.routes.map((r) => routeAnswer(state, table, r).DestinationCidrBlock),
          'route.destination-ipv6-cidr-block': (table) =>
            table.routes.map((r) => routeAnswer(state, table, r).DestinationIpv6CidrBlock),
          'route.gateway-id': (table) => table.routes.map((r) => routeAnswer(state, table, r).GatewayId),
          'route.egress-only-internet-gateway-id': (table) =>
            table.routes.map((r) => routeAnswer(state, table, r).EgressOnlyInternetGatewayId),
          'route.nat-gateway-id': (table) =>
            table.routes.map((r) => routeAnswer(state, table, r).NatGatewayId),
          'route.instance-id': (table) => table.routes.map((r) => routeAnswer(state, table, r).InstanceId),
          'route.origin': (table) => table.routes.map((r) => routeAnswer(state, table, r).Origin),
          'route.state': (table) => table.routes.map((r) => routeAnswer(state, table, r).State),
          ...absent(
            'association.gateway-id',
            'route.destination-prefix-list-id',
            'route.transit-gateway-id',
            'route.vpc-peering-connection-id',
          ),
        },
      },
      { ...input, ids: input.RouteTableIds },
    );
    return {
      RouteTables: items.map((t) => tableAnswer(state, t)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteRouteTable: (ctx, input) => {
    const table = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    if (table.associations.length > 0) {
      throw new Ec2Error(
        'DependencyViolation',
        `The routeTable '${table.id}' has dependencies and cannot be deleted.`,
      );
    }
    ctx.draft.remove('routeTables', table.id);
    return {};
  },

  CreateRoute: (ctx, input) => {
    const table = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    const destination = readDestination(input);
    const target = readTarget(ctx, table, input as RouteRequest);
    const there = table.routes.find((route) => route.destination === destination);
    if (there) {
      const same = JSON.stringify(there.target) === JSON.stringify(target);
      // The same route again is no error to EC2.
      if (same) return { Return: true };
      throw new Ec2Error('RouteAlreadyExists', `The route identified by ${destination} already exists.`);
    }
    if (target.kind === 'local') throw notLocal(destination);
    checkRoute(ctx, table, destination, target);
    ctx.draft.put('routeTables', table.id, { ...table, routes: [...table.routes, { destination, target }] });
    return { Return: true };
  },

  ReplaceRoute: (ctx, input) => {
    const table = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    const destination = readDestination(input);
    for (const other of [
      'GatewayId',
      'NetworkInterfaceId',
      'InstanceId',
      'EgressOnlyInternetGatewayId',
      'NatGatewayId',
    ] as const)
      oneWay(input, 'LocalTarget', other);
    const target: RouteTarget = input.LocalTarget
      ? { kind: 'local' }
      : readTarget(ctx, table, input as RouteRequest);
    if (!table.routes.some((route) => route.destination === destination)) {
      throw invalidValue(
        `There is no route defined for '${destination}' in the route table. Use CreateRoute instead.`,
      );
    }
    if (target.kind === 'local' && !isLocalOfVpc(ctx, table, destination)) {
      throw notLocal(destination);
    }
    checkRoute(ctx, table, destination, target);
    const routes = table.routes.map((route) =>
      route.destination === destination ? { destination, target } : route,
    );
    ctx.draft.put('routeTables', table.id, { ...table, routes });
    return {};
  },

  DeleteRoute: (ctx, input) => {
    const table = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    const destination = readDestination(input);
    const route = table.routes.find((r) => r.destination === destination);
    if (!route) {
      throw new Ec2Error(
        'InvalidRoute.NotFound',
        `no route with destination-${isIpv6(destination) ? 'ipv6-' : ''}cidr-block ${destination} in route table ${table.id}`,
      );
    }
    if (isLocalOfVpc(ctx, table, destination)) {
      throw invalidValue(`cannot remove local route ${destination} in route table ${table.id}`);
    }
    ctx.draft.put('routeTables', table.id, { ...table, routes: table.routes.filter((r) => r !== route) });
    return {};
  },

  AssociateRouteTable: (ctx, input) => {
    const table = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    if (subnet.vpcId !== table.vpcId) {
      throw invalidValue(`Route table ${table.id} and subnet ${subnet.id} belong to different networks`);
    }
    for (const other of Object.values(ctx.draft.state.routeTables)) {
      const there = other.associations.find((a) => a.subnetId === subnet.id);
      if (!there) continue;
      if (other.id === table.id)
        return { AssociationId: there.id, AssociationState: { State: 'associated' } };
      throw new Ec2Error(
        'Resource.AlreadyAssociated',
        `the specified association for route table ${table.id} conflicts with an existing association`,
      );
    }
    const id = newId(ctx, 'rtbassoc');
    setAssociations(ctx, table, (all) => [...all, { id, subnetId: subnet.id, main: false }]);
    return { AssociationId: id, AssociationState: { State: 'associated' } };
  },

  DisassociateRouteTable: (ctx, input) => {
    const { table, association } = associationById(ctx, required(input.AssociationId, 'associationId'));
    if (association.main) {
      throw invalidValue(`cannot disassociate the main route table association ${association.id}`);
    }
    setAssociations(ctx, table, (all) => all.filter((a) => a !== association));
    return {};
  },

  ReplaceRouteTableAssociation: (ctx, input) => {
    const { table, association } = associationById(ctx, required(input.AssociationId, 'associationId'));
    const target = need(ctx, 'routeTables', required(input.RouteTableId, 'routeTableId'));
    if (target.vpcId !== table.vpcId)
      throw invalidValue(`Route tables ${table.id} and ${target.id} belong to different networks`);
    const id = newId(ctx, 'rtbassoc');
    setAssociations(ctx, table, (all) => all.filter((a) => a !== association));
    setAssociations(ctx, need(ctx, 'routeTables', target.id), (all) => [...all, { ...association, id }]);
    return { NewAssociationId: id, AssociationState: { State: 'associated' } };
  },
};
