// Attaching and detaching interfaces, within the limits of the instance's type. Two things change, each in its time:
// the interface's status (`in-use` from the start of an attach to the end of its detach) and the attachment's.
// Fails with AttachmentLimitExceeded, InvalidNetworkInterface.InUse, IncorrectState, OperationNotPermitted.
import { type Context, later, need, newId } from '../context.ts';
import { conflict, Ec2Error, invalidValue, notFound, required, resourceWords } from '../errors.ts';
import { cardLimit, checkIpv6Slots, checkSlots, type InstanceLimits, isNitro, limitsOf } from '../limits.ts';
import type { Attachment, Instance, NetworkInterface, VpcState } from '../model.ts';
import { associationsOn, checkBranches, isInUse } from '../trunks.ts';
import type { Meanings } from './types.ts';

export const interfacesOf = (state: VpcState, instanceId: string): NetworkInterface[] =>
  Object.values(state.networkInterfaces)
    .filter((eni) => eni.attachment?.instanceId === instanceId)
    .sort(
      (a, b) =>
        a.attachment!.networkCardIndex - b.attachment!.networkCardIndex ||
        a.attachment!.deviceIndex - b.attachment!.deviceIndex,
    );

/** The interface, when its user may change it. */
export const ownInterface = (ctx: Context, id: string | undefined): NetworkInterface =>
  notOfEc2(need(ctx, 'networkInterfaces', required(id, 'networkInterfaceId')));

/** EC2 lets nobody change the interface of a NAT gateway. */
export function notOfEc2(eni: NetworkInterface): NetworkInterface {
  if (eni.natGatewayId === undefined) return eni;
  throw new Ec2Error('AuthFailure', 'You do not have permission to access the specified resource.');
}

export type Place = { deviceIndex: number; card: number; deleteOnTermination: boolean; latency: number };

/** Hangs an interface on an instance: `attaching`, then `attached` after `latency`. */
export function attach(ctx: Context, eni: NetworkInterface, instance: Instance, place: Place): Attachment {
  const { deviceIndex, card } = place;
  const limits = limitsOf(ctx.draft.state, instance.instanceType)!;
  if (!Number.isInteger(deviceIndex) || deviceIndex < 0)
    throw invalidValue(`Invalid value '${deviceIndex}' for deviceIndex.`);
  if (!limits.networkCards.some((c) => c.index === card)) {
    throw invalidValue(
      `Network card index ${card} is not supported by ${instance.instanceType}, which has ${limits.networkCards.length} network card(s)`,
    );
  }
  const onCard = interfacesOf(ctx.draft.state, instance.id).filter(
    (e) => e.attachment?.networkCardIndex === card,
  );
  if (onCard.some((e) => e.attachment?.deviceIndex === deviceIndex)) {
    throw invalidValue(
      `Instance '${instance.id}' already has an interface attached at device index '${deviceIndex}'.`,
    );
  }
  if (onCard.length >= cardLimit(limits, card)) {
    throw new Ec2Error(
      'AttachmentLimitExceeded',
      `Interface count ${onCard.length + 1} exceeds the limit for ${instance.instanceType}`,
    );
  }
  checkKind(eni, instance, limits, place, onCard);
  const branches = associationsOn(ctx.draft.state, eni.id).length;
  if (branches > 0) checkBranches(ctx.draft.state, instance.instanceType, branches);
  const has = eni.privateIps.length + eni.ipv4Prefixes.length;
  checkSlots(limits, instance.instanceType, { id: eni.id, has, added: 0, prefixes: eni.ipv4Prefixes.length });
  const prefixes = eni.ipv6Prefixes.length;
  checkIpv6Slots(limits, instance.instanceType, {
    id: eni.id,
    has: eni.ipv6Addresses.length + prefixes,
    added: 0,
    prefixes,
  });
  const attachment: Attachment = {
    id: newId(ctx, 'eni-attach'),
    instanceId: instance.id,
    deviceIndex,
    networkCardIndex: card,
    status: 'attaching',
    deleteOnTermination: place.deleteOnTermination,
    attachTime: ctx.now,
  };
  // An attach ends the wait for `available`: the interface is in use from now on.
  ctx.draft.remove('transitions', `interface-available:${eni.id}`);
  ctx.draft.put('networkInterfaces', eni.id, { ...eni, status: 'in-use', attachment });
  later(ctx, 'attached', eni.id, place.latency);
  return attachment;
}

/** What an interface's type asks of the instance's; which types have Elastic Fabric Adapters beyond that nobody says here. */
function checkKind(
  { id, interfaceType }: NetworkInterface,
  { id: instanceId, instanceType }: Instance,
  limits: InstanceLimits,
  { deviceIndex, card }: Place,
  onCard: readonly NetworkInterface[],
): void {
  if (interfaceType === 'interface') return;
  if (interfaceType === 'branch')
    throw new Ec2Error('OperationNotPermitted', `A branch network interface hangs on a trunk. (${id})`);
  if (interfaceType === 'trunk') {
    if (!limits.trunkCompatible)
      throw conflict(`${instanceType} instances do not support trunk network interfaces.`);
    if (onCard.some((each) => each.interfaceType === 'trunk'))
      throw conflict(`Instance '${instanceId}' already has a trunk network interface.`);
    return;
  }
  if (!isNitro(limits)) throw conflict(`${instanceType} instances do not support Elastic Fabric Adapters.`);
  if (interfaceType === 'efa-only' && deviceIndex === 0 && card === 0)
    throw conflict('An EFA-only network interface cannot be the primary one.');
}

export const attachmentActions: Meanings<'AttachNetworkInterface' | 'DetachNetworkInterface'> = {
  AttachNetworkInterface: (ctx, input) => {
    const eni = need(ctx, 'networkInterfaces', required(input.NetworkInterfaceId, 'networkInterfaceId'));
    const instance = need(ctx, 'instances', required(input.InstanceId, 'instanceId'));
    const deviceIndex = required(input.DeviceIndex, 'deviceIndex');
    if (isInUse(ctx.draft.state, eni))
      throw new Ec2Error('InvalidNetworkInterface.InUse', `Interface: [${eni.id}] in use.`);
    if (instance.state !== 'running' && instance.state !== 'stopped') {
      throw new Ec2Error(
        'IncorrectState',
        `Instance '${instance.id}' is not 'running' or 'stopped' (it is '${instance.state}')`,
      );
    }
    if (eni.zone !== instance.zone) {
      throw conflict(
        `You may not attach a network interface to an instance if they are not in the same availability zone (${eni.zone}, ${instance.zone})`,
      );
    }
    if (eni.vpcId !== instance.vpcId) {
      throw conflict(`The interface ${eni.id} and the instance ${instance.id} are in different VPCs`);
    }
    const card = input.NetworkCardIndex ?? 0;
    const latency = ctx.latencies.attach;
    const attachment = attach(ctx, eni, instance, { deviceIndex, card, deleteOnTermination: false, latency });
    return { AttachmentId: attachment.id, NetworkCardIndex: card };
  },

  DetachNetworkInterface: (ctx, input) => {
    const id = required(input.AttachmentId, 'attachmentId');
    if (id.startsWith('ela-attach-'))
      throw new Ec2Error('OperationNotPermitted', "You are not allowed to manage 'ela-attach' attachments.");
    const eni = Object.values(ctx.draft.state.networkInterfaces).find((e) => e.attachment?.id === id);
    const attachment = eni?.attachment;
    if (!eni || !attachment) throw notFound(resourceWords.attachment, [id]);
    const instance = ctx.draft.state.instances[attachment.instanceId];
    if (
      attachment.deviceIndex === 0 &&
      attachment.networkCardIndex === 0 &&
      instance?.state !== 'terminated'
    ) {
      throw new Ec2Error(
        'OperationNotPermitted',
        'The network interface at device index 0 and networkCard index 0 cannot be detached.',
      );
    }
    if (attachment.status === 'attaching' && !input.Force) {
      throw new Ec2Error(
        'IncorrectState',
        `The attachment '${id}' is 'attaching'; it can be detached when it is 'attached'.`,
      );
    }
    if (attachment.status !== 'detaching') {
      ctx.draft.remove('transitions', `attached:${eni.id}`);
      ctx.draft.put('networkInterfaces', eni.id, {
        ...eni,
        attachment: { ...attachment, status: 'detaching' },
      });
      later(ctx, 'detached', eni.id, ctx.latencies.detach);
    }
    return {};
  },
};
