// Asks EC2 for addresses, /28s and /80s of an ENI that is attached, and returns idle ones. The intent is in the journal before
// the call (a count of blocks that may come, blocks marked as leaving) and the result after it.
import { type Cidr, cidrSize, hostCidr, type Ip, type Ipv4 } from '../../base/ip.ts';
import { CloudError, type EniDescription, type EniId } from '../../cloud/port.ts';
import { type Core, commit, tellListeners, unpause } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { prefixKey } from '../plan/census.ts';
import { densest } from '../plan/dense.ts';
import { sixKey } from '../plan/six.ts';
import { dropStrays, type Eni, newBlock, withEni, withoutEntry, withUnsettled } from '../state.ts';
import { describeOne, whileNew } from './attachment.ts';
import { failed } from './failure.ts';
import { withinLimit } from './learn-limits.ts';
import { setupWith } from './setup.ts';
import { ASKED, ensureRoom, freeInSubnet, isLeftAlone, learnWhatIsLeft } from './subnet-facts.ts';

export type Kind = 'single' | 'prefix' | 'six';

/** Assigns `count` blocks of one kind, or as many as the subnet still has. */
export async function assign(core: Core, eniId: EniId, count: number, kind: Kind): Promise<void> {
  const { subnetId } = core.state.enis.get(eniId)!;
  if (isLeftAlone(core, subnetId)) {
    try {
      await ensureRoom(core, subnetId, 1);
    } catch (error) {
      failed(core, error, [`eni:${eniId}`], subnetId, { eni: eniId, count, kind });
      return;
    }
  }
  const known = core.state.enis.get(eniId);
  if (!known) return;
  const at = core.clock.now();
  const before = withUnsettled(known, count, at);
  commit(core, withEni(core.state, before), { k: 'assigning', id: eniId, count, at });
  let found: Cidr[];
  try {
    found = await (kind === 'six'
      ? whileNew(core, before, () => core.cloud.assignIpv6Prefixes(eniId, count, core.signal))
      : withinLimit(core, eniId, count, (most) => whatFits(core, before, most, kind)));
  } catch (error) {
    if (mayHaveHappened(error)) core.reconcileSoon();
    else if (!core.signal.aborted) {
      const refused = withUnsettled(core.state.enis.get(eniId) ?? before, -count, at);
      commit(core, withEni(core.state, refused), eniRecord(refused));
    }
    // For more than one, `leftInSubnet` has asked.
    const isFull = isCause(error, 'SUBNET_EXHAUSTED') && count === 1;
    // Whether the subnet has IPv6 is part of the cause, too.
    if (isFull || kind === 'six' || isCause(error, 'SUBNET_FRAGMENTED'))
      await learnWhatIsLeft(core, before.subnetId);
    const fields = { eni: eniId, count, kind };
    if (kind === 'six') failed(core, error, [sixKey(eniId)], null, fields);
    else failed(core, error, [`eni:${eniId}`], before.subnetId, fields, kind === 'prefix');
    return;
  }
  core.boundary('assign:answered');
  const prefixes = kind === 'prefix' ? [prefixKey(before.subnetId)] : [];
  if (kind === 'six') unpause(core, 'cloud', sixKey(eniId));
  else unpause(core, 'cloud', `eni:${eniId}`, `subnet:${before.subnetId}`, ...prefixes);
  const eni = core.state.enis.get(eniId) ?? before;
  const now = core.clock.now();
  const blocks = new Map(eni.blocks);
  for (const cidr of found) blocks.set(cidr.ip, newBlock(cidr, now));
  // An address that was returned lately has come again: describes may list it from now on.
  let { returned } = eni;
  for (const cidr of found) returned = withoutEntry(returned, cidr.ip);
  await setupWith(core, withUnsettled({ ...eni, blocks, returned }, -count, now));
}

const mayHaveHappened = (error: unknown): boolean => error instanceof CloudError && error.uncertain;

const isCause = (error: unknown, code: CloudError['code']): boolean =>
  error instanceof CloudError && error.code === code;

async function whatFits(core: Core, eni: Eni, count: number, kind: Exclude<Kind, 'six'>): Promise<Cidr[]> {
  const { cloud, signal } = core;
  if (kind === 'prefix') {
    try {
      return await whileNew(core, eni, () => cloud.assignPrefixes(eni.id, count, signal));
    } catch (error) {
      if (!isCause(error, 'SUBNET_FRAGMENTED') || count < 2) throw error;
      return cloud.assignPrefixes(eni.id, 1, signal);
    }
  }
  const dense = await assignDensely(core, eni, count);
  if (dense) return dense;
  try {
    return hosts(await whileNew(core, eni, () => cloud.assignPrivateIps(eni.id, count, signal)));
  } catch (error) {
    const left = await leftInSubnet(core, error, eni.subnetId, count);
    if (left < 1) throw error;
    return hosts(await cloud.assignPrivateIps(eni.id, left, signal));
  }
}

const hosts = (ips: readonly Ipv4[]): Cidr[] => ips.map(hostCidr);

/** After an answer that the subnet is full: how many of `count` it still has. */
export async function leftInSubnet(
  core: Core,
  error: unknown,
  subnetId: string,
  count: number,
): Promise<number> {
  if (!isCause(error, 'SUBNET_EXHAUSTED') || count < 2 || (error as CloudError).action === ASKED) return 0;
  return Math.min(count - 1, (await freeInSubnet(core, subnetId)) ?? 0);
}

/**
 * In a subnet without whole /28s: names free addresses of those that are the most broken, so that the others become
 * whole again. Null where that does not apply, or when the addresses were taken meanwhile.
 */
async function assignDensely(core: Core, eni: Eni, count: number): Promise<Cidr[] | null> {
  const ips = await densest(core, eni.subnetId, count);
  if (!ips) return null;
  try {
    await core.cloud.assignTheseIps(eni.id, ips, core.signal);
    return hosts(ips);
  } catch (error) {
    if (isCause(error, 'INTERNAL')) return null;
    throw error;
  }
}

/** Returns blocks of one kind to the subnet. */
export async function unassign(core: Core, eniId: EniId, cidrs: readonly Cidr[]): Promise<void> {
  const leaving = withLeaving(core.state.enis.get(eniId)!, cidrs);
  commit(core, withEni(core.state, leaving), eniRecord(leaving));
  core.boundary('unassign:intended');
  const isPrefix = (cidr: Cidr) => cidrSize(cidr) > 1;
  const ips = cidrs.filter((cidr) => !isPrefix(cidr)).map((cidr) => cidr.ip);
  let gone = cidrs;
  try {
    await tellListeners(core);
    await core.cloud.unassign(eniId, { ips, prefixes: cidrs.filter(isPrefix) }, core.signal);
    core.boundary('unassign:answered');
  } catch (error) {
    // A repeated call lists what the first one has already unassigned: EC2 then refuses the whole list.
    const isRefused = error instanceof CloudError && error.ec2Code === 'InvalidParameterValue';
    const left = isRefused ? await blocksOf(core, eniId) : null;
    if (!left || cidrs.every((cidr) => left.has(cidr.ip))) {
      if (!core.signal.aborted && wasNotTaken(error)) await keep(core, eniId, cidrs);
      failed(core, error, [`eni:${eniId}`], null, { eni: eniId, count: cidrs.length });
      return;
    }
    gone = cidrs.filter((cidr) => !left.has(cidr.ip));
  }
  unpause(core, 'cloud', `eni:${eniId}`);
  const after = core.state.enis.get(eniId);
  if (!after) return;
  const now = core.clock.now();
  const shrunk = withoutBlocks(after, gone, now);
  commit(core, dropStrays(withEni(core.state, shrunk), now), eniRecord(shrunk));
  core.log.info({ eni: eniId, count: gone.length }, 'returned idle addresses to the subnet');
}

/** True for an answer that says for sure that the call had no effect, and that says nothing about the blocks. */
const wasNotTaken = (error: unknown): boolean =>
  error instanceof CloudError &&
  !error.uncertain &&
  (error.code === 'CLOUD_THROTTLED' || error.code === 'CLOUD_DENIED');

/** The blocks stay for now: a pod that waits may have them meanwhile. */
async function keep(core: Core, eniId: EniId, cidrs: readonly Cidr[]): Promise<void> {
  const eni = core.state.enis.get(eniId);
  if (!eni) return;
  const blocks = new Map(eni.blocks);
  for (const { ip } of cidrs) {
    const block = blocks.get(ip);
    if (block) blocks.set(ip, { ...block, leaving: false, pending: true });
  }
  await setupWith(core, { ...eni, blocks });
}

function withLeaving(eni: Eni, cidrs: readonly Cidr[]): Eni {
  const blocks = new Map(eni.blocks);
  for (const { ip } of cidrs) blocks.set(ip, { ...blocks.get(ip)!, leaving: true });
  return { ...eni, blocks };
}

function withoutBlocks(eni: Eni, cidrs: readonly Cidr[], now: number): Eni {
  const blocks = new Map(eni.blocks);
  const returned = new Map(eni.returned);
  for (const { ip } of cidrs) {
    blocks.delete(ip);
    returned.set(ip, now);
  }
  return { ...eni, blocks, returned };
}

async function blocksOf(core: Core, eniId: EniId): Promise<Set<Ip> | null> {
  const found: EniDescription | null = await describeOne(core, eniId).catch(() => null);
  return (
    found &&
    new Set<Ip>([...found.addresses, ...found.ipv4Prefixes, ...found.ipv6Prefixes].map((one) => one.ip))
  );
}
