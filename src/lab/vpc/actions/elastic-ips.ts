// Public addresses: Elastic IPs, allocated and associated with one private address, and those that come with an
// instance and go when it stops. Fails with InvalidAllocationID.NotFound, Resource.AlreadyAssociated,
// InvalidIPAddress.InUse, Gateway.NotAttached, AddressLimitExceeded when the lab's public pool is used up.
import type * as ec2 from '@aws-sdk/client-ec2';
import { addToIp, cidrSize, formatIp } from '../../../base/ip.ts';
import { type Context, need, newId } from '../context.ts';
import { Ec2Error, invalidValue, missing, notFound, oneWay, required, resourceWords } from '../errors.ts';
import type { NetworkInterface, PublicAddress } from '../model.ts';
import { select } from '../select.ts';
import { interfacesOf, notOfEc2 } from './attachments.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

function takePublicIp(ctx: Context, wanted: string | undefined): string {
  const taken = ctx.draft.state.publicAddresses;
  const size = cidrSize(ctx.publicPool);
  for (let offset = 1; offset < size - 1; offset++) {
    const ip = formatIp(addToIp(ctx.publicPool.ip, offset));
    if (wanted !== undefined ? ip === wanted : true) {
      if (!Object.hasOwn(taken, ip)) return ip;
      if (wanted !== undefined)
        throw new Ec2Error('InvalidAddress.Locked', `Address ${wanted} is allocated already`);
    }
  }
  if (wanted !== undefined) throw new Ec2Error('InvalidAddress.NotFound', `Address '${wanted}' not found.`);
  throw new Ec2Error(
    'AddressLimitExceeded',
    `All ${size - 2} addresses of the lab's public pool are in use.`,
  );
}

function checkBorderGroup(ctx: Context, group: string | undefined): void {
  const { region } = ctx.draft.state;
  if (group !== undefined && group !== region) {
    throw invalidValue(`Invalid network border group: ${group} (the lab has ${region})`);
  }
}

/** A public address that comes with an instance, for the primary address of `eni`. */
export function givePublicIp(ctx: Context, eni: NetworkInterface): void {
  const publicIp = takePublicIp(ctx, undefined);
  const privateIp = eni.privateIps[0]!;
  ctx.draft.put('publicAddresses', publicIp, { publicIp, networkInterfaceId: eni.id, privateIp, tags: {} });
}

/** An Elastic IP loses its association; an address that came with the instance is gone. */
export function dissolve(ctx: Context, address: PublicAddress): void {
  if (address.allocationId === undefined) {
    ctx.draft.remove('publicAddresses', address.publicIp);
    return;
  }
  const { associationId: _a, networkInterfaceId: _n, privateIp: _p, ...kept } = address;
  ctx.draft.put('publicAddresses', address.publicIp, kept);
}

const onInterface = (ctx: Context, eniId: string): PublicAddress[] =>
  Object.values(ctx.draft.state.publicAddresses).filter((a) => a.networkInterfaceId === eniId);

/** Removes the associations of these private addresses of an interface. */
export function dropAssociations(ctx: Context, eniId: string, privateIps: readonly string[]): void {
  for (const address of onInterface(ctx, eniId)) {
    if (address.privateIp !== undefined && privateIps.includes(address.privateIp)) dissolve(ctx, address);
  }
}

/** Takes back the addresses that came with an instance, as a stop does. */
export function dropGivenPublicIps(ctx: Context, eniId: string): void {
  for (const address of onInterface(ctx, eniId))
    if (address.allocationId === undefined) dissolve(ctx, address);
}

/** A private address that moves to another interface takes its Elastic IP along. */
export function moveAssociation(ctx: Context, fromEni: string, privateIp: string, toEni: string): void {
  for (const address of onInterface(ctx, fromEni)) {
    if (address.privateIp === privateIp) {
      ctx.draft.put('publicAddresses', address.publicIp, { ...address, networkInterfaceId: toEni });
    }
  }
}

/** The Elastic IP of that allocation or address. */
export function allocated(
  ctx: Context,
  allocationId: string | undefined,
  publicIp: string | undefined,
): PublicAddress {
  oneWay({ allocationId, publicIp }, 'allocationId', 'publicIp');
  const all = Object.values(ctx.draft.state.publicAddresses).filter((a) => a.allocationId !== undefined);
  if (allocationId !== undefined) {
    const address = all.find((a) => a.allocationId === allocationId);
    if (!address) throw notFound(resourceWords.allocation, [allocationId]);
    return address;
  }
  if (publicIp === undefined) throw missing('AllocationId');
  const address = all.find((a) => a.publicIp === publicIp);
  if (!address) throw new Ec2Error('InvalidAddress.NotFound', `Address '${publicIp}' not found.`);
  return address;
}

/** What a NAT gateway has is taken from it by its deletion alone. */
function refuseNatGateways(ctx: Context, { networkInterfaceId }: PublicAddress): void {
  const eni =
    networkInterfaceId === undefined ? undefined : ctx.draft.state.networkInterfaces[networkInterfaceId];
  if (eni) notOfEc2(eni);
}

function targetInterface(ctx: Context, input: ec2.AssociateAddressRequest): NetworkInterface {
  oneWay(input, 'NetworkInterfaceId', 'InstanceId');
  if (input.NetworkInterfaceId !== undefined)
    return notOfEc2(need(ctx, 'networkInterfaces', input.NetworkInterfaceId));
  const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId or networkInterfaceId'));
  const enis = interfacesOf(ctx.draft.state, instance.id);
  if (enis.length === 0)
    throw new Ec2Error(
      'IncorrectInstanceState',
      `The instance '${instance.id}' is not in a valid state for this operation.`,
    );
  if (enis.length > 1 && input.PrivateIpAddress === undefined) {
    throw new Ec2Error(
      'InvalidInstanceID',
      `There are multiple interfaces attached to instance '${instance.id}'. Please specify an interface ID for the operation instead.`,
    );
  }
  return enis.find((eni) => eni.privateIps.includes(input.PrivateIpAddress ?? '')) ?? enis[0]!;
}

function addressAnswer(ctx: Context, address: PublicAddress): ec2.Address {
  const { state } = ctx.draft;
  const eni =
    address.networkInterfaceId === undefined
      ? undefined
      : state.networkInterfaces[address.networkInterfaceId];
  return {
    PublicIp: address.publicIp,
    AllocationId: address.allocationId,
    Domain: 'vpc',
    PublicIpv4Pool: 'amazon',
    NetworkBorderGroup: state.region,
    ...(address.associationId && eni
      ? {
          AssociationId: address.associationId,
          NetworkInterfaceId: eni.id,
          NetworkInterfaceOwnerId: state.accountId,
          PrivateIpAddress: address.privateIp,
          ...(eni.attachment ? { InstanceId: eni.attachment.instanceId } : {}),
        }
      : {}),
    Tags: tagList(address.tags),
  };
}

export const elasticIpActions: Meanings<
  'AllocateAddress' | 'DescribeAddresses' | 'AssociateAddress' | 'DisassociateAddress' | 'ReleaseAddress'
> = {
  AllocateAddress: (ctx, input) => {
    if (input.Domain !== undefined && input.Domain !== 'vpc')
      throw invalidValue(`Value (${input.Domain}) for parameter domain is invalid.`);
    checkBorderGroup(ctx, input.NetworkBorderGroup);
    const publicIp = takePublicIp(ctx, input.Address);
    const tags = tagsOnCreate(input.TagSpecifications, 'elastic-ip');
    const allocationId = newId(ctx, 'eipalloc');
    ctx.draft.put('publicAddresses', publicIp, { publicIp, allocationId, tags });
    return {
      PublicIp: publicIp,
      AllocationId: allocationId,
      Domain: 'vpc',
      PublicIpv4Pool: 'amazon',
      NetworkBorderGroup: ctx.draft.state.region,
    };
  },

  DescribeAddresses: (ctx, input) => {
    const { state } = ctx.draft;
    const eips = Object.values(state.publicAddresses).filter((a) => a.allocationId !== undefined);
    for (const ip of input.PublicIps ?? []) allocated(ctx, undefined, ip);
    const { items } = select<PublicAddress>(
      {
        items: input.PublicIps?.length ? eips.filter((a) => input.PublicIps?.includes(a.publicIp)) : eips,
        idOf: (address) => address.allocationId ?? '',
        tagsOf: (address) => address.tags,
        words: resourceWords.allocation,
        filters: {
          'allocation-id': (a) => a.allocationId,
          'association-id': (a) => a.associationId,
          'instance-id': (a) => addressAnswer(ctx, a).InstanceId,
          'network-interface-id': (a) => a.networkInterfaceId,
          'network-interface-owner-id': (a) => (a.networkInterfaceId ? state.accountId : undefined),
          'private-ip-address': (a) => a.privateIp,
          'public-ip': (a) => a.publicIp,
          domain: () => 'vpc',
          'network-border-group': () => state.region,
        },
      },
      { ids: input.AllocationIds, Filters: input.Filters },
    );
    return { Addresses: items.map((a) => addressAnswer(ctx, a)) };
  },

  AssociateAddress: (ctx, input) => {
    const { state } = ctx.draft;
    const address = allocated(ctx, input.AllocationId, input.PublicIp);
    refuseNatGateways(ctx, address);
    const eni = targetInterface(ctx, input);
    const privateIp = input.PrivateIpAddress ?? eni.privateIps[0]!;
    if (!eni.privateIps.includes(privateIp)) {
      throw invalidValue(`The private IP address ${privateIp} is not assigned to interface ${eni.id}`);
    }
    if (!Object.values(state.internetGateways).some((gateway) => gateway.vpcId === eni.vpcId)) {
      throw new Ec2Error(
        'Gateway.NotAttached',
        `Network ${eni.vpcId} is not attached to any internet gateway`,
      );
    }
    const there = onInterface(ctx, eni.id).find((a) => a.privateIp === privateIp);
    if (there?.allocationId !== undefined && there.allocationId === address.allocationId) {
      return { AssociationId: there.associationId };
    }
    const allow = input.AllowReassociation ?? false;
    for (const taken of [address, there]) {
      if (taken?.associationId !== undefined && !allow) {
        throw new Ec2Error(
          'Resource.AlreadyAssociated',
          `resource ${taken.allocationId} is already associated with associate-id ${taken.associationId}`,
        );
      }
    }
    if (there) dissolve(ctx, there);
    const associationId = newId(ctx, 'eipassoc');
    ctx.draft.put('publicAddresses', address.publicIp, {
      ...address,
      associationId,
      networkInterfaceId: eni.id,
      privateIp,
    });
    return { AssociationId: associationId };
  },

  DisassociateAddress: (ctx, input) => {
    oneWay(input, 'AssociationId', 'PublicIp');
    const id = input.AssociationId;
    const address = Object.values(ctx.draft.state.publicAddresses).find((a) =>
      id !== undefined ? a.associationId === id : a.publicIp === required(input.PublicIp, 'associationId'),
    );
    if (address) refuseNatGateways(ctx, address);
    if (!address?.associationId) {
      throw new Ec2Error(
        'InvalidAssociationID.NotFound',
        `The association ID '${id ?? input.PublicIp}' does not exist`,
      );
    }
    dissolve(ctx, address);
    return {};
  },

  ReleaseAddress: (ctx, input) => {
    checkBorderGroup(ctx, input.NetworkBorderGroup);
    const address = allocated(ctx, input.AllocationId, input.PublicIp);
    if (address.associationId !== undefined) {
      throw new Ec2Error('InvalidIPAddress.InUse', `Address ${address.publicIp} is in use.`);
    }
    ctx.draft.remove('publicAddresses', address.publicIp);
    return {};
  },
};
