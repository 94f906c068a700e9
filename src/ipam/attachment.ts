// Attaching an ENI to this instance, detaching it, and waiting until EC2 has done so. Each may be repeated after a crash:
// what has happened already is found and counts as done. Fails with CloudError, `Timeout` when EC2 takes too long.
import { CloudError, type EniDescription, type EniId, isNotFound } from '../cloud/port.ts';
import type { Core } from './core.ts';
import type { Creation, Eni } from './state.ts';

/** EC2 attaches and detaches within seconds; beyond this (ms) the action fails and is taken up again later. */
const ATTACHMENT_WAIT = 120_000;
const POLL_FIRST = 100;
const POLL_MOST = 2_000;

export async function ensureAttached(
  core: Core,
  creation: Creation,
  eniId: EniId,
  resumed: boolean,
): Promise<string> {
  const instanceId = core.identity.instanceId;
  const { deviceIndex, networkCard } = creation;
  if (resumed) {
    const { attachment } = await describeOne(core, eniId);
    if (attachment?.instanceId === instanceId && attachment.status !== 'detaching') return attachment.id;
  }
  for (let tries = 1; ; tries++) {
    try {
      return await core.cloud.attachNetworkInterface(
        { eniId, instanceId, deviceIndex, networkCard },
        core.signal,
      );
    } catch (error) {
      // EC2 may not know a new ENI everywhere at once.
      if (!isNotFound(error) || tries >= 5) throw error;
      await core.clock.sleep(200 * 2 ** tries, core.signal);
    }
  }
}

export async function detach(core: Core, eni: Eni, repeated: boolean): Promise<void> {
  let attachmentId = eni.attachmentId;
  if (repeated || attachmentId === null) {
    const found = await describeOne(core, eni.id).catch((error) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    attachmentId = found?.attachment?.status === 'detaching' ? null : (found?.attachment?.id ?? null);
  }
  if (attachmentId !== null)
    await ignoreNotFound(core.cloud.detachNetworkInterface(attachmentId, core.signal));
  await poll(core, eni.id, (found) => found === null || found.attachment === null);
}

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

/** Describes an ENI until `done` says so; null is an ENI that does not exist. */
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
