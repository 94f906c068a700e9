// Makes an ENI with its addresses or prefixes in one call, attaches it, and sets it up. Invariant: the creation is in
// the journal, with the client token that makes a repeated create find the first, from before the first call until the
// pool knows the ENI; one that cannot be attached is marked as leaving, and the planner deletes it.
import { randomUUID } from 'node:crypto';
import type { CreateEni, EniDescription } from '../../cloud/port.ts';
import { isNotFound } from '../../cloud/port.ts';
import { type Core, commit, pause, setBusy, setSettled, unpause, unpauseCreation } from '../core.ts';
import { creationRecord, eniRecord } from '../journal/records.ts';
import { sizeOfCreation } from '../plan/aim.ts';
import { prefixKey } from '../plan/census.ts';
import { densest } from '../plan/dense.ts';
import type { Action } from '../plan/plan.ts';
import { type Creation, type Eni, withEni, withEntry, withoutEntry } from '../state.ts';
import { leftInSubnet } from './assign.ts';
import { describeOne, ensureAttached, onceKnown, poll } from './attachment.ts';
import { failed } from './failure.ts';
import { lowerEnis } from './learn-limits.ts';
import { adoptEni } from './observe.ts';
import { setupWith } from './setup.ts';
import { describeContext, ensureRoom, freeInSubnet, isLeftAlone, learnSubnets } from './subnet-facts.ts';
import { ownTags } from './tags.ts';

export function startCreation(core: Core, token: string, action: Action & { kind: 'create' }): Creation {
  const { subnetId, groupIds, networkCard, deviceIndex, count, prefixes, prefixes6 } = action;
  const creation: Creation = {
    ...{ token, subnetId, groupIds, networkCard, deviceIndex, count },
    ...(prefixes ? { prefixes } : {}),
    ...(prefixes6 ? { prefixes6 } : {}),
    since: core.clock.now(),
    eniId: null,
  };
  saveCreation(core, creation);
  core.boundary('create:intended');
  return creation;
}

function saveCreation(core: Core, creation: Creation): void {
  const creations = withEntry(core.state.creations, creation.token, creation);
  commit(core, { ...core.state, creations }, creationRecord(creation));
}

/**
 * Create, attach, delete-on-termination, wait, set up. `resumed`: an earlier run may have done some of these steps.
 * `mayName`: the addresses may be named.
 */
export async function create(
  core: Core,
  begun: Creation,
  resumed: boolean,
  mayName = !resumed,
): Promise<void> {
  let creation = begun;
  try {
    if (creation.eniId === null) {
      // A repeated create names what the first one named: the client token is of its parameters.
      if (!resumed && isLeftAlone(core, creation.subnetId)) await ensureRoom(core, creation.subnetId, 2);
      if (mayName) creation = await named(core, creation);
      const made = await core.cloud.createNetworkInterface(requestOf(core, creation), core.signal);
      core.boundary('create:answered');
      creation = { ...creation, eniId: made.id, mac: made.mac };
      saveCreation(core, creation);
    }
    const eniId = creation.eniId!;
    const attachmentId = await ensureAttached(core, creation, eniId, resumed);
    core.boundary('create:attached');
    creation = { ...creation, taken: true };
    core.state = { ...core.state, creations: withEntry(core.state.creations, creation.token, creation) };
    unpauseCreation(core);
    core.kick();
    await onceKnown(core, () => core.cloud.setDeleteOnTermination(eniId, attachmentId, core.signal));
    const hint = creation.mac === undefined ? undefined : { mac: creation.mac, listed: true };
    const attached = await poll(core, eniId, (eni) => eni?.attachment?.status === 'attached', hint);
    await learnSubnets(core, [attached!.subnetId]);
    const now = core.clock.now();
    const eni: Eni = {
      ...adoptEni(attached!, { ...describeContext(core, now), isForeign: () => false }),
      deleteOnTermination: true,
      phase: 'attached',
      settledAt: now,
    };
    const creations = withoutEntry(core.state.creations, creation.token);
    commit(core, { ...withEni(core.state, eni), creations }, eniRecord(eni), {
      k: 'creation-done',
      token: creation.token,
    });
    const prefixes = creation.prefixes ? [prefixKey(creation.subnetId)] : [];
    unpause(core, ...['cloud', `create:${creation.token}`, `subnet:${creation.subnetId}`, ...prefixes]);
    setBusy(core, eni.id, 0);
    core.log.info({ eni: eni.id, device: eni.deviceIndex, blocks: eni.blocks.size }, 'attached an ENI');
    await setupWith(core, eni).finally(() => setSettled(core, eni.id));
  } catch (error) {
    await creationFailed(core, creation, error, resumed);
  }
}

/** In a subnet without whole /28s the addresses are named, so that they lie in those that are broken already. */
async function named(core: Core, creation: Creation): Promise<Creation> {
  if (creation.prefixes || creation.ips) return creation;
  const ips = await densest(core, creation.subnetId, creation.count + 1);
  if (!ips) return creation;
  const next = { ...creation, ips };
  saveCreation(core, next);
  return next;
}

async function creationFailed(
  core: Core,
  creation: Creation,
  thrown: unknown,
  resumed: boolean,
): Promise<void> {
  if (core.signal.aborted) return;
  const { subnetId, eniId, token } = creation;
  const { count, prefixes } = creation;
  const error = failed(
    core,
    thrown,
    ['create'],
    subnetId,
    { eni: eniId, count, prefixes },
    prefixes !== undefined,
  );
  await lowerEnis(core, thrown);
  // Whether the subnet has IPv6 decides where the next one may stand.
  if (creation.prefixes6 && error.code === 'INTERNAL') await freeInSubnet(core, subnetId).catch(() => null);
  if (error.code === 'CLOUD_UNREACHABLE' || error.code === 'CLOUD_THROTTLED') {
    // The call may have succeeded: a retry with the same token finds the ENI.
    pause(core, `create:${token}`, thrown);
    return;
  }
  const creations = withoutEntry(core.state.creations, token);
  const done = { k: 'creation-done', token } as const;
  if (eniId === null) commit(core, { ...core.state, creations }, done);
  else {
    const described = await onceKnown(core, () => describeOne(core, eniId)).catch(() => null);
    const orphan = described ? leavingEni(core, described) : null;
    if (orphan) commit(core, { ...withEni(core.state, orphan), creations }, eniRecord(orphan), done);
    else if (isNotFound(thrown)) commit(core, { ...core.state, creations }, done);
    else pause(core, `create:${token}`, thrown);
  }
  // An earlier try, whose answer was lost, may have made it.
  core.reconcileSoon(resumed && eniId === null);
  if (eniId !== null) return;
  const smaller = await smallerOne(core, creation, thrown).catch(() => null);
  if (smaller) await createSmaller(core, creation, smaller);
}

/** What the subnet still has of a creation that it had no room for, asked for once with a new token; null for nothing. */
async function smallerOne(
  core: Core,
  { subnetId, count, prefixes, ips }: Creation,
  thrown: unknown,
): Promise<Pick<Creation, 'count' | 'prefixes'> | null> {
  const code = isNotFound(thrown) ? null : (thrown as { code?: string }).code;
  if (prefixes && prefixes > 1 && code === 'SUBNET_FRAGMENTED') return { count: 0, prefixes: 1 };
  // Somebody who is no interface has a named address: EC2 chooses.
  if (ips && code === 'INTERNAL') return { count };
  // The ENI itself takes one address.
  const left = await leftInSubnet(core, thrown, subnetId, count + 1);
  return left < 2 || left > count ? null : { count: left - 1 };
}

async function createSmaller(
  core: Core,
  creation: Creation,
  { count, prefixes }: Pick<Creation, 'count' | 'prefixes'>,
): Promise<void> {
  const token = randomUUID();
  const { subnetId, groupIds, networkCard, deviceIndex, prefixes6 } = creation;
  const action = {
    ...{ kind: 'create' as const, subnetId, groupIds, networkCard, deviceIndex, count },
    ...(prefixes ? { prefixes } : {}),
    ...(prefixes6 ? { prefixes6 } : {}),
  };
  setBusy(core, token, sizeOfCreation(action));
  await create(core, startCreation(core, token, action), false, false).finally(() => setSettled(core, token));
}

/** Builds the pool's entry for an ENI that EC2 has and that the pool is to delete. */
export function leavingEni(core: Core, described: EniDescription): Eni {
  const now = core.clock.now();
  return { ...adoptEni(described, describeContext(core, now)), phase: 'leaving', primary: false };
}

function requestOf(core: Core, creation: Creation): CreateEni {
  const identity = core.identity;
  return {
    subnetId: creation.subnetId,
    groupIds: creation.groupIds,
    description: `podway ${identity.instanceId}`,
    secondaryCount: creation.count,
    ...(creation.prefixes ? { prefixCount: creation.prefixes } : {}),
    ...(creation.prefixes6 ? { ipv6PrefixCount: creation.prefixes6 } : {}),
    ...(creation.ips ? { ips: creation.ips } : {}),
    tags: ownTags(core.tags, identity.instanceId, creation.since),
    clientToken: creation.token,
  };
}
