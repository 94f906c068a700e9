// Carries out the planner's actions against EC2. Each writes its intent to the journal before the first call (a
// creation, an ENI or block marked as leaving) and its result after the last one, so that after a kill the planner can
// finish the action. One action per ENI runs at a time; a failure pauses only what failed.
import { randomUUID } from 'node:crypto';
import type { EniId } from '../../cloud/port.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import { type Core, commit, setBusy, setSettled, tellListeners, unpause } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { sizeOfCreation } from '../plan/aim.ts';
import type { Action } from '../plan/plan.ts';
import { dropStrays, type Eni, withEni, withoutEni } from '../state.ts';
import { assign, unassign } from './assign.ts';
import { detach, ignoreNotFound, whileNew } from './attachment.ts';
import { create, startCreation } from './create.ts';
import { failed } from './failure.ts';
import { reassign, reattach } from './restore.ts';
import { setup } from './setup.ts';

/**
 * Starts an action; everything up to its first cloud call happens before this returns. Rejects only for errors other
 * than EC2's, such as a journal that cannot be written.
 */
export async function runAction(core: Core, action: Action): Promise<void> {
  const key = keyOf(action);
  const token = action.kind === 'create' ? randomUUID() : key;
  setBusy(core, token, incomingOf(action));
  try {
    await start(core, action, token);
  } finally {
    setSettled(core, token, action.kind !== 'setup');
  }
}

function start(core: Core, action: Action, token: string): Promise<void> {
  switch (action.kind) {
    case 'create':
      return create(core, startCreation(core, token, action), false);
    case 'resume':
      return create(core, action.creation, true);
    case 'assign':
      return assign(core, action.eniId, action.count, 'single');
    case 'assign-prefixes':
      return assign(core, action.eniId, action.count, 'prefix');
    case 'assign-six':
      return assign(core, action.eniId, 1, 'six');
    case 'unassign':
      return unassign(core, action.eniId, action.blocks);
    case 'setup':
      return setup(core, action.eniId);
    case 'reassign':
      return reassign(core, action.eniId, action.ips, action.prefixes);
    case 'reattach':
      return reattach(core, action.eniId);
    case 'remove':
      return remove(core, action.eniId);
  }
}

/** Addresses that the action will bring. */
function incomingOf(action: Action): number {
  if (action.kind === 'assign') return action.count;
  if (action.kind === 'assign-prefixes') return action.count * PREFIX_SIZE;
  if (action.kind === 'create') return sizeOfCreation(action);
  return action.kind === 'resume' ? sizeOfCreation(action.creation) : 0;
}

const keyOf = (action: Action): string => {
  if (action.kind === 'create') return '';
  return action.kind === 'resume' ? action.creation.token : action.eniId;
};

async function remove(core: Core, eniId: EniId): Promise<void> {
  const eni = core.state.enis.get(eniId)!;
  const leaving: Eni = { ...eni, phase: 'leaving' };
  if (eni.phase !== 'leaving') commit(core, withEni(core.state, leaving), eniRecord(leaving));
  core.boundary('remove:intended');
  try {
    await tellListeners(core);
    const isOff = await detach(core, leaving, eni.phase === 'leaving');
    core.boundary('remove:detached');
    if (isOff)
      await ignoreNotFound(
        whileNew(core, leaving, () => core.cloud.deleteNetworkInterface(eniId, core.signal)),
      );
    else core.log.warn({ eni: eniId }, 'another instance has the ENI now: it is left alone');
    core.boundary('remove:deleted');
  } catch (error) {
    failed(core, error, [`eni:${eniId}`], null, { eni: eniId });
    return;
  }
  const now = core.clock.now();
  commit(core, dropStrays(withoutEni(core.state, eniId, now), now), { k: 'eni-gone', id: eniId, at: now });
  unpause(core, 'cloud');
  core.log.info({ eni: eniId, device: eni.deviceIndex }, 'detached and deleted an idle ENI');
}
