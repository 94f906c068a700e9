// Instances after their launch: describe, start, stop, reboot, terminate, and their attributes.
// Fails with IncorrectInstanceState, OperationNotPermitted under termination protection, InvalidInstanceID.NotFound.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, later, need, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, required } from '../errors.ts';
import { cardLimit, limitsOf } from '../limits.ts';
import type { Instance, InstanceState } from '../model.ts';
import { type Filters, select } from '../select.ts';
import { zoneId } from './account.ts';
import { interfacesOf } from './attachments.ts';
import { dropGivenPublicIps, givePublicIp } from './elastic-ips.ts';
import { instanceAnswer, metadataOptions, stateAnswer } from './instance-answers.ts';
import { groupIdentifiers, publicAddressOf } from './interface-answers.ts';
import { interfaceGroups } from './interfaces.ts';
import { checkHopLimit } from './launch.ts';
import { refuse } from './refuse.ts';
import type { Meanings } from './types.ts';

function instanceFilters(ctx: Context): Filters<Instance> {
  const { state } = ctx.draft;
  const answer = (instance: Instance) => instanceAnswer(state, instance);
  const enis = (instance: Instance) => interfacesOf(state, instance.id);
  const groups = (instance: Instance) => enis(instance)[0]?.groupIds ?? [];
  return {
    'instance-id': (i) => i.id,
    'instance-state-name': (i) => i.state,
    'instance-state-code': (i) => stateAnswer(i.state).Code,
    'instance-type': (i) => i.instanceType,
    'image-id': (i) => i.imageId,
    'subnet-id': (i) => answer(i).SubnetId,
    'vpc-id': (i) => answer(i).VpcId,
    'availability-zone': (i) => i.zone,
    'availability-zone-id': (i) => zoneId(state, i.zone),
    'client-token': (i) => i.clientToken,
    'key-name': (i) => i.keyName,
    'reservation-id': (i) => i.reservationId,
    'owner-id': () => state.accountId,
    'private-ip-address': (i) => answer(i).PrivateIpAddress,
    'private-dns-name': (i) => answer(i).PrivateDnsName,
    'ip-address': (i) => answer(i).PublicIpAddress,
    'dns-name': (i) => answer(i).PublicDnsName,
    architecture: (i) => answer(i).Architecture,
    'source-dest-check': (i) => answer(i).SourceDestCheck,
    'launch-time': (i) => new Date(i.launchTime).toISOString(),
    'instance.group-id': groups,
    'instance.group-name': (i) => groups(i).map((id) => state.securityGroups[id]?.name),
    'metadata-options.http-tokens': (i) => i.httpTokens,
    'metadata-options.http-endpoint': (i) => i.httpEndpoint,
    'metadata-options.http-put-response-hop-limit': (i) => i.hopLimit,
    'network-interface.network-interface-id': (i) => enis(i).map((eni) => eni.id),
    'network-interface.subnet-id': (i) => enis(i).map((eni) => eni.subnetId),
    'network-interface.vpc-id': (i) => enis(i).map((eni) => eni.vpcId),
    'network-interface.mac-address': (i) => enis(i).map((eni) => eni.mac),
    'network-interface.status': (i) => enis(i).map((eni) => eni.status),
    'network-interface.group-id': (i) => enis(i).flatMap((eni) => eni.groupIds),
    'network-interface.addresses.private-ip-address': (i) => enis(i).flatMap((eni) => eni.privateIps),
    'network-interface.attachment.attachment-id': (i) => enis(i).map((eni) => eni.attachment?.id),
    'network-interface.attachment.device-index': (i) => enis(i).map((eni) => eni.attachment?.deviceIndex),
    'network-interface.attachment.status': (i) => enis(i).map((eni) => eni.attachment?.status),
  };
}

/** Moves each instance through `step`; answers what it was and what it is. All ids must exist. */
function change(
  ctx: Context,
  ids: string[] | undefined,
  step: (instance: Instance) => InstanceState,
): ec2.InstanceStateChange[] {
  const all = required(ids?.length ? ids : undefined, 'InstanceId').map((id) => need(ctx, 'instances', id));
  return all.map((instance) => {
    const state = step(instance);
    const now = ctx.draft.state.instances[instance.id]!;
    if (now.state !== state) ctx.draft.put('instances', instance.id, { ...now, state });
    return {
      InstanceId: instance.id,
      PreviousState: stateAnswer(instance.state),
      CurrentState: stateAnswer(state),
    };
  });
}

const wrongState = (instance: Instance, verb: string): Ec2Error =>
  new Ec2Error(
    'IncorrectInstanceState',
    `The instance '${instance.id}' is not in a state from which it can be ${verb} (it is '${instance.state}').`,
  );

/** A transition that another one overtakes. */
const forget = (ctx: Context, instance: Instance, ...kinds: string[]): void => {
  for (const kind of kinds) ctx.draft.remove('transitions', `${kind}:${instance.id}`);
};

export const instanceActions: Meanings<
  | 'DescribeInstances'
  | 'DescribeInstanceStatus'
  | 'StartInstances'
  | 'StopInstances'
  | 'RebootInstances'
  | 'TerminateInstances'
  | 'DescribeInstanceAttribute'
  | 'ModifyInstanceAttribute'
  | 'ModifyInstanceMetadataOptions'
> = {
  DescribeInstances: (ctx, input) => {
    const { state } = ctx.draft;
    if (input.InstanceIds?.length && input.MaxResults !== undefined) {
      throw conflict('The parameter instancesSet cannot be used with the parameter maxResults');
    }
    const { items, nextToken } = select<Instance>(
      {
        items: Object.values(state.instances),
        idOf: (instance) => instance.id,
        tagsOf: (instance) => instance.tags,
        words: wordsOf('instances'),
        filters: instanceFilters(ctx),
      },
      { ...input, ids: input.InstanceIds },
    );
    const reservations = Map.groupBy(items, (instance) => instance.reservationId);
    return {
      Reservations: [...reservations].map(([id, instances]) => ({
        ReservationId: id,
        OwnerId: state.accountId,
        Groups: [],
        Instances: instances.map((instance) => instanceAnswer(state, instance)),
      })),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DescribeInstanceStatus: (ctx, input) => {
    const { state } = ctx.draft;
    const all = Object.values(state.instances);
    const { items, nextToken } = select<Instance>(
      {
        items:
          input.IncludeAllInstances || input.InstanceIds?.length
            ? all
            : all.filter((i) => i.state === 'running'),
        idOf: (instance) => instance.id,
        tagsOf: (instance) => instance.tags,
        words: wordsOf('instances'),
        filters: instanceFilters(ctx),
      },
      { ...input, ids: input.InstanceIds },
    );
    const shown = input.IncludeAllInstances ? items : items.filter((i) => i.state === 'running');
    return {
      InstanceStatuses: shown.map((instance) => {
        const Status = instance.state === 'running' ? ('ok' as const) : ('not-applicable' as const);
        return {
          InstanceId: instance.id,
          AvailabilityZone: instance.zone,
          InstanceState: stateAnswer(instance.state),
          InstanceStatus: { Status, Details: [] },
          SystemStatus: { Status, Details: [] },
        };
      }),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  StartInstances: (ctx, input) => ({
    StartingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'running' || instance.state === 'pending') return instance.state;
      if (instance.state !== 'stopped') throw wrongState(instance, 'started');
      const primary = interfacesOf(ctx.draft.state, instance.id)[0];
      if (
        primary &&
        instance.publicIpOnStart &&
        !publicAddressOf(ctx.draft.state, primary.id, primary.privateIps[0])
      ) {
        givePublicIp(ctx, primary);
      }
      ctx.draft.put('instances', instance.id, { ...instance, launchTime: ctx.now });
      later(ctx, 'instance-running', instance.id, ctx.latencies.run);
      return 'pending';
    }),
  }),

  StopInstances: (ctx, input) => ({
    StoppingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'stopped' || instance.state === 'stopping') return instance.state;
      if (instance.state !== 'running' && instance.state !== 'pending') throw wrongState(instance, 'stopped');
      forget(ctx, instance, 'instance-running');
      for (const eni of interfacesOf(ctx.draft.state, instance.id)) dropGivenPublicIps(ctx, eni.id);
      later(ctx, 'instance-stopped', instance.id, ctx.latencies.stop);
      return 'stopping';
    }),
  }),

  RebootInstances: (ctx, input) => {
    for (const id of required(input.InstanceIds?.length ? input.InstanceIds : undefined, 'InstanceId')) {
      const instance = need(ctx, 'instances', id);
      if (instance.state !== 'running') throw wrongState(instance, 'rebooted');
      ctx.draft.put('instances', id, {
        ...instance,
        rebootedAt: Math.max(ctx.now, (instance.rebootedAt ?? 0) + 1),
      });
    }
    return {};
  },

  TerminateInstances: (ctx, input) => ({
    TerminatingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'terminated' || instance.state === 'shutting-down') return instance.state;
      if (instance.disableApiTermination) {
        throw new Ec2Error(
          'OperationNotPermitted',
          `The instance '${instance.id}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.`,
        );
      }
      forget(ctx, instance, 'instance-running', 'instance-stopped');
      later(ctx, 'instance-terminated', instance.id, ctx.latencies.terminate);
      return 'shutting-down';
    }),
  }),

  DescribeInstanceAttribute: (ctx, input) => {
    const { state } = ctx.draft;
    const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId'));
    const primary = interfacesOf(state, instance.id)[0];
    const InstanceId = instance.id;
    switch (required(input.Attribute, 'attribute')) {
      case 'instanceType':
        return { InstanceId, InstanceType: { Value: instance.instanceType } };
      case 'disableApiTermination':
        return { InstanceId, DisableApiTermination: { Value: instance.disableApiTermination ?? false } };
      case 'userData':
        return { InstanceId, UserData: instance.userData === undefined ? {} : { Value: instance.userData } };
      case 'sourceDestCheck':
        return { InstanceId, SourceDestCheck: { Value: primary?.sourceDestCheck ?? true } };
      case 'groupSet':
        return { InstanceId, Groups: groupIdentifiers(state, primary?.groupIds ?? []) };
      case 'instanceInitiatedShutdownBehavior':
        return { InstanceId, InstanceInitiatedShutdownBehavior: { Value: 'stop' } };
      case 'enaSupport':
        return { InstanceId, EnaSupport: { Value: true } };
      default:
        throw invalidValue(
          `Value (${input.Attribute}) for parameter attribute is invalid. Unknown attribute.`,
        );
    }
  },

  ModifyInstanceAttribute: (ctx, input) => {
    refuse('ModifyInstanceAttribute', input, [
      'Attribute',
      'EnclaveOptions',
      'DisableApiStop',
      'BlockDeviceMappings',
      'Kernel',
      'Ramdisk',
      'SriovNetSupport',
      'EnaSupport',
      'EbsOptimized',
      'InstanceInitiatedShutdownBehavior',
    ]);
    const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId'));
    const enis = interfacesOf(ctx.draft.state, instance.id);
    if (input.SourceDestCheck?.Value !== undefined || input.Groups?.length) {
      if (enis.length !== 1) {
        throw new Ec2Error(
          'InvalidInstanceID',
          `There are ${enis.length} interfaces attached to instance '${instance.id}'. Please specify an interface ID for the operation instead.`,
        );
      }
      const eni = enis[0]!;
      ctx.draft.put('networkInterfaces', eni.id, {
        ...eni,
        sourceDestCheck: input.SourceDestCheck?.Value ?? eni.sourceDestCheck,
        groupIds: input.Groups?.length ? interfaceGroups(ctx, eni.vpcId, input.Groups) : eni.groupIds,
      });
    }
    const changed = { ...instance };
    if (input.DisableApiTermination?.Value !== undefined)
      changed.disableApiTermination = input.DisableApiTermination.Value;
    if (input.UserData?.Value !== undefined) {
      if (instance.state !== 'stopped') throw wrongState(instance, 'given user data');
      changed.userData = Buffer.from(input.UserData.Value).toString('base64');
    }
    const type = input.InstanceType?.Value;
    if (type !== undefined) changed.instanceType = newType(ctx, instance, type);
    ctx.draft.put('instances', instance.id, changed);
    return {};
  },

  ModifyInstanceMetadataOptions: (ctx, input) => {
    const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId'));
    if (instance.state === 'terminated' || instance.state === 'shutting-down')
      throw wrongState(instance, 'modified');
    if (input.HttpPutResponseHopLimit !== undefined) checkHopLimit(input.HttpPutResponseHopLimit);
    const changed: Instance = {
      ...instance,
      hopLimit: input.HttpPutResponseHopLimit ?? instance.hopLimit,
      httpTokens: oneOf(input.HttpTokens, ['optional', 'required'], 'HttpTokens') ?? instance.httpTokens,
      httpEndpoint:
        oneOf(input.HttpEndpoint, ['enabled', 'disabled'], 'HttpEndpoint') ?? instance.httpEndpoint,
    };
    ctx.draft.put('instances', instance.id, changed);
    return {
      InstanceId: instance.id,
      InstanceMetadataOptions: { ...metadataOptions(changed), State: 'pending' },
    };
  },
};

function oneOf<T extends string>(
  value: string | undefined,
  values: readonly T[],
  name: string,
): T | undefined {
  if (value === undefined) return undefined;
  const found = values.find((v) => v === value);
  if (found === undefined) throw invalidValue(`Value (${value}) for parameter ${name} is invalid.`);
  return found;
}

/** A stopped instance takes another type if its interfaces fit there. */
function newType(ctx: Context, instance: Instance, type: string): string {
  const limits = limitsOf(type);
  if (!limits) throw invalidValue(`Invalid value '${type}' for InstanceType.`);
  if (instance.state !== 'stopped') throw wrongState(instance, 'given another type');
  const enis = interfacesOf(ctx.draft.state, instance.id);
  for (const [card, onCard] of Map.groupBy(enis, (eni) => eni.attachment?.networkCardIndex ?? 0)) {
    if (onCard.length > cardLimit(limits, card)) {
      throw new Ec2Error(
        'AttachmentLimitExceeded',
        `Interface count ${onCard.length} exceeds the limit for ${type}`,
      );
    }
  }
  const full = enis.find((eni) => eni.privateIps.length + eni.ipv4Prefixes.length > limits.ipv4PerENI);
  if (full) {
    throw new Ec2Error(
      'PrivateIpAddressLimitExceeded',
      `Number of private addresses will exceed limit. (${full.id} has ${full.privateIps.length}, the limit of ${type} is ${limits.ipv4PerENI})`,
    );
  }
  return type;
}
