// Attaches an ENI to this instance, detaches it, and waits until EC2 has done so. Each may be repeated after a crash: a
// step that is already done counts as success. Fails with CloudError, `AttachmentStuck` when EC2 takes too long: that
// concerns the one ENI, and is no sign that EC2 is away.

import type { Mac } from '../../base/mac.ts';
import { CloudError, type EniDescription, type EniId, isNotFound } from '../../cloud/port.ts';
import type { Core } from '../core.ts';
import type { Creation, Eni } from '../state.ts';
import { MACS } from './hint.ts';

/** EC2 attaches and detaches within seconds; beyond this (ms) the action fails and is taken up again later. */
const ATTACHMENT_WAIT = 120_000;
const POLL_FIRST = 400;
const POLL_MOST = 2_000;
/** What is not done by then (ms) may take hours: it is asked for this seldom (ms). */
const SLOW_AFTER = 20_000;
const POLL_SLOW = 10_000;
/** Between two looks at the metadata service (ms). Without a word of it a describe comes anyway, later each time. */
const LOOK = 250;
const UNHINTED_FIRST = 1_500;
const UNHINTED_GROWTH = 1.4;
const UNHINTED_MOST = 16_000;
/** After a describe that EC2 throttled, the next one comes this much later than planned, times. */
const POLL_THROTTLED = 3;
/** Waits between the tries of a call about something new: 250 ms doubled each time, 16 s in all. */
const KNOWN_TRIES = 7;
const KNOWN_FIRST_WAIT = 250;
/** For this long (ms) after an ENI came to the pool, parts of EC2 may not know it yet. */
const NEW_FOR = 60_000;

export async function ensureAttached(
  core: Core,
  creation: Creation,
  eniId: EniId,
  resumed: boolean,
): Promise<string> {
  const instanceId = core.identity.instanceId;
  const { deviceIndex, networkCard } = creation;
  const request = { eniId, instanceId, deviceIndex, networkCard };
  const attach = () => onceKnown(core, () => core.cloud.attachNetworkInterface(request, core.signal));
  if (!resumed) return attach();
  // What EC2 throttled it did not do: mostly the attach itself. Asking first would cost a fleet that starts a describe each.
  if (core.state.pauses.get(`create:${creation.token}`)?.cause === 'CLOUD_THROTTLED') {
    try {
      return await attach();
    } catch (error) {
      if (!(error instanceof CloudError) || isBusyOrAway(error)) throw error;
    }
  }
  const { attachment } = await onceKnown(core, () => describeOne(core, eniId));
  if (attachment?.instanceId === instanceId && attachment.status !== 'detaching') return attachment.id;
  return attach();
}

const isBusyOrAway = ({ code }: CloudError): boolean =>
  code === 'CLOUD_THROTTLED' || code === 'CLOUD_UNREACHABLE';

/**
 * EC2 is eventually consistent: for some seconds it may answer NotFound to any call about a new ENI or attachment. Such
 * a call is repeated; a NotFound after the last try is final.
 */
export async function onceKnown<T>(core: Core, call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await call();
    } catch (error) {
      if (!isNotFound(error) || tries >= KNOWN_TRIES) throw error;
      await core.clock.sleep(KNOWN_FIRST_WAIT * 2 ** (tries - 1), core.signal);
    }
  }
}

/** `onceKnown` for an ENI that is new to the pool; at once for the others. */
export const whileNew = <T>(core: Core, eni: Pick<Eni, 'since'>, call: () => Promise<T>): Promise<T> =>
  eni.since + NEW_FOR > core.clock.now() ? onceKnown(core, call) : call();

/** Resolves when the ENI is attached to nothing; false when it is attached to another instance, where it stays. */
export async function detach(core: Core, eni: Eni, repeated: boolean): Promise<boolean> {
  let attachmentId = eni.attachmentId;
  if (repeated || attachmentId === null) {
    const found = await whileNew(core, eni, () => describeOne(core, eni.id)).catch((error) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    if (isElsewhere(core, found)) return false;
    attachmentId = found?.attachment?.status === 'detaching' ? null : (found?.attachment?.id ?? null);
  }
  if (attachmentId !== null)
    await ignoreNotFound(
      whileNew(core, eni, () => core.cloud.detachNetworkInterface(attachmentId, core.signal)),
    );
  const hint = { mac: eni.mac, listed: false };
  const last = await poll(core, eni.id, (found) => !found?.attachment || isElsewhere(core, found), hint);
  return !isElsewhere(core, last);
}

const isElsewhere = (core: Core, eni: EniDescription | null): boolean =>
  eni?.attachment !== null &&
  eni?.attachment !== undefined &&
  eni.attachment.instanceId !== core.identity.instanceId;

export const ignoreNotFound = (call: Promise<void>): Promise<void> =>
  call.catch((error) => {
    if (!isNotFound(error)) throw error;
  });

export async function describeOne(core: Core, eniId: EniId): Promise<EniDescription> {
  const found = await core.cloud.describeNetworkInterfaces({ kind: 'ids', ids: [eniId] }, core.signal);
  if (found[0]) return found[0];
  throw new CloudError(
    'DescribeNetworkInterfaces',
    'InvalidNetworkInterfaceID.NotFound',
    `${eniId} is not in the answer`,
  );
}

/** That the metadata service lists an interface, or no longer does. */
type Hint = { mac: Mac; listed: boolean };

/**
 * Describes an ENI until `done` returns true for it; `done` gets null when the ENI does not exist. With a hint the first
 * describe waits for the metadata service, within bounds: describes are what a fleet that starts runs out of.
 */
export async function poll(
  core: Core,
  eniId: EniId,
  done: (eni: EniDescription | null) => boolean,
  hint?: Hint,
): Promise<EniDescription | null> {
  const began = core.clock.now();
  const deadline = began + ATTACHMENT_WAIT;
  let unhinted = UNHINTED_FIRST;
  let hinted = !hint || (core.metadata !== undefined && (await hasHint(core, hint, unhinted)));
  for (let wait = POLL_FIRST; ; wait = Math.min(wait * 1.6, POLL_MOST)) {
    let busy: unknown = null;
    const found = await describeOne(core, eniId).catch((error) => {
      // The change goes on whether or not EC2 has time to tell.
      if (error instanceof CloudError && error.code === 'CLOUD_THROTTLED') busy = error;
      if (isNotFound(error) || busy) return null;
      throw error;
    });
    if (!busy && done(found)) return found;
    if (core.clock.now() > deadline) {
      if (busy) throw busy;
      throw new CloudError(
        'DescribeNetworkInterfaces',
        'AttachmentStuck',
        `${eniId} is ${found?.attachment?.status ?? 'not attached'} for too long`,
      );
    }
    if (busy || hinted) {
      const pause = core.clock.now() - began > SLOW_AFTER ? POLL_SLOW : wait;
      await core.clock.sleep(pause * (busy ? POLL_THROTTLED : 1) * (0.75 + core.random() / 2), core.signal);
      continue;
    }
    hinted = await hasHint(core, hint!, unhinted);
    unhinted = Math.min(unhinted * UNHINTED_GROWTH, UNHINTED_MOST);
  }
}

/** Waits until the metadata service says so, at most `ms`. A service that fails is waited for as one that lags. */
async function hasHint(core: Core, { mac, listed }: Hint, ms: number): Promise<boolean> {
  const { metadata, clock, signal } = core;
  const until = clock.now() + ms * (0.85 + core.random() * 0.3);
  for (;;) {
    const text = (await metadata?.get(MACS, signal).catch(() => null)) ?? null;
    signal.throwIfAborted();
    if (text !== null && text.includes(mac) === listed) return true;
    const left = until - clock.now();
    if (left <= 0) return false;
    await clock.sleep(metadata ? Math.min(LOOK, left) : left, signal);
  }
}
