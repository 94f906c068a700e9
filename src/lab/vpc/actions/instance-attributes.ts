// An instance's attributes: described one at a time, changed, and its metadata options.
// Fails with IncorrectInstanceState for what only a stopped instance takes, InvalidInstanceID where an attribute is an
// interface's and there are several.
import { type Context, need } from '../context.ts';
import { conflict, Ec2Error, invalidValue, oneAttribute, required } from '../errors.ts';
import { cardLimit, checkIpv6Slots, checkSlots, limitsOf } from '../limits.ts';
import type { Instance } from '../model.ts';
import { associationsOn, checkBranches } from '../trunks.ts';
import { interfacesOf } from './attachments.ts';
import { metadataOptions, ROOT_DEVICE } from './instance-answers.ts';
import { wrongState } from './instances.ts';
import { groupIdentifiers } from './interface-answers.ts';
import { interfaceGroups } from './interfaces.ts';
import { checkHopLimit, ipv6Endpoint, oneOf } from './metadata-options.ts';
import type { Meanings } from './types.ts';

export const instanceAttributeActions: Meanings<
  'DescribeInstanceAttribute' | 'ModifyInstanceAttribute' | 'ModifyInstanceMetadataOptions'
> = {
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
      case 'disableApiStop':
        return { InstanceId, DisableApiStop: { Value: instance.disableApiStop ?? false } };
      case 'ebsOptimized':
        return { InstanceId, EbsOptimized: { Value: false } };
      case 'enclaveOptions':
        return { InstanceId, EnclaveOptions: { Enabled: false } };
      case 'rootDeviceName':
        return { InstanceId, RootDeviceName: { Value: ROOT_DEVICE } };
      case 'blockDeviceMapping':
        return { InstanceId, BlockDeviceMappings: [] };
      case 'productCodes':
        return { InstanceId, ProductCodes: [] };
      // Of paravirtual and Xen instances; EC2 names them without a value.
      case 'kernel':
        return { InstanceId, KernelId: {} };
      case 'ramdisk':
        return { InstanceId, RamdiskId: {} };
      case 'sriovNetSupport':
        return { InstanceId, SriovNetSupport: {} };
      default:
        throw invalidValue(
          `Value (${input.Attribute}) for parameter attribute is invalid. Unknown attribute.`,
        );
    }
  },

  ModifyInstanceAttribute: (ctx, input) => {
    const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId'));
    const { InstanceId: _id, DryRun: _dry, ...asked } = input;
    oneAttribute(Object.values(asked));
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
    if (input.DisableApiStop?.Value !== undefined) changed.disableApiStop = input.DisableApiStop.Value;
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
      ...ipv6Endpoint(input.HttpProtocolIpv6),
    };
    ctx.draft.put('instances', instance.id, changed);
    return {
      InstanceId: instance.id,
      InstanceMetadataOptions: { ...metadataOptions(changed), State: 'pending' },
    };
  },
};

/** A stopped instance takes another type if its interfaces fit there. */
function newType(ctx: Context, instance: Instance, type: string): string {
  const limits = limitsOf(ctx.draft.state, type);
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
  for (const { id, interfaceType, privateIps, ipv4Prefixes, ipv6Addresses, ipv6Prefixes } of enis) {
    if (interfaceType === 'trunk') {
      if (!limits.trunkCompatible)
        throw conflict(`${type} instances do not support trunk network interfaces.`);
      checkBranches(ctx.draft.state, type, associationsOn(ctx.draft.state, id).length);
    }
    const [four, six] = [ipv4Prefixes.length, ipv6Prefixes.length];
    checkSlots(limits, type, { id, has: privateIps.length + four, added: 0, prefixes: four });
    checkIpv6Slots(limits, type, { id, has: ipv6Addresses.length + six, added: 0, prefixes: six });
  }
  return type;
}
