// RunInstances: instances with their interfaces, addresses and public addresses, all or nothing.
// Fails with InvalidParameterValue for a type that does not exist, InvalidAMIID.Malformed, MissingParameter, and
// whatever the making of an interface fails with.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, Draft, later, need, newId } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing, oneWay, required } from '../errors.ts';
import { isNitro, limitsOf } from '../limits.ts';
import type { Instance, NetworkInterface, Subnet } from '../model.ts';
import { isInUse } from '../trunks.ts';
import { zoneOf } from './account.ts';
import { attach } from './attachments.ts';
import { givePublicIp } from './elastic-ips.ts';
import { checkImageId } from './images.ts';
import { instanceAnswer, profileArn } from './instance-answers.ts';
import { groupIdentifiers } from './interface-answers.ts';
import { makeInterface, namedAddresses } from './interfaces.ts';
import { noKeyPair } from './inventory.ts';
import { ipv6Asked } from './ipv6-addresses.ts';
import { checkHopLimit, ipv6Endpoint, oneOf } from './metadata-options.ts';
import { peerGroup } from './rules.ts';
import { tagsOnCreate } from './tags.ts';
import type { Input, Meanings } from './types.ts';

const MAX_INSTANCES = 500;
const DEFAULT_HOP_LIMIT = 2;
/** A namespace and socket paths are made from the name. */
const MAX_NAME = 40;
/** Names that the lab has given away: the router, the network beyond the gateway, and pods' sandboxes. */
const RESERVED = /^(vpc|internet|pod(-.*)?)$/;

/** A name fit for a network namespace, unique among instances that live. */
function instanceName(ctx: Context, wanted: string | undefined, id: string): string {
  const safe = (wanted ?? '')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '')
    .slice(0, MAX_NAME);
  if (safe === '') return id;
  const base = RESERVED.test(safe) ? `i-${safe}` : safe;
  const taken = new Set(
    Object.values(ctx.draft.state.instances)
      .filter((instance) => instance.state !== 'terminated')
      .map((instance) => instance.name),
  );
  let name = base;
  for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
  return name;
}

type Specification = ec2.InstanceNetworkInterfaceSpecification;

const INSTANCE_LEVEL = [
  ['SubnetId', 'subnet ID'],
  ['SecurityGroupIds', 'security groups'],
  ['SecurityGroups', 'security groups'],
  ['PrivateIpAddress', 'private IP address'],
  ['Ipv6Addresses', 'IPv6 addresses'],
] as const;

/** What an interface that is there already has, and so cannot be given anew. */
const OF_NEW_INTERFACES = [
  'SubnetId',
  'Description',
  'Groups',
  'PrivateIpAddress',
  'PrivateIpAddresses',
  'SecondaryPrivateIpAddressCount',
  'Ipv4Prefixes',
  'Ipv4PrefixCount',
  'Ipv6Addresses',
  'Ipv6AddressCount',
  'Ipv6Prefixes',
  'Ipv6PrefixCount',
  'PrimaryIpv6',
  'AssociatePublicIpAddress',
  'InterfaceType',
] as const;

function checkExisting(one: Specification): void {
  if (one.NetworkInterfaceId === undefined) return;
  const asked = OF_NEW_INTERFACES.find((name) => {
    const value = one[name];
    return Array.isArray(value) ? value.length > 0 : Boolean(value);
  });
  if (asked)
    throw conflict(`The network interface ${one.NetworkInterfaceId} exists: ${asked} is for a new one`);
}

/** The interfaces to make: those of NetworkInterface.N, else one of the instance-level parameters. */
function specifications(input: ec2.RunInstancesRequest): Specification[] {
  const list = input.NetworkInterfaces ?? [];
  if (list.length === 0) {
    return [
      {
        DeviceIndex: 0,
        SubnetId: input.SubnetId,
        Groups: input.SecurityGroupIds,
        PrivateIpAddress: input.PrivateIpAddress,
        Ipv6AddressCount: input.Ipv6AddressCount,
        Ipv6Addresses: input.Ipv6Addresses,
        PrimaryIpv6: input.EnablePrimaryIpv6,
      },
    ];
  }
  if (input.Ipv6AddressCount)
    throw conflict(
      'Network interfaces and an instance-level IPv6 address count may not be specified on the same request',
    );
  if (input.EnablePrimaryIpv6)
    throw conflict(
      'Network interfaces and an instance-level primary IPv6 address may not be specified on the same request',
    );
  const [beside] = INSTANCE_LEVEL.filter(([name]) => input[name]?.length);
  if (beside) {
    throw conflict(
      `Network interfaces and an instance-level ${beside[1]} may not be specified on the same request`,
    );
  }
  for (const one of list) {
    checkExisting(one);
    if (one.DeviceIndex === undefined) throw missing('networkInterface.1.deviceIndex');
  }
  if (!list.some((one) => one.DeviceIndex === 0 && (one.NetworkCardIndex ?? 0) === 0)) {
    throw invalidValue('When specifying network interfaces, you must include a device at index 0.');
  }
  return [...list].sort(
    (a, b) => (a.NetworkCardIndex ?? 0) - (b.NetworkCardIndex ?? 0) || a.DeviceIndex! - b.DeviceIndex!,
  );
}

const placementZone = (ctx: Context, placement: ec2.Placement | undefined): string | undefined =>
  placement?.AvailabilityZone === undefined && placement?.AvailabilityZoneId === undefined
    ? undefined
    : zoneOf(ctx, placement.AvailabilityZone, placement.AvailabilityZoneId);

function subnetOf(ctx: Context, specification: Specification, placement: ec2.Placement | undefined): Subnet {
  if (specification.NetworkInterfaceId !== undefined) {
    return need(ctx, 'subnets', need(ctx, 'networkInterfaces', specification.NetworkInterfaceId).subnetId);
  }
  if (specification.SubnetId !== undefined) return need(ctx, 'subnets', specification.SubnetId);
  const { state } = ctx.draft;
  const vpc = Object.values(state.vpcs).find((v) => v.isDefault);
  const zone = placementZone(ctx, placement);
  const subnet = Object.values(state.subnets).find(
    (s) => s.vpcId === vpc?.id && (zone === undefined || s.zone === zone),
  );
  if (!subnet)
    throw new Ec2Error('MissingInput', 'No subnets found for the default VPC. Please specify a subnet.');
  return subnet;
}

function interfaceFor(
  ctx: Context,
  specification: Specification,
  subnet: Subnet,
  instance: Instance,
  tags: Record<string, string>,
): NetworkInterface {
  if (specification.NetworkInterfaceId !== undefined) {
    const eni = need(ctx, 'networkInterfaces', specification.NetworkInterfaceId);
    if (isInUse(ctx.draft.state, eni))
      throw new Ec2Error('InvalidNetworkInterface.InUse', `Interface: [${eni.id}] in use.`);
    return eni;
  }
  return makeInterface(ctx, {
    subnet,
    description: specification.Description,
    groups: specification.Groups,
    ...namedAddresses(specification.PrivateIpAddress, specification.PrivateIpAddresses),
    secondaryCount: specification.SecondaryPrivateIpAddressCount,
    prefixes: (specification.Ipv4Prefixes ?? []).map((p) => required(p.Ipv4Prefix, 'ipv4Prefix')),
    prefixCount: specification.Ipv4PrefixCount,
    ipv6: ipv6Asked(specification),
    primaryIpv6: specification.PrimaryIpv6,
    ...(specification.DeviceIndex === 0 ? {} : { clientToken: instance.clientToken }),
    type: specification.InterfaceType,
    tags,
  });
}

function launchOne(
  ctx: Context,
  input: Input<'RunInstances'>,
  reservationId: string,
  launchIndex: number,
): Instance {
  const id = newId(ctx, 'i');
  const list = specifications(input);
  const subnet = subnetOf(ctx, list[0]!, input.Placement);
  const zone = placementZone(ctx, input.Placement);
  if (zone !== undefined && zone !== subnet.zone) {
    throw invalidValue(`The subnet ${subnet.id} is in ${subnet.zone}, not in the placement's zone ${zone}`);
  }
  // Instances of the lab have no volumes (DescribeVolumes), so that a volume's tags are for nothing.
  const tags = tagsOnCreate(input.TagSpecifications, 'instance', ['network-interface', 'volume']);
  const interfaceTags = tagsOnCreate(input.TagSpecifications, 'network-interface', ['instance', 'volume']);
  const limits = limitsOf(ctx.draft.state, input.InstanceType as string)!;
  if (subnet.ipv6Native && !isNitro(limits))
    throw conflict(`IPv6-only subnets take instances of the Nitro system alone, not ${input.InstanceType}`);
  const instance: Instance = {
    id,
    name: instanceName(ctx, tags['Name'], id),
    instanceType: input.InstanceType as string,
    state: 'pending',
    imageId: input.ImageId!,
    subnetId: subnet.id,
    vpcId: subnet.vpcId,
    zone: subnet.zone,
    launchTime: ctx.now,
    hopLimit: input.MetadataOptions?.HttpPutResponseHopLimit ?? DEFAULT_HOP_LIMIT,
    httpTokens:
      oneOf(input.MetadataOptions?.HttpTokens, ['optional', 'required'], 'HttpTokens') ?? 'required',
    httpEndpoint:
      oneOf(input.MetadataOptions?.HttpEndpoint, ['enabled', 'disabled'], 'HttpEndpoint') ?? 'enabled',
    ...ipv6Endpoint(input.MetadataOptions?.HttpProtocolIpv6),
    reservationId,
    ...(input.ClientToken === undefined ? {} : { clientToken: input.ClientToken }),
    agent: input.LabAgent ?? 'none',
    ...(launchIndex === 0 ? {} : { launchIndex }),
    ...profileOf(ctx, input.IamInstanceProfile),
    ...(input.DisableApiStop ? { disableApiStop: true } : {}),
    ...(input.DisableApiTermination ? { disableApiTermination: true } : {}),
    ...(input.UserData === undefined ? {} : { userData: input.UserData }),
    tags,
  };
  ctx.draft.put('instances', id, instance);
  const groupsByName = (input.SecurityGroups ?? []).map((name) =>
    peerGroup(ctx, subnet.vpcId, undefined, name),
  );
  for (const one of list) {
    const specification = groupsByName.length && !one.Groups?.length ? { ...one, Groups: groupsByName } : one;
    const place = one === list[0] ? subnet : subnetOf(ctx, one, input.Placement);
    if (place.zone !== subnet.zone)
      throw conflict(
        `Interfaces of one instance are in one zone: ${place.id} is in ${place.zone}, ${subnet.id} in ${subnet.zone}`,
      );
    const eni = interfaceFor(ctx, specification, place, instance, interfaceTags);
    attach(ctx, eni, instance, {
      deviceIndex: one.DeviceIndex ?? 0,
      card: one.NetworkCardIndex ?? 0,
      deleteOnTermination: one.DeleteOnTermination ?? one.NetworkInterfaceId === undefined,
      // Interfaces of a launch are there when the instance is.
      latency: ctx.latencies.run,
    });
    const wantsPublic =
      one.AssociatePublicIpAddress ??
      (one.DeviceIndex === 0 && one.NetworkInterfaceId === undefined && place.mapPublicIpOnLaunch);
    if (wantsPublic && place.ipv6Native)
      throw conflict(`A public IPv4 address is not supported in the IPv6-only subnet ${place.id}`);
    if (wantsPublic && one.AssociatePublicIpAddress && list.length > 1) {
      throw conflict(
        'The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.',
      );
    }
    if (wantsPublic) givePublicIp(ctx, eni);
    if (wantsPublic && (one.DeviceIndex ?? 0) === 0)
      ctx.draft.put('instances', id, { ...instance, publicIpOnStart: true });
  }
  later(ctx, 'instance-running', id, ctx.latencies.run);
  return ctx.draft.state.instances[id]!;
}

/** The lab has one role, which every instance may use; a profile of that name is the only one there is. */
function profileOf(
  ctx: Context,
  asked: ec2.IamInstanceProfileSpecification | undefined,
): { instanceProfile?: string } {
  if (asked?.Name === undefined && asked?.Arn === undefined) return {};
  const { roleName } = ctx;
  if (asked.Name !== undefined && asked.Arn !== undefined)
    throw conflict(
      "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'",
    );
  if (asked.Name !== undefined && asked.Name !== roleName) {
    throw invalidValue(
      `Value (${asked.Name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name (the lab has ${roleName})`,
    );
  }
  if (asked.Arn !== undefined && asked.Arn !== profileArn(ctx.draft.state, roleName)) {
    throw invalidValue(
      `Value (${asked.Arn}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN (the lab has ${profileArn(ctx.draft.state, roleName)})`,
    );
  }
  return { instanceProfile: roleName };
}

function checkLaunch(ctx: Context, input: Input<'RunInstances'>): { min: number; max: number } {
  oneWay(input, 'SecurityGroupIds', 'SecurityGroups');
  checkImageId(required(input.ImageId, 'ImageId'));
  const type = input.InstanceType as string | undefined;
  if (type === undefined) throw missing('InstanceType');
  if (!limitsOf(ctx.draft.state, type)) throw invalidValue(`Invalid value '${type}' for InstanceType.`);
  const min = required(input.MinCount, 'MinCount');
  const max = required(input.MaxCount, 'MaxCount');
  if (!Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max < min) {
    throw invalidValue(
      `Invalid value '${min}:${max}' for MinCount and MaxCount: at least 1, and MaxCount not below MinCount`,
    );
  }
  if (max > MAX_INSTANCES)
    throw new Ec2Error('InstanceLimitExceeded', `${max} instances asked for, the limit is ${MAX_INSTANCES}`);
  if (input.KeyName !== undefined) throw noKeyPair([input.KeyName]);
  const hops = input.MetadataOptions?.HttpPutResponseHopLimit;
  if (hops !== undefined) checkHopLimit(hops);
  return { min, max };
}

/** As many as the subnet has addresses for, at least `min`: EC2 launches the largest number that it can. */
function launchMost(
  ctx: Context,
  input: Input<'RunInstances'>,
  { min, max }: { min: number; max: number },
  reservationId: string,
): Instance[] {
  const launched: Instance[] = [];
  while (launched.length < max) {
    const draft = new Draft(ctx.draft.state);
    try {
      launched.push(launchOne({ ...ctx, draft }, input, reservationId, launched.length));
    } catch (error) {
      const isFull = error instanceof Ec2Error && error.code === 'InsufficientFreeAddressesInSubnet';
      if (isFull && launched.length >= min) break;
      throw error;
    }
    ctx.draft.absorb(draft);
  }
  return launched;
}

export const launchActions: Meanings<'RunInstances'> = {
  RunInstances: (ctx, input) => {
    const asked = checkLaunch(ctx, input);
    if (
      asked.max > 1 &&
      (input.PrivateIpAddress ||
        input.NetworkInterfaces?.some((one) => one.NetworkInterfaceId || one.PrivateIpAddress))
    ) {
      throw conflict('A named address or interface is for one instance');
    }
    const reservationId = newId(ctx, 'r');
    const launched = launchMost(ctx, input, asked, reservationId);
    const { state } = ctx.draft;
    return {
      ReservationId: reservationId,
      OwnerId: state.accountId,
      RequesterId: ctx.caller.userId,
      Groups: groupIdentifiers(state, []),
      Instances: launched.map((instance) => instanceAnswer(state, instance)),
    };
  },
};
