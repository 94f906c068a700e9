// Restores what running pods lost in EC2: an unassigned address, a detached ENI. EC2 refuses to move an address that
// another interface holds, so nothing is taken from others. An address that another interface has is reported and not
// used; no hold ends. A failure is paused and tried again, as with other actions.
import { isEgress } from '../../base/egress.ts';
import {
  type Cidr,
  cidrContains,
  cidrSize,
  familyOf,
  formatCidr,
  formatIp,
  hostCidr,
  type Ip,
  type Ipv4,
} from '../../base/ip.ts';
import { CloudError, type EniId, isNotFound } from '../../cloud/port.ts';
import { type Core, commit, pause, setBusy, setSettled, unpause } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { slotsPerEni } from '../plan/aim.ts';
import {
  blockHolding,
  type Eni,
  type Lease,
  newBlock,
  type Taken,
  withEni,
  withEntry,
  withoutEni,
  withoutEntry,
} from '../state.ts';
import { describeOne, onceKnown, poll } from './attachment.ts';
import { failed } from './failure.ts';

/** What happens to an address while a pod holds it; told once for each change. */
export type AddressNews = {
  /** `taken`: EC2 no longer routes it here and cannot be asked to. `restored`: it does again. */
  kind: 'taken' | 'restored';
  ip: Ip;
  lease: Lease;
  text: string;
};

/** Assigns held addresses, and prefixes with held addresses, to their ENI again. */
export async function reassign(
  core: Core,
  eniId: EniId,
  ips: readonly Ip[],
  prefixes: readonly Cidr[],
): Promise<void> {
  for (const prefix of prefixes) if (!(await reassignPrefix(core, eniId, prefix))) return;
  if (ips.length > 0) await reassignIps(core, eniId, ips);
}

/**
 * A prefix that EC2 refuses is forgotten, and its held addresses are asked for singly next, if the ENI has slots for
 * them; else they are taken until EC2 assigns it. False after another failure.
 */
async function reassignPrefix(core: Core, eniId: EniId, prefix: Cidr): Promise<boolean> {
  const fields = { eni: eniId, prefix: formatCidr(prefix) };
  const inPrefix = () => heldBy(core, eniId).filter((ip) => cidrContains(prefix, ip));
  const isSix = familyOf(prefix.ip) === 6;
  let isBack = true;
  try {
    const { cloud, signal } = core;
    await (isSix ? cloud.assignTheseIpv6Prefixes : cloud.assignThesePrefixes).call(
      cloud,
      eniId,
      [prefix],
      signal,
    );
  } catch (error) {
    if (!isRefusal(error)) {
      const { transient, message } = failed(core, error, [`eni:${eniId}`], null, fields);
      if (!transient) noteTaken(core, whyTaken(inPrefix(), message));
      return false;
    }
    // A describe may have lagged.
    const seen = await describeOne(core, eniId).catch(() => null);
    const listed = (isSix ? seen?.ipv6Prefixes : seen?.ipv4Prefixes) ?? [];
    isBack = listed.some((one) => one.ip === prefix.ip);
  }
  const eni = core.state.enis.get(eniId);
  const block = eni?.blocks.get(prefix.ip);
  if (!eni || !block) return true;
  unpause(core, 'cloud', `eni:${eniId}`);
  const held = inPrefix();
  // Single IPv6 addresses are not the pool's.
  if (!isBack && (isSix || held.length > slotsPerEni(core.limits) - eni.blocks.size + 1)) {
    noteTaken(core, whyTaken(held, `${formatCidr(prefix)} is in use elsewhere`));
    return true;
  }
  const blocks = isBack
    ? withEntry(eni.blocks, prefix.ip, { ...block, missingSince: null, pending: true })
    : withoutEntry(eni.blocks, prefix.ip);
  const next: Eni = { ...eni, blocks };
  commit(core, withEni(core.state, next), eniRecord(next));
  core.log.warn(
    fields,
    isBack
      ? 'assigned a prefix again that pods hold addresses of and that EC2 had taken away'
      : 'EC2 does not assign a prefix again; its held addresses are asked for singly',
  );
  if (isBack) noteRestored(core, held);
  return true;
}

const whyTaken = (ips: readonly Ip[], message: string): Map<Ip, string> =>
  new Map(ips.map((ip) => [ip, `EC2 does not assign it again: ${message}`]));

async function reassignIps(core: Core, eniId: EniId, ips: readonly Ip[]): Promise<void> {
  const fields = { eni: eniId, addresses: ips.map(formatIp) };
  let back: readonly Ip[] = ips;
  try {
    await core.cloud.assignTheseIps(eniId, ips as Ipv4[], core.signal);
  } catch (error) {
    // The call assigns all or none, and EC2 has several codes for an address in use: ask which interfaces have them.
    const holders = isRefusal(error) ? await holdersOf(core, eniId, ips).catch(() => null) : null;
    const others = [...(holders ?? [])].filter(([, holder]) => holder !== eniId);
    back = [...(holders ?? [])].filter(([, holder]) => holder === eniId).map(([ip]) => ip);
    const taken = new Map<Ip, string>();
    for (const [ip, holder] of others)
      if (!(await giveUp(core, holder, ip))) taken.set(ip, `EC2 has given it to ${holder}`);
    noteTaken(core, taken);
    if (!holders || holders.size === 0) {
      const { transient, message } = failed(core, error, [`eni:${eniId}`], null, fields);
      if (!transient) noteTaken(core, whyTaken(ips, message));
      return;
    }
  }
  const eni = core.state.enis.get(eniId);
  if (!eni || back.length === 0) return;
  unpause(core, 'cloud', `eni:${eniId}`);
  const now = core.clock.now();
  const blocks = new Map(eni.blocks);
  for (const ip of back) {
    const known = blocks.get(ip);
    const block = known && cidrSize(known.cidr) === 1 ? known : newBlock(hostCidr(ip), now);
    blocks.set(ip, { ...block, missingSince: null, pending: true });
  }
  const whole: Eni = { ...eni, blocks };
  commit(core, withEni(core.state, whole), eniRecord(whole));
  core.log.warn(
    { eni: eniId, addresses: back.map(formatIp) },
    'assigned addresses again that pods hold and that EC2 had taken away',
  );
  noteRestored(core, back);
}

/**
 * EC2 may have assigned the address to another ENI of this node when the pool asked for more: there it is useless and
 * is unassigned. False when a foreign interface has it, or when it is that ENI's primary address.
 */
async function giveUp(core: Core, holder: EniId, ip: Ip): Promise<boolean> {
  const block = core.state.enis.get(holder)?.blocks.get(ip);
  if (!block || block.foreign || core.state.busy.has(holder)) return false;
  setBusy(core, holder, 0);
  try {
    await core.cloud.unassign(holder, { ips: [ip as Ipv4], prefixes: [] }, core.signal);
    const eni = core.state.enis.get(holder)!;
    const now = core.clock.now();
    const without: Eni = {
      ...eni,
      blocks: withoutEntry(eni.blocks, ip),
      returned: withEntry(eni.returned, ip, now),
    };
    commit(core, withEni(core.state, without), eniRecord(without));
    return true;
  } catch (error) {
    failed(core, error, [`eni:${holder}`], null, { eni: holder, address: formatIp(ip) });
    return false;
  } finally {
    setSettled(core, holder);
  }
}

const isRefusal = (error: unknown): boolean => error instanceof CloudError && error.code === 'INTERNAL';

/** The interface of each address; addresses without an interface are left out. */
async function holdersOf(core: Core, eniId: EniId, ips: readonly Ip[]): Promise<Map<Ip, EniId>> {
  const { subnetId } = core.state.enis.get(eniId)!;
  const found = await core.cloud.describeNetworkInterfaces(
    { kind: 'addresses', subnetId, ips: ips as Ipv4[] },
    core.signal,
  );
  const holders = new Map<Ip, EniId>();
  for (const eni of found) for (const { ip } of eni.addresses) if (ips.includes(ip)) holders.set(ip, eni.id);
  return holders;
}

/** Attaches an ENI whose addresses pods hold again, at its former device index and card. */
export async function reattach(core: Core, eniId: EniId): Promise<void> {
  const { instanceId } = core.identity;
  const eni = core.state.enis.get(eniId)!;
  const { deviceIndex, networkCard } = eni;
  try {
    const free = await poll(core, eniId, (found) => found?.attachment?.status !== 'detaching');
    if (!free) return forget(core, eni);
    let attachmentId = free.attachment?.id;
    if (free.attachment && free.attachment.instanceId !== instanceId) {
      const text = `${eniId} is attached to ${free.attachment.instanceId}`;
      noteTaken(core, new Map(heldBy(core, eniId).map((ip) => [ip, text])));
      pause(core, `eni:${eniId}`, new CloudError('AttachNetworkInterface', 'InUse', text));
      return;
    }
    attachmentId ??= await core.cloud.attachNetworkInterface(
      { eniId, instanceId, deviceIndex, networkCard },
      core.signal,
    );
    const id = attachmentId;
    if (!eni.primary) await onceKnown(core, () => core.cloud.setDeleteOnTermination(eniId, id, core.signal));
    const hint = { mac: eni.mac, listed: true };
    await poll(core, eniId, (found) => found?.attachment?.status === 'attached', hint);
    const now = core.clock.now();
    const attached: Eni = {
      ...(core.state.enis.get(eniId) ?? eni),
      attachmentId: id,
      deleteOnTermination: true,
      missingSince: null,
      phase: 'attached',
      settledAt: now,
    };
    commit(core, withEni(core.state, attached), eniRecord(attached));
    unpause(core, 'cloud', `eni:${eniId}`);
    core.log.warn({ eni: eniId, device: deviceIndex }, 'attached an ENI again that was taken from its pods');
    noteRestored(core, heldBy(core, eniId));
  } catch (error) {
    if (isNotFound(error)) await forgetIfGone(core, eni, error);
    else failed(core, error, [`eni:${eniId}`], null, { eni: eniId });
  }
}

async function forgetIfGone(core: Core, eni: Eni, error: unknown): Promise<void> {
  const isGone = await describeOne(core, eni.id).then(() => false, isNotFound);
  if (isGone) forget(core, eni);
  else failed(core, error, [`eni:${eni.id}`], null, { eni: eni.id });
}

/** The ENI no longer exists: EC2 routes none of its held addresses to this node. */
function forget(core: Core, eni: Eni): void {
  const held = heldBy(core, eni.id);
  const at = core.clock.now();
  commit(core, withoutEni(core.state, eni.id, at), { k: 'eni-gone', id: eni.id, at });
  noteTaken(core, new Map(held.map((ip) => [ip, `${eni.id} was deleted`])));
}

function heldBy(core: Core, eniId: EniId): Ip[] {
  const ips: Ip[] = [];
  for (const [ip, use] of core.state.uses)
    if (use.kind === 'held' && use.lease.eni?.id === eniId) ips.push(ip);
  return ips;
}

/**
 * After a describe: marks held addresses as taken when their ENI is not on this node and cannot be attached again, and
 * unmarks those that EC2 lists on their ENI again.
 */
export function noteHeld(core: Core): void {
  const { enis, taken, unsure } = core.state;
  const why = new Map<Ip, string>();
  const back: Ip[] = [];
  for (const [ip, use] of core.state.uses) {
    if (use.kind !== 'held' || use.lease.branch || isEgress(ip)) continue;
    const id = use.lease.eni?.id;
    const eni = id === undefined ? undefined : enis.get(id);
    if (taken.has(ip)) {
      if (eni?.missingSince === null && blockHolding(eni, ip)?.missingSince === null) back.push(ip);
    } else if (id === undefined) {
      if (!unsure) why.set(ip, 'no ENI of this instance has it');
    } else if (!eni) why.set(ip, `${id} is not this instance's any more`);
  }
  noteTaken(core, why);
  if (back.length > 0) noteRestored(core, back);
}

function noteTaken(core: Core, why: ReadonlyMap<Ip, string>): void {
  if (why.size === 0) return;
  const since = core.clock.now();
  const taken = new Map<Ip, Taken>(core.state.taken);
  const news: AddressNews[] = [];
  for (const [ip, text] of why) {
    const use = core.state.uses.get(ip);
    if (use?.kind !== 'held') continue;
    if (taken.get(ip)?.why !== text) news.push({ kind: 'taken', ip, lease: use.lease, text });
    taken.set(ip, { since, why: text });
  }
  core.state = { ...core.state, taken };
  tell(core, news);
}

function noteRestored(core: Core, ips: readonly Ip[]): void {
  const taken = new Map(core.state.taken);
  const news: AddressNews[] = [];
  for (const ip of ips) {
    const use = core.state.uses.get(ip);
    if (taken.delete(ip) && use?.kind === 'held')
      news.push({ kind: 'restored', ip, lease: use.lease, text: 'EC2 routes it here again' });
  }
  core.state = { ...core.state, taken };
  tell(core, news);
}

function tell(core: Core, news: readonly AddressNews[]): void {
  for (const one of news) core.onNews(one);
}
