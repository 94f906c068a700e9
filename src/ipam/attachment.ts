// Attaches an ENI to this instance, detaches it, and waits until EC2 has done so. Each may be repeated after a crash: a
// step that is already done counts as success. Fails with CloudError, `Timeout` when EC2 takes too long.
import { CloudError, type EniDescription, type EniId, isNotFound } from '../cloud/port.ts';
import type { Core } from './core.ts';
import type { Creation, Eni } from './state.ts';

/** EC2 attaches and detaches within seconds; beyond this (ms) the action fails and is taken up again later. */
const ATTACHMENT_WAIT = 120_000;
const POLL_FIRST = 100;
const POLL_MOST = 2_000;
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
  if (resumed) {
    const { attachment } = await onceKnown(core, () => describeOne(core, eniId));
    if (attachment?.instanceId === instanceId && attachment.status !== 'detaching') return attachment.id;
  }
  const request = { eniId, instanceId, deviceIndex, networkCard };
  return onceKnown(core, () => core.cloud.attachNetworkInterface(request, core.signal));
}

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
  const last = await poll(core, eni.id, (found) => !found?.attachment || isElsewhere(core, found));
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

/** Describes an ENI until `done` returns true for it; `done` gets null when the ENI does not exist. */
export async function poll(
  core: Core,
  eniId: EniId,
  done: (eni: EniDescription | null) => boolean,
): Promise<EniDescription | null> {
  const deadline = core.clock.now() + ATTACHMENT_WAIT;
  for (let wait = POLL_FIRST; ; wait = Math.min(wait * 2, POLL_MOST)) {
    const found = await describeOne(core, eniId).catch((error) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    if (done(found)) return found;
    if (core.clock.now() > deadline) {
      throw new CloudError(
        'DescribeNetworkInterfaces',
        'Timeout',
        `${eniId} is ${found?.attachment?.status ?? 'not attached'} for too long`,
      );
    }
    await core.clock.sleep(wait * (0.75 + core.random() / 2), core.signal);
  }
}
