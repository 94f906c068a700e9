// Why no address can be given out now, as a typed cause with numbers. Pure: the CNI error, the Event, the log and
// `podway ipam show` all say what this says.
import { PodwayError } from '../base/errors.ts';
import { cidrSize, formatCidr, formatIp } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import { addressesPerEni, freeDeviceIndexes, growableEnis } from './plan.ts';
import type { PoolPolicy } from './policy.ts';
import { countPool, isFree, type Pause, type PoolState, type Use } from './state.ts';

/** How many holders a message names; the rest is counted. */
const NAMED_HOLDERS = 6;

export type DiagnoseContext = {
  instanceId: string;
  limits: InstanceLimits;
  policy: PoolPolicy;
  now: number;
  /** How many wait before this one: 0 for the first. */
  position: number;
  /** False until EC2 or the journal has told which ENIs there are. */
  known: boolean;
  waitingSince: number;
};

export function diagnose(state: PoolState, context: DiagnoseContext): PodwayError {
  const { limits, now, position, waitingSince: since } = context;
  const object = context.instanceId;
  const capacity = limits.enis * addressesPerEni(limits);
  const growing = (incoming: number) =>
    new PodwayError('POOL_GROWING', `the pool is growing: ${incoming} addresses are on their way`, {
      object: underWay(state) ?? object,
      has: incoming,
      limit: capacity,
      since,
    });
  const cloud = activePause(state, 'cloud', now);
  if (!context.known) {
    if (cloud) return pausedError(cloud, 'the node does not know its ENIs yet', now);
    return new PodwayError('AGENT_STARTING', 'the pool has not read its ENIs from EC2 yet', {
      object: context.instanceId,
      has: state.enis.size,
      limit: limits.enis,
      since,
    });
  }
  const totals = countPool(state, 4, now);
  const cooling = [...state.uses.values()].filter(
    (use) => use.kind === 'cooling' && (!use.clean || use.until > now),
  );
  const coolingError = () => coolingCause(cooling, position, totals.held, context);
  const unset = unsetError(state, now);
  if (unset) return unset;
  const growth = growthOf(state, context);
  if (!growth.possible) {
    if (totals.incoming + state.creations.size > 0) return growing(totals.incoming);
    if (position < cooling.length) return coolingError();
    const barred = barredError(state, context);
    if (barred) return barred;
    const unusable = linklessError(state, limits, since) ?? onLinksError(state, capacity, now, since);
    if (unusable) return unusable;
    // Slots being returned to EC2 will be free again, so this node is not at its limit.
    const leaving = leavingSlots(state);
    if (leaving > 0) {
      const message = `the pool makes room: ${leaving} addresses are on their way back to EC2`;
      return new PodwayError('POOL_GROWING', message, { object, has: leaving, limit: capacity, since });
    }
    return limitCause(state, context, totals, cooling.length);
  }
  if (cloud) return position < cooling.length ? coolingError() : pausedError(cloud, '', now);
  if (growth.blocked && position < cooling.length) return coolingError();
  if (growth.blocked) return blockedError(state, growth.blocked, now);
  return growing(totals.incoming);
}

/** The error of an attached ENI that the node's network fails to set up. */
function unsetError(state: PoolState, now: number): PodwayError | null {
  for (const eni of state.enis.values()) {
    const waits = eni.phase === 'attached' || [...eni.blocks.values()].some((block) => block.pending);
    const pause = waits ? activePause(state, `eni:${eni.id}`, now) : null;
    if (pause) return pausedError(pause, `${eni.id} is attached and not set up on the node`, now, eni.id);
  }
  return null;
}

/** The error of an ENI that has free addresses but no link on the node. */
function linklessError(state: PoolState, limits: InstanceLimits, since: number): PodwayError | null {
  const eni = [...state.enis.values()].find((one) => one.linkless && one.phase !== 'leaving');
  if (!eni) return null;
  const message = `no link of the node has the MAC address ${eni.mac} of ${eni.id} (device ${eni.deviceIndex}): its ${eni.blocks.size} addresses cannot be used`;
  const limit = addressesPerEni(limits);
  return new PodwayError('ENI_WITHOUT_LINK', message, { object: eni.id, has: eni.blocks.size, limit, since });
}

/** The error of free addresses that others configured on links of the node. */
function onLinksError(state: PoolState, limit: number, now: number, since: number): PodwayError | null {
  const free = [...state.onLinks].filter(([ip]) => isFree(state.uses.get(ip), now));
  if (free.length === 0) return null;
  const named = free.slice(0, NAMED_HOLDERS).map(([ip, link]) => `${formatIp(ip)} on ${link}`);
  const more = free.length > named.length ? ` and ${free.length - named.length} more` : '';
  const message = `${free.length} free addresses are on links of the node, where somebody put them: ${named.join(', ')}${more}`;
  return new PodwayError('ADDRESS_ON_LINK', message, {
    object: formatIp(free[0]![0]),
    has: free.length,
    limit,
    since,
  });
}

/** The ENI that a call in flight brings addresses to, if it exists already. */
const underWay = (state: PoolState): string | undefined =>
  [...state.busy].find(([key, count]) => count > 0 && key.startsWith('eni-'))?.[0];

const leavingSlots = (state: PoolState): number =>
  [...state.enis.values()].reduce(
    (sum, eni) =>
      sum + [...eni.blocks.values()].filter((block) => eni.phase === 'leaving' || block.leaving).length,
    0,
  );

const activePause = (state: PoolState, key: string, now: number): Pause | null => {
  const pause = state.pauses.get(key);
  return pause && pause.until > now ? pause : null;
};

const hasEniSlot = (state: PoolState, limits: InstanceLimits): boolean =>
  addressesPerEni(limits) > 0 && freeDeviceIndexes(state, limits).length > 0;

/** The error of a node whose type has room for an ENI that its policy does not let it make. */
function barredError(
  state: PoolState,
  { limits, policy, waitingSince: since }: DiagnoseContext,
): PodwayError | null {
  if (!policy.noNewEni || !hasEniSlot(state, limits)) return null;
  const { cause, message, object } = policy.noNewEni;
  const enis = { has: state.enis.size, limit: limits.enis };
  return new PodwayError(cause, message, { ...enis, since, ...(object === undefined ? {} : { object }) });
}

/** Whether EC2 could still give an address to this node, and what stands in every way to it. */
function growthOf(state: PoolState, { limits, policy, now }: DiagnoseContext) {
  const ways: { pause: Pause | null; object: string }[] = [];
  for (const { eni } of growableEnis(state, limits, now)) {
    const pause = activePause(state, `subnet:${eni.subnetId}`, now);
    if (pause) ways.push({ pause, object: eni.subnetId });
    else ways.push({ pause: activePause(state, `eni:${eni.id}`, now), object: eni.id });
  }
  if (!policy.noNewEni && hasEniSlot(state, limits)) {
    const subnets = [...state.enis.values()].filter((eni) => eni.primary).map((eni) => eni.subnetId);
    const full = subnets
      .map((id) => ({ pause: activePause(state, `subnet:${id}`, now), object: id }))
      .find((one) => one.pause);
    ways.push(full ?? { pause: activePause(state, 'create', now), object: limits.instanceType });
  }
  const blocked = ways.every((way) => way.pause !== null)
    ? (ways[0] as { pause: Pause; object: string } | undefined)
    : undefined;
  return { possible: ways.length > 0, blocked };
}

function pausedError(pause: Pause, prefix: string, now: number, object = pause.object): PodwayError {
  const message = [prefix, pause.message].filter((part) => part !== '').join(': ');
  return new PodwayError(pause.cause, message, {
    since: pause.since,
    ...(object ? { object } : {}),
    has: pause.failures === 1 ? '1 failed try' : `${pause.failures} failed tries`,
    nextAt: nextTry(pause, now),
  });
}

/** When a waiting pod makes the pool try again (ms). */
const nextTry = (pause: Pause, now: number): number => (pause.probeAt > now ? pause.probeAt : pause.until);

/** Addresses of every subnet that EC2 gives nobody: the first four and the last. */
const RESERVED = 5;

/** The error of a pause that stands in every way; for a subnet with its size. */
function blockedError(
  state: PoolState,
  { pause, object }: { pause: Pause; object: string },
  now: number,
): PodwayError {
  const inSubnet = [...state.enis.values()].find((eni) => eni.subnetId === object);
  if (!inSubnet || (pause.cause !== 'SUBNET_EXHAUSTED' && pause.cause !== 'SUBNET_FRAGMENTED'))
    return pausedError(pause, '', now, object);
  const usable = cidrSize(inSubnet.subnetCidr) - RESERVED;
  const what =
    pause.cause === 'SUBNET_EXHAUSTED'
      ? `${object} (${formatCidr(inSubnet.subnetCidr)}, ${usable} addresses) has 0 free`
      : `${object} (${formatCidr(inSubnet.subnetCidr)}, ${usable} addresses) has no whole /28 free`;
  return new PodwayError(pause.cause, `${what}: ${pause.message}`, {
    object,
    has: usable,
    limit: usable,
    since: pause.since,
    nextAt: nextTry(pause, now),
  });
}

function coolingCause(
  cooling: Use[],
  position: number,
  held: number,
  { instanceId, limits, now }: DiagnoseContext,
): PodwayError {
  const times = cooling.map((use) => (use.kind === 'cooling' ? use.until : now)).sort((a, b) => a - b);
  const nextAt = Math.max(now, times[position] ?? now);
  const message =
    `${held} addresses are held and ${cooling.length} are cooling on this ${limits.instanceType}; ` +
    `the next one for this pod is free in ${((nextAt - now) / 1000).toFixed(1)} s`;
  return new PodwayError('COOLDOWN', message, {
    object: instanceId,
    has: held + cooling.length,
    limit: limits.enis * addressesPerEni(limits),
    since: Math.min(...cooling.map((use) => (use.kind === 'cooling' ? use.since : now))),
    nextAt,
  });
}

/** Every address has a holder, or cools for a pod that waits longer than this one. */
function limitCause(
  state: PoolState,
  { instanceId, limits }: DiagnoseContext,
  { held, quarantined }: { held: number; quarantined: number },
  cooling: number,
): PodwayError {
  const capacity = limits.enis * addressesPerEni(limits);
  const perEni = [...state.enis.values()].map((eni) => {
    const uses = [...eni.blocks.values()].filter((block) => state.uses.get(block.cidr.ip)?.kind === 'held');
    return `${eni.id} ${uses.length} of ${addressesPerEni(limits)}`;
  });
  // The last pod that came made the node full.
  const since = Math.max(
    0,
    ...[...state.uses.values()].map((use) => (use.kind === 'held' ? use.lease.at : 0)),
  );
  const foreign = state.foreign.filter((eni) => eni.networkCard === limits.defaultCard);
  if (foreign.length > 0 && state.enis.size + foreign.length >= limits.enis) {
    const names = foreign
      .map((eni) => `${eni.id} (device ${eni.deviceIndex}, ${eni.description})`)
      .join(', ');
    const message =
      `${limits.instanceType} takes ${limits.enis} ENIs: ${state.enis.size} are the node's own (${perEni.join(', ')}), ` +
      `${foreign.length} are of others: ${names}`;
    return new PodwayError('ENI_LIMIT', message, {
      object: foreign[0]!.id,
      has: state.enis.size + foreign.length,
      limit: limits.enis,
      since,
    });
  }
  const others = [
    cooling > 0
      ? `, ${cooling} ${cooling === 1 ? 'cools for a pod that waits' : 'cool for pods that wait'} already`
      : '',
    quarantined > 0 ? `, ${quarantined} ${quarantined === 1 ? 'is' : 'are'} quarantined` : '',
  ].join('');
  const message =
    `${limits.instanceType} takes ${capacity} pod addresses (${limits.enis} ENIs of ${addressesPerEni(limits)}) and ` +
    `${held} are held${others}: ${perEni.join(', ')}; by ${holders(state)}`;
  return new PodwayError('ADDRESS_LIMIT', message, {
    object: instanceId,
    has: held + cooling + quarantined,
    limit: capacity,
    since,
  });
}

function holders(state: PoolState): string {
  const names: string[] = [];
  for (const [ip, use] of state.uses) {
    if (use.kind !== 'held') continue;
    const { pod, containerId } = use.lease.owner;
    names.push(
      `${pod ? `${pod.namespace}/${pod.name}` : `container ${containerId.slice(0, 12)}`} (${formatIp(ip)})`,
    );
  }
  const named = names.slice(0, NAMED_HOLDERS).join(', ');
  return names.length > NAMED_HOLDERS
    ? `${named} and ${names.length - NAMED_HOLDERS} more`
    : named || 'nobody';
}
