// RunInstances: instances with their interfaces, addresses and public addresses, all or nothing.
// Fails with InvalidParameterValue for a type that does not exist, InvalidAMIID.Malformed, MissingParameter, and
// whatever the making of an interface fails with.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, later, need, newId } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing, required } from '../errors.ts';
import { limitsOf } from '../limits.ts';
import type { Instance, NetworkInterface, Subnet } from '../model.ts';
import { attach } from './attachments.ts';
import { givePublicIp } from './elastic-ips.ts';
import { instanceAnswer } from './instance-answers.ts';
import { groupIdentifiers } from './interface-answers.ts';
import { makeInterface, namedAddresses } from './interfaces.ts';
import { refuse } from './refuse.ts';
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
      },
    ];
  }
  if (
    input.SubnetId !== undefined ||
    input.SecurityGroupIds?.length ||
    input.SecurityGroups?.length ||
    input.PrivateIpAddress
  ) {
    throw conflict(
      'Network interfaces and an instance-level subnet ID, security groups or private IP address may not be specified on the same request',
    );
  }
  for (const one of list) {
    refuse('A network interface', one, [
      'Ipv6AddressCount',
      'Ipv6Addresses',
      'Ipv6PrefixCount',
      'Ipv6Prefixes',
      'AssociateCarrierIpAddress',
    ]);
    if (one.DeviceIndex === undefined) throw missing('networkInterface.1.deviceIndex');
  }
  if (!list.some((one) => one.DeviceIndex === 0 && (one.NetworkCardIndex ?? 0) === 0)) {
    throw invalidValue('When specifying network interfaces, you must include a device at index 0.');
  }
  return [...list].sort(
    (a, b) => (a.NetworkCardIndex ?? 0) - (b.NetworkCardIndex ?? 0) || a.DeviceIndex! - b.DeviceIndex!,
  );
}

function subnetOf(ctx: Context, specification: Specification, placement: ec2.Placement | undefined): Subnet {
  if (specification.NetworkInterfaceId !== undefined) {
    return need(ctx, 'subnets', need(ctx, 'networkInterfaces', specification.NetworkInterfaceId).subnetId);
  }
  if (specification.SubnetId !== undefined) return need(ctx, 'subnets', specification.SubnetId);
  const { state } = ctx.draft;
  const vpc = Object.values(state.vpcs).find((v) => v.isDefault);
  const zone = placement?.AvailabilityZone;
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
    if (eni.attachment) throw new Ec2Error('InvalidNetworkInterface.InUse', `Interface: [${eni.id}] in use.`);
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
    ...(specification.DeviceIndex === 0 ? {} : { clientToken: instance.clientToken }),
    tracking: specification.ConnectionTrackingSpecification,
    tags,
  });
}

function launchOne(ctx: Context, input: Input<'RunInstances'>, reservationId: string): Instance {
  const id = newId(ctx, 'i');
  const list = specifications(input);
  const subnet = subnetOf(ctx, list[0]!, input.Placement);
  const zone = input.Placement?.AvailabilityZone;
  if (zone !== undefined && zone !== subnet.zone) {
    throw invalidValue(`The subnet ${subnet.id} is in ${subnet.zone}, not in the placement's zone ${zone}`);
  }
  const tags = tagsOnCreate(input.TagSpecifications, 'instance', [
    'network-interface',
    'volume',
    'spot-instances-request',
  ]);
  const interfaceTags = tagsOnCreate(input.TagSpecifications, 'network-interface', [
    'instance',
    'volume',
    'spot-instances-request',
  ]);
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
    httpTokens: input.MetadataOptions?.HttpTokens === 'optional' ? 'optional' : 'required',
    httpEndpoint: input.MetadataOptions?.HttpEndpoint === 'disabled' ? 'disabled' : 'enabled',
    reservationId,
    ...(input.ClientToken === undefined ? {} : { clientToken: input.ClientToken }),
    agent: input.LabAgent ?? 'none',
    ...(input.DisableApiTermination ? { disableApiTermination: true } : {}),
    ...(input.UserData === undefined ? {} : { userData: input.UserData }),
    ...(input.KeyName === undefined ? {} : { keyName: input.KeyName }),
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

function checkLaunch(input: Input<'RunInstances'>): number {
  const image = required(input.ImageId, 'ImageId');
  if (!/^ami-[0-9a-z]+$/.test(image))
    throw new Ec2Error('InvalidAMIID.Malformed', `Invalid id: "${image}" (expecting "ami-...")`);
  refuse('RunInstances', input, [
    'Ipv6AddressCount',
    'Ipv6Addresses',
    'LaunchTemplate',
    'SecondaryInterfaces',
  ]);
  const type = input.InstanceType as string | undefined;
  if (type === undefined) throw missing('InstanceType');
  if (!limitsOf(type)) throw invalidValue(`Invalid value '${type}' for InstanceType.`);
  const min = required(input.MinCount, 'MinCount');
  const max = required(input.MaxCount, 'MaxCount');
  if (!Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max < min) {
    throw invalidValue(
      `Invalid value '${min}:${max}' for MinCount and MaxCount: at least 1, and MaxCount not below MinCount`,
    );
  }
  if (max > MAX_INSTANCES)
    throw new Ec2Error('InstanceLimitExceeded', `${max} instances asked for, the limit is ${MAX_INSTANCES}`);
  const hops = input.MetadataOptions?.HttpPutResponseHopLimit;
  if (hops !== undefined) checkHopLimit(hops);
  return max;
}

export function checkHopLimit(hops: number): void {
  if (!Number.isInteger(hops) || hops < 1 || hops > 64) {
    throw invalidValue(
      `Value (${hops}) for parameter HttpPutResponseHopLimit is invalid. Must be from 1 to 64.`,
    );
  }
}

export const launchActions: Meanings<'RunInstances'> = {
  RunInstances: (ctx, input) => {
    const count = checkLaunch(input);
    if (
      count > 1 &&
      (input.PrivateIpAddress ||
        input.NetworkInterfaces?.some((one) => one.NetworkInterfaceId || one.PrivateIpAddress))
    ) {
      throw conflict('A named address or interface is for one instance');
    }
    const reservationId = newId(ctx, 'r');
    const launched = Array.from({ length: count }, () => launchOne(ctx, input, reservationId));
    const { state } = ctx.draft;
    return {
      ReservationId: reservationId,
      OwnerId: state.accountId,
      RequesterId: ctx.caller.userId,
      Groups: groupIdentifiers(state, []),
      Instances: launched.map((instance, i) => ({ ...instanceAnswer(state, instance), AmiLaunchIndex: i })),
    };
  },
};
