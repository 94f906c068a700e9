// What EC2 says of subnets, kept in the pool's state: their CIDR, zone and free addresses when last asked. Also the
// context in which a description of an ENI is read, which needs those CIDRs. Throws CloudError.
import type { Cidr, Ip } from '../../base/ip.ts';
import { CloudError, type SubnetDescription } from '../../cloud/port.ts';
import type { Core } from '../core.ts';
import { isProbe } from '../plan/pauses.ts';
import type { DescribeContext } from './observe.ts';
import { TAG_CLUSTER } from './tags.ts';

/** What was said of a subnet this recently (ms) is not asked again after the next failure. */
const FRESH = 5_000;

export async function learnSubnets(core: Core, ids: readonly string[]): Promise<void> {
  const unknown = [...new Set(ids)].filter((id) => !core.state.subnets.has(id));
  if (unknown.length > 0) noteSubnets(core, await core.cloud.describeSubnets(unknown, core.signal));
}

/** Free addresses of a subnet now. Null when EC2 does not say. */
export async function freeInSubnet(core: Core, subnetId: string): Promise<number | null> {
  noteSubnets(core, await core.cloud.describeSubnets([subnetId], core.signal));
  return core.state.subnets.get(subnetId)?.free ?? null;
}

/** After a failure, before its pause: what the subnet has, for the cause that waiting pods are told. */
export async function learnWhatIsLeft(core: Core, subnetId: string): Promise<void> {
  const now = core.clock.now();
  const known = core.state.subnets.get(subnetId);
  const failedBefore = core.state.pauses.has(`subnet:${subnetId}`);
  if (failedBefore && known && known.at + FRESH > now) return;
  await freeInSubnet(core, subnetId).catch(() => null);
}

/** True while the subnet was full lately and is left alone: what is asked of it now is a probe. */
export const isLeftAlone = (core: Core, subnetId: string): boolean =>
  isProbe(core.state, `subnet:${subnetId}`, core.clock.now());

/**
 * Before a probe of a subnet: asks what it has, since a read costs less of the account's allowance than
 * a change that is refused. Throws SUBNET_EXHAUSTED for fewer than `least` free ones, and when it is throttled; not where a
 * role may not ask.
 */
export async function ensureRoom(core: Core, subnetId: string, least: number): Promise<void> {
  let text: string;
  try {
    const free = await freeInSubnet(core, subnetId);
    if (free === null || free >= least) return;
    text = `${subnetId} has ${free} free ${free === 1 ? 'address' : 'addresses'}`;
  } catch (error) {
    // Other nodes ask too, and the change has a smaller bucket.
    if (!(error instanceof CloudError) || error.code !== 'CLOUD_THROTTLED') return;
    text = `${subnetId} was full, and EC2 throttles the question what it has now`;
  }
  throw new CloudError(ASKED, 'InsufficientFreeAddressesInSubnet', text);
}

/** The action of the error that `ensureRoom` throws. */
export const ASKED = 'DescribeSubnets';

function noteSubnets(core: Core, found: readonly SubnetDescription[]): void {
  const at = core.clock.now();
  const subnets = new Map(core.state.subnets);
  for (const { id, cidr, ipv6Cidr, zone, availableIps } of found)
    subnets.set(id, { cidr, cidr6: ipv6Cidr, zone, free: availableIps, at });
  core.state = { ...core.state, subnets };
}

export function describeContext(core: Core, beganAt: number): DescribeContext {
  let used: ReadonlySet<Ip> | undefined;
  const subnetCidrs = new Map<string, Cidr>();
  for (const [id, { cidr }] of core.state.subnets) subnetCidrs.set(id, cidr);
  return {
    instanceId: core.identity.instanceId,
    cluster: core.tags[TAG_CLUSTER],
    primaryEniId: core.identity.primary.eniId,
    subnetCidrs,
    beganAt,
    now: core.clock.now(),
    isForeign: (address) => {
      if (core.state.uses.get(address.ip)?.kind === 'held') return false;
      used ??= core.addressesOnLinks();
      return address.public || used.has(address.ip);
    },
  };
}
