// Carries out the planner's actions against EC2. Each writes its intent to the journal before the first call (a
// creation, an ENI or block marked as leaving) and its result after the last one, so that after a kill the planner can
// finish the action. One action per ENI runs at a time; a failure pauses only what failed.
import { randomUUID } from 'node:crypto';
import { hostCidr, type Ip, type Ipv4 } from '../base/ip.ts';
import { CloudError, type EniDescription, type EniId, isNotFound } from '../cloud/port.ts';
import {
  describeOne,
  detach,
  ensureAttached,
  ignoreNotFound,
  onceKnown,
  poll,
  whileNew,
} from './attachment.ts';
import { type Core, commit, pause, setBusy, setSettled, tellListeners, unpause } from './core.ts';
import { failed } from './failure.ts';
import { adoptEni, type DescribeContext } from './observe.ts';
import type { Action } from './plan.ts';
import { eniRecord } from './records.ts';
import { reassign, reattach } from './restore.ts';
import {
  type Creation,
  dropStrays,
  type Eni,
  newBlock,
  toldEni,
  withEni,
  withEntry,
  withoutEni,
  withoutEntry,
  withUnsettled,
} from './state.ts';
import { ownTags, TAG_CLUSTER } from './tags.ts';

/**
 * Starts an action; everything up to its first cloud call happens before this returns. Rejects only for errors other
 * than EC2's, such as a journal that cannot be written.
 */
export async function runAction(core: Core, action: Action): Promise<void> {
  const key = keyOf(action);
  const token = action.kind === 'create' ? randomUUID() : key;
  const incoming =
    action.kind === 'assign' || action.kind === 'create'
      ? action.count
      : action.kind === 'resume'
        ? action.creation.count
        : 0;
  setBusy(core, token, incoming);
  try {
    if (action.kind === 'create') await create(core, startCreation(core, token, action), false);
    else if (action.kind === 'resume') await create(core, action.creation, true);
    else if (action.kind === 'assign') await assign(core, action.eniId, action.count);
    else if (action.kind === 'unassign')
      await unassign(
        core,
        action.eniId,
        action.blocks.map((block) => block.ip),
      );
    else if (action.kind === 'setup') await setup(core, action.eniId);
    else if (action.kind === 'reassign') await reassign(core, action.eniId, action.ips);
    else if (action.kind === 'reattach') await reattach(core, action.eniId);
    else await remove(core, action.eniId);
  } finally {
    setSettled(core, token, action.kind !== 'setup');
  }
}

const keyOf = (action: Action): string => {
  if (action.kind === 'create') return '';
  return action.kind === 'resume' ? action.creation.token : action.eniId;
};

async function assign(core: Core, eniId: EniId, count: number): Promise<void> {
  const at = core.clock.now();
  const before = withUnsettled(core.state.enis.get(eniId)!, count, at);
  commit(core, withEni(core.state, before), { k: 'assigning', id: eniId, count, at });
  let ips: Ipv4[];
  try {
    ips = await assignWhatFits(core, before, count);
  } catch (error) {
    if (mayHaveHappened(error)) core.reconcileSoon();
    else if (!core.signal.aborted) {
      const refused = withUnsettled(core.state.enis.get(eniId) ?? before, -count, at);
      commit(core, withEni(core.state, refused), eniRecord(refused));
    }
    failed(core, error, [`eni:${eniId}`], before.subnetId, { eni: eniId, count });
    return;
  }
  core.boundary('assign:answered');
  unpause(core, 'cloud', `eni:${eniId}`, `subnet:${before.subnetId}`);
  const eni = core.state.enis.get(eniId) ?? before;
  const now = core.clock.now();
  const blocks = new Map(eni.blocks);
  for (const ip of ips) blocks.set(ip, newBlock(hostCidr(ip), now));
  await setupWith(core, withUnsettled({ ...eni, blocks }, -count, now));
}

const mayHaveHappened = (error: unknown): boolean =>
  error instanceof CloudError && error.uncertain && error.code !== 'CLOUD_THROTTLED';

/** Assigns `count` addresses, or all that the subnet still has when that is less. */
async function assignWhatFits(core: Core, eni: Eni, count: number): Promise<Ipv4[]> {
  try {
    return await whileNew(core, eni, () => core.cloud.assignPrivateIps(eni.id, count, core.signal));
  } catch (error) {
    const left = await leftInSubnet(core, error, eni.subnetId, count);
    if (left < 1) throw error;
    return core.cloud.assignPrivateIps(eni.id, left, core.signal);
  }
}

/** After an answer that the subnet is full: how many of `count` it still has. */
async function leftInSubnet(core: Core, error: unknown, subnetId: string, count: number): Promise<number> {
  if (!(error instanceof CloudError) || error.code !== 'SUBNET_EXHAUSTED' || count < 2) return 0;
  const [subnet] = await core.cloud.describeSubnets([subnetId], core.signal);
  return Math.min(count - 1, subnet?.availableIps ?? 0);
}

async function unassign(core: Core, eniId: EniId, ips: readonly Ip[]): Promise<void> {
  const eni = core.state.enis.get(eniId)!;
  const blocks = new Map(eni.blocks);
  for (const ip of ips) blocks.set(ip, { ...blocks.get(ip)!, leaving: true });
  const leaving: Eni = { ...eni, blocks };
  commit(core, withEni(core.state, leaving), eniRecord(leaving));
  core.boundary('unassign:intended');
  let gone = ips;
  try {
    await tellListeners(core);
    await core.cloud.unassign(eniId, { ips: ips as Ipv4[], prefixes: [] }, core.signal);
    core.boundary('unassign:answered');
  } catch (error) {
    // A repeated call lists addresses that the first one has already unassigned: EC2 then refuses the whole list.
    const left =
      error instanceof CloudError && error.ec2Code === 'InvalidParameterValue'
        ? await addressesOf(core, eniId)
        : null;
    if (!left || ips.every((ip) => left.has(ip))) {
      failed(core, error, [`eni:${eniId}`], null, { eni: eniId, count: ips.length });
      return;
    }
    gone = ips.filter((ip) => !left.has(ip));
  }
  unpause(core, 'cloud', `eni:${eniId}`);
  const after = core.state.enis.get(eniId);
  if (!after) return;
  const now = core.clock.now();
  const rest = new Map(after.blocks);
  const returned = new Map(after.returned);
  for (const ip of gone) {
    rest.delete(ip);
    returned.set(ip, now);
  }
  const shrunk: Eni = { ...after, blocks: rest, returned };
  commit(core, dropStrays(withEni(core.state, shrunk), now), eniRecord(shrunk));
  core.log.info({ eni: eniId, count: gone.length }, 'returned idle addresses to the subnet');
}

async function addressesOf(core: Core, eniId: EniId): Promise<Set<Ip> | null> {
  const found = await describeOne(core, eniId).catch(() => null);
  return found ? new Set(found.addresses.map((one) => one.ip)) : null;
}

async function setup(core: Core, eniId: EniId): Promise<void> {
  const eni = core.state.enis.get(eniId)!;
  const { attachmentId } = eni;
  if (!eni.primary && !eni.deleteOnTermination && attachmentId) {
    try {
      await whileNew(core, eni, () => core.cloud.setDeleteOnTermination(eniId, attachmentId, core.signal));
    } catch (error) {
      failed(core, error, [`eni:${eniId}`], null, { eni: eniId });
      return;
    }
  }
  await setupWith(core, { ...(core.state.enis.get(eniId) ?? eni), deleteOnTermination: true });
}

/** Tells the node's network about the ENI; its addresses may be given out only after that. */
async function setupWith(core: Core, eni: Eni): Promise<void> {
  commit(core, withEni(core.state, eni), eniRecord(eni));
  const told = new Set(eni.blocks.keys());
  try {
    await tellListeners(core);
  } catch (error) {
    pause(core, `eni:${eni.id}`, error);
    core.log.warn({ eni: eni.id, error: String(error) }, 'the network of the node cannot take the ENI yet');
    return;
  }
  const now = core.state.enis.get(eni.id);
  if (!now) return;
  const ready = toldEni(now, told);
  commit(core, withEni(core.state, ready), eniRecord(ready));
}

function startCreation(core: Core, token: string, action: Action & { kind: 'create' }): Creation {
  const { subnetId, groupIds, networkCard, deviceIndex, count } = action;
  const creation: Creation = {
    token,
    subnetId,
    groupIds,
    networkCard,
    deviceIndex,
    count,
    since: core.clock.now(),
    eniId: null,
  };
  saveCreation(core, creation);
  core.boundary('create:intended');
  return creation;
}

function saveCreation(core: Core, creation: Creation): void {
  const creations = withEntry(core.state.creations, creation.token, creation);
  commit(core, { ...core.state, creations }, { k: 'creation', creation });
}

/** Create, attach, delete-on-termination, wait, set up. `resumed`: an earlier run may have done some of these steps. */
async function create(core: Core, begun: Creation, resumed: boolean): Promise<void> {
  let creation = begun;
  try {
    if (creation.eniId === null) {
      const made = await core.cloud.createNetworkInterface(requestOf(core, creation), core.signal);
      core.boundary('create:answered');
      creation = { ...creation, eniId: made.id };
      saveCreation(core, creation);
    }
    const eniId = creation.eniId!;
    const attachmentId = await ensureAttached(core, creation, eniId, resumed);
    core.boundary('create:attached');
    await onceKnown(core, () => core.cloud.setDeleteOnTermination(eniId, attachmentId, core.signal));
    const attached = await poll(core, eniId, (eni) => eni?.attachment?.status === 'attached');
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
    unpause(core, 'cloud', 'create', `create:${creation.token}`, `subnet:${creation.subnetId}`);
    setBusy(core, eni.id, 0);
    core.log.info({ eni: eni.id, device: eni.deviceIndex, addresses: eni.blocks.size }, 'attached an ENI');
    await setupWith(core, eni).finally(() => setSettled(core, eni.id));
  } catch (error) {
    await creationFailed(core, creation, error, resumed);
  }
}

async function creationFailed(
  core: Core,
  creation: Creation,
  thrown: unknown,
  resumed: boolean,
): Promise<void> {
  if (core.signal.aborted) return;
  const error = failed(core, thrown, ['create'], creation.subnetId, {
    eni: creation.eniId,
    count: creation.count,
  });
  if (error.code === 'CLOUD_UNREACHABLE' || error.code === 'CLOUD_THROTTLED') {
    // The call may have succeeded: a retry with the same token finds the ENI.
    pause(core, `create:${creation.token}`, thrown);
    return;
  }
  const creations = withoutEntry(core.state.creations, creation.token);
  const done = { k: 'creation-done', token: creation.token } as const;
  if (creation.eniId === null) commit(core, { ...core.state, creations }, done);
  else {
    // An ENI that was made and cannot be attached is marked as leaving, and the planner deletes it.
    const made = creation.eniId;
    const described = await onceKnown(core, () => describeOne(core, made)).catch(() => null);
    const orphan = described ? leavingEni(core, described) : null;
    if (orphan) commit(core, { ...withEni(core.state, orphan), creations }, eniRecord(orphan), done);
    else if (isNotFound(thrown)) commit(core, { ...core.state, creations }, done);
    else pause(core, `create:${creation.token}`, thrown);
  }
  // An earlier try, whose answer was lost, may have made it.
  core.reconcileSoon(resumed && creation.eniId === null);
  if (error.code !== 'SUBNET_EXHAUSTED' || creation.eniId !== null) return;
  // The ENI itself takes one address. The rest of the subnet's addresses are requested once, with a new token.
  const left = await leftInSubnet(core, thrown, creation.subnetId, creation.count + 1).catch(() => 0);
  if (left < 2 || left > creation.count) return;
  const token = randomUUID();
  const smaller = { kind: 'create', ...creation, count: left - 1 } as const;
  setBusy(core, token, smaller.count);
  await create(core, startCreation(core, token, smaller), false).finally(() => setSettled(core, token));
}

/** Builds the pool's entry for an ENI that EC2 has and that the pool is to delete. */
export function leavingEni(core: Core, described: EniDescription): Eni {
  const now = core.clock.now();
  return { ...adoptEni(described, describeContext(core, now)), phase: 'leaving', primary: false };
}

function requestOf(core: Core, creation: Creation) {
  const identity = core.identity;
  return {
    subnetId: creation.subnetId,
    groupIds: creation.groupIds,
    description: `podway ${identity.instanceId}`,
    secondaryCount: creation.count,
    tags: ownTags(core.tags, identity.instanceId, creation.since),
    clientToken: creation.token,
  };
}

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

export async function learnSubnets(core: Core, ids: readonly string[]): Promise<void> {
  const unknown = [...new Set(ids)].filter((id) => !core.subnetCidrs.has(id));
  if (unknown.length === 0) return;
  for (const subnet of await core.cloud.describeSubnets(unknown, core.signal))
    core.subnetCidrs.set(subnet.id, subnet.cidr);
}

export function describeContext(core: Core, beganAt: number): DescribeContext {
  let used: ReadonlySet<Ip> | undefined;
  return {
    instanceId: core.identity.instanceId,
    cluster: core.tags[TAG_CLUSTER],
    primaryEniId: core.identity.primary.eniId,
    subnetCidrs: core.subnetCidrs,
    beganAt,
    now: core.clock.now(),
    isForeign: (address) => {
      if (core.state.uses.get(address.ip)?.kind === 'held') return false;
      used ??= core.addressesOnLinks();
      return address.public || used.has(address.ip);
    },
  };
}
