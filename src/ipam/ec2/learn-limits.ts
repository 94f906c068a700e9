// What EC2 says of the instance type's limits beats the table that this version ships: asked once after the start, and
// lowered when EC2 refuses what the known limits allow. A limit is never raised but by EC2's description.
import { type InstanceLimits, limitsFrom, podsOf } from '../../cloud/limits.ts';
import { CloudError, type EniId } from '../../cloud/port.ts';
import type { Core } from '../core.ts';
import { describeOne } from './attachment.ts';

export async function learnLimits(core: Core): Promise<void> {
  try {
    const found = await core.cloud.describeInstanceType(core.limits.instanceType, core.signal);
    adopt(core, limitsFrom(found, core.limits), 'EC2 describes the type otherwise than the table');
  } catch (error) {
    // The table serves; a role without the permission is common.
    core.log.debug({ error: String(error) }, 'EC2 does not describe the instance type');
  }
}

/**
 * Asks for `count` blocks of an ENI, and for half as many while EC2 refuses them for the type's sake: the limit is then
 * lower than was known. Throws the last refusal when not even one fits.
 */
export async function withinLimit<T>(
  core: Core,
  eniId: EniId,
  count: number,
  ask: (count: number) => Promise<T>,
): Promise<T> {
  try {
    return await ask(count);
  } catch (error) {
    const has = isOverLimit(error) ? await slotsUsed(core, eniId) : null;
    // EC2 may have more on the ENI than the pool knows: then the limit is as it was.
    if (has === null || has + count > core.limits.ipv4PerEni) throw error;
    return askLess(core, count, has, ask, error);
  }
}

async function askLess<T>(
  core: Core,
  count: number,
  has: number,
  ask: (count: number) => Promise<T>,
  refusal: unknown,
): Promise<T> {
  let refused = count;
  let last = refusal;
  try {
    for (let less = count >> 1; less > 0; less >>= 1) {
      try {
        return await ask(less);
      } catch (error) {
        if (!isOverLimit(error)) throw error;
        refused = less;
        last = error;
      }
    }
    throw last;
  } finally {
    const ipv4PerEni = has + refused - 1;
    const limits = { ...core.limits, ipv4PerEni, pods: podsOf(core.limits.enis, ipv4PerEni) };
    adopt(core, limits, `EC2 refuses ${refused} more addresses for an ENI that has ${has}`);
  }
}

const isOverLimit = (error: unknown): boolean =>
  error instanceof CloudError && error.ec2Code === 'PrivateIpAddressLimitExceeded';

/** Addresses and prefixes of the ENI, its primary address included; null when EC2 does not say. */
async function slotsUsed(core: Core, eniId: EniId): Promise<number | null> {
  const seen = await describeOne(core, eniId).catch(() => null);
  return seen && seen.addresses.length + seen.ipv4Prefixes.length;
}

/** After a refusal to attach one more ENI: lowers the limit to what is attached. */
export async function lowerEnis(core: Core, error: unknown): Promise<void> {
  if (!(error instanceof CloudError) || error.ec2Code !== 'AttachmentLimitExceeded') return;
  const filter = { kind: 'instance' as const, instanceId: core.identity.instanceId };
  const seen = await core.cloud.describeNetworkInterfaces(filter, core.signal).catch(() => null);
  const enis = seen?.filter((one) => one.attachment?.networkCard === core.limits.defaultCard).length ?? 0;
  if (enis === 0 || enis >= core.limits.enis) return;
  const limits = { ...core.limits, enis, pods: podsOf(enis, core.limits.ipv4PerEni) };
  adopt(core, limits, `EC2 refuses to attach more than ${enis} ENIs`);
}

function adopt(core: Core, limits: InstanceLimits, why: string): void {
  const { enis, ipv4PerEni, prefixes } = core.limits;
  if (limits.enis === enis && limits.ipv4PerEni === ipv4PerEni && limits.prefixes === prefixes) return;
  core.log.warn(
    {
      type: limits.instanceType,
      known: { enis, ipv4PerEni, prefixes },
      now: { enis: limits.enis, ipv4PerEni: limits.ipv4PerEni, prefixes: limits.prefixes },
    },
    why,
  );
  core.limits = limits;
  core.kick();
}
