// What comes true later: transitions that are due, applied to a draft in the order of their times. Pure over the draft.

import { interfacesOf } from './actions/attachments.ts';
import { dropGivenPublicIps } from './actions/elastic-ips.ts';
import { removeInterface } from './actions/interfaces.ts';
import { forgetNatGateways, natGatewayComesTrue, natGatewayEnds } from './actions/nat-gateways.ts';
import type { Context, LabState, Transition } from './context.ts';

/** EC2 shows a terminated instance for about an hour. */
const TERMINATED_SHOWN_MS = 3_600_000;

export const nextDue = (state: LabState): number | undefined => {
  const times = Object.values(state.transitions).map((transition) => transition.due);
  return times.length ? Math.min(...times) : undefined;
};

/** Applies everything due at `ctx.now`; terminated instances whose hour is over go. */
export function settle(ctx: Context): void {
  const due = Object.values(ctx.draft.state.transitions).filter((transition) => transition.due <= ctx.now);
  due.sort((a, b) => a.due - b.due);
  for (const transition of due) {
    // An earlier one of this round may have overtaken it.
    if (!Object.hasOwn(ctx.draft.state.transitions, transition.id)) continue;
    ctx.draft.remove('transitions', transition.id);
    comeTrue(ctx, transition);
  }
  for (const instance of Object.values(ctx.draft.state.instances)) {
    if (instance.terminatedAt !== undefined && instance.terminatedAt + TERMINATED_SHOWN_MS <= ctx.now) {
      ctx.draft.remove('instances', instance.id);
    }
  }
  forgetNatGateways(ctx);
}

function comeTrue(ctx: Context, { kind, objectId }: Transition): void {
  const { draft } = ctx;
  const eni = draft.state.networkInterfaces[objectId];
  const instance = draft.state.instances[objectId];
  switch (kind) {
    case 'interface-available':
      if (eni?.status === 'pending') draft.put('networkInterfaces', eni.id, { ...eni, status: 'available' });
      return;
    case 'attached':
      if (eni?.attachment) {
        draft.put('networkInterfaces', eni.id, {
          ...eni,
          attachment: { ...eni.attachment, status: 'attached' },
        });
      }
      return;
    case 'detached':
      if (eni) {
        const { attachment: _, ...free } = eni;
        draft.put('networkInterfaces', eni.id, { ...free, status: 'available' });
      }
      return;
    case 'nat-gateway-available':
      natGatewayComesTrue(ctx, objectId);
      return;
    case 'nat-gateway-deleted':
      natGatewayEnds(ctx, objectId);
      return;
    case 'instance-running':
      if (instance?.state === 'pending')
        draft.put('instances', instance.id, { ...instance, state: 'running' });
      return;
    case 'instance-stopped':
      if (instance?.state === 'stopping')
        draft.put('instances', instance.id, { ...instance, state: 'stopped' });
      return;
    case 'instance-terminated':
      if (!instance) return;
      for (const one of interfacesOf(draft.state, instance.id)) {
        dropGivenPublicIps(ctx, one.id);
        const { attachment, ...free } = one;
        const available = { ...free, status: 'available' as const };
        if (attachment?.deleteOnTermination) removeInterface(ctx, available);
        else {
          draft.remove('transitions', `attached:${one.id}`);
          draft.remove('transitions', `detached:${one.id}`);
          draft.put('networkInterfaces', one.id, available);
        }
      }
      draft.put('instances', instance.id, { ...instance, state: 'terminated', terminatedAt: ctx.now });
      return;
  }
}
