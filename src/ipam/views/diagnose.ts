// Why no address can be given out now, as a typed cause with numbers. Pure: the CNI error, the Event, the log and
// `podway ipam show` all say what this says.
import { PodwayError } from '../../base/errors.ts';
import { cidrSize, formatCidr, formatIp } from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import { Allowance, slotsPerEni } from '../plan/aim.ts';
import { type Census, censusOf, givingOf, type Totals, usesPrefixes } from '../plan/census.ts';
import { growableEnis, hasEniSlot, OF_NEW_ENI, subnetsForNew } from '../plan/grow.ts';
import { activePause, explainingPause } from '../plan/pauses.ts';
import { sixKey } from '../plan/six.ts';
import { awaitsTrunk } from '../plan/trunk-slot.ts';
import type { PoolPolicy } from '../policy.ts';
import { isFree, type Pause, type PoolState, QUARANTINE_LOOK_MS, type Use } from '../state.ts';

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
  const capacity = capacityOf(context);
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
  const census = censusOf(state, now, givingOf(context.policy, limits));
  const { totals } = census;
  const cooling = [...state.uses.values()].filter(
    (use) => use.kind === 'cooling' && (!use.clean || use.until > now),
  );
  const coolingError = () => coolingCause(cooling, position, totals.held, context);
  const unset = unsetError(state, now);
  if (unset) return unset;
  const six = sixError(state, census, context);
  if (six) return six;
  // It has just become free, and is given at the pool's next turn.
  if (totals.free > position) return growing(totals.free);
  const growth = growthOf(state, census, context);
  if (!growth.possible) {
    if (totals.incoming + state.creations.size > 0) return growing(totals.incoming);
    if (position < cooling.length) return coolingError();
    const barred = barredError(state, context) ?? (growth.bounded ? boundError(state, context) : null);
    if (barred) return barred;
    const unusable = linklessError(state, limits, since) ?? onLinksError(state, capacity, now, since);
    if (unusable) return unusable;
    // Slots being returned to EC2 will be free again, so this node is not at its limit.
    const leaving = leavingSlots(state);
    if (leaving > 0) {
      const message = `the pool makes room: ${leaving} addresses are on their way back to EC2`;
      return new PodwayError('POOL_GROWING', message, { object, has: leaving, limit: capacity, since });
    }
    const unready = unreadyCause(census, context);
    return unready ?? limitCause(state, census, context, cooling.length);
  }
  if (cloud) return position < cooling.length ? coolingError() : pausedError(cloud, '', now);
  if (growth.blocked && position < cooling.length) return coolingError();
  if (growth.blocked) return blockedError(state, growth.blocked, now);
  const throttled = throttledCreation(state, now);
  if (throttled) return pausedError(throttled, '', now);
  return growing(totals.incoming);
}

/** Why every ENI that is being made waits for EC2, when nothing else is under way. */
function throttledCreation(state: PoolState, now: number): Pause | null {
  const isElse = [...state.busy].some(([key, count]) => count > 0 && !state.creations.has(key));
  const pauses = [...state.creations.keys()].map((token) => explainingPause(state, `create:${token}`, now));
  return !isElse && pauses.every((pause) => pause !== null) ? (pauses[0] ?? null) : null;
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

/** The error of a node whose pods need IPv6 and that has no /80 to give of. */
function sixError(state: PoolState, census: Census, context: DiagnoseContext): PodwayError | null {
  const { policy, now, limits, waitingSince: since } = context;
  if (policy.families === 'ipv4') return null;
  const giving = census.enis.filter(({ eni, closed }) => !closed && eni.phase !== 'leaving');
  const first = giving.find(({ eni }) => eni.primary) ?? giving[0];
  if (!first || giving.some(({ six }) => six !== null)) return null;
  const { id, subnetId } = first.eni;
  const pause = activePause(state, sixKey(id), now);
  if (state.subnets.get(subnetId)?.cidr6 === null && pause) {
    const message = `${subnetId} has no IPv6 CIDR, and with families ${policy.families} a pod gets an address of a /80 of ${id}`;
    return new PodwayError('NO_SUBNET', message, { object: subnetId, since, nextAt: nextTry(pause, now) });
  }
  const cloud = pause ?? activePause(state, 'cloud', now);
  if (cloud) return pausedError(cloud, `${id} has no /80`, now, id);
  const message = `the pool is growing: ${id} gets a /80`;
  return new PodwayError('POOL_GROWING', message, { object: id, has: 0, limit: limits.enis, since });
}

/** The error of an ENI that has free addresses but no link on the node. */
function linklessError(state: PoolState, limits: InstanceLimits, since: number): PodwayError | null {
  const eni = [...state.enis.values()].find((one) => one.linkless && one.phase !== 'leaving');
  if (!eni) return null;
  const message = `no link of the node has the MAC address ${eni.mac} of ${eni.id} (device ${eni.deviceIndex}): its ${eni.blocks.size} addresses cannot be used`;
  const limit = slotsPerEni(limits);
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

/** The error of a node whose ENIs have room, and one of which is on its way to or from the node or unlisted by EC2. */
function unreadyCause(census: Census, context: DiagnoseContext): PodwayError | null {
  const slots = slotsPerEni(context.limits);
  for (const { eni, closed } of census.enis) {
    const what =
      eni.phase === 'attached'
        ? 'is being set up'
        : eni.phase === 'leaving'
          ? 'is being detached'
          : eni.missingSince !== null
            ? 'is not listed by EC2'
            : null;
    if (!what || closed) continue;
    const message = `${eni.id} ${what}: its ${slots} addresses are not to be had yet`;
    return new PodwayError('POOL_GROWING', message, {
      object: eni.id,
      has: slots,
      limit: capacityOf(context),
      since: context.waitingSince,
    });
  }
  return null;
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

/** Addresses that the type takes, of the kind that the policy wants. */
const capacityOf = ({ limits, policy }: DiagnoseContext): number =>
  limits.enis * slotsPerEni(limits) * (usesPrefixes(policy, limits) ? PREFIX_SIZE : 1);

/** The error of a node whose type has room for an ENI that its policy does not let it make. */
function barredError(state: PoolState, context: DiagnoseContext): PodwayError | null {
  const { limits, policy, waitingSince: since } = context;
  if (!policy.noNewEni || !hasEniSlot(state, limits, policy)) return null;
  const { cause, message, object } = policy.noNewEni;
  const enis = { has: state.enis.size, limit: limits.enis };
  return new PodwayError(cause, message, { ...enis, since, ...(object === undefined ? {} : { object }) });
}

/** The error of a node that has as many addresses as its policy lets it take. */
function boundError(
  state: PoolState,
  { instanceId, policy, waitingSince: since }: DiagnoseContext,
): PodwayError {
  const { taken } = new Allowance(state, policy);
  const { maxAddresses, maxSubnetPercent } = policy;
  const bounds = [
    ...(maxAddresses === null ? [] : [`${maxAddresses} addresses`]),
    ...(maxSubnetPercent === null ? [] : [`${maxSubnetPercent} percent of a subnet`]),
  ].join(' and ');
  const message = `the policy lets this node take ${bounds}, its ENIs' own included, and it has ${taken}`;
  return new PodwayError('ADDRESS_LIMIT', message, {
    object: instanceId,
    has: taken,
    limit: maxAddresses ?? taken,
    since,
  });
}

/** `needs`: addresses of the subnet that one pod costs this way. */
type Way = { pause: Pause | null; object: string; needs: number };

/** Whether EC2 could still give an address to this node, and what stands in every way to it. */
function growthOf(state: PoolState, census: Census, context: DiagnoseContext) {
  const { limits, policy, now } = context;
  const allowance = new Allowance(state, policy);
  const ways: Way[] = [];
  let bounded = false;
  const add = (subnetId: string, addresses: number, other: string, object: string) => {
    if (allowance.left(subnetId) < addresses) {
      bounded = true;
      return;
    }
    const full = activePause(state, `subnet:${subnetId}`, now);
    ways.push(
      full
        ? { pause: full, object: subnetId, needs: addresses }
        : { pause: explainingPause(state, other, now), object, needs: addresses },
    );
  };
  for (const { one } of growableEnis(census.enis, limits))
    add(one.eni.subnetId, 1, `eni:${one.eni.id}`, one.eni.id);
  if (!policy.noNewEni && hasEniSlot(state, limits, policy))
    for (const id of subnetsForNew(state, policy)) add(id, OF_NEW_ENI, 'create', limits.instanceType);
  const isBlocked = ways.length > 0 && ways.every((way) => way.pause !== null);
  const blocked = isBlocked ? (ways[0] as Blocked) : undefined;
  return { possible: ways.length > 0, blocked, bounded };
}

type Blocked = Way & { pause: Pause };

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
const nextTry = (pause: Pause, now: number): number =>
  pause.probeAt > now ? pause.probeAt : Math.max(pause.until, now);

/** Addresses of every subnet that EC2 gives nobody: the first four and the last. */
const RESERVED = 5;

/** The error of a pause that stands in every way; for a subnet with its size and what it has. */
function blockedError(state: PoolState, { pause, object, needs }: Blocked, now: number): PodwayError {
  const facts = state.subnets.get(object);
  const cidr = facts?.cidr ?? [...state.enis.values()].find((eni) => eni.subnetId === object)?.subnetCidr;
  if (!cidr || (pause.cause !== 'SUBNET_EXHAUSTED' && pause.cause !== 'SUBNET_FRAGMENTED'))
    return pausedError(pause, '', now, object);
  const usable = cidrSize(cidr) - RESERVED;
  const isExhausted = pause.cause === 'SUBNET_EXHAUSTED';
  // EC2 counts a failed call's own moment: what it said before that is not of this failure.
  const free = facts && facts.at >= pause.since ? facts.free : isExhausted ? 0 : undefined;
  const has = isExhausted
    ? `has ${free} free${free && free < needs ? `, and a new ENI with an address for a pod needs ${needs}` : ''}`
    : `has no whole /28 free${free === undefined ? '' : ` (${free} addresses are)`}`;
  const what = `${object} (${formatCidr(cidr)}, ${usable} addresses) ${has}`;
  return new PodwayError(pause.cause, `${what}: ${pause.message}`, {
    object,
    has: usable - (free ?? 0),
    limit: usable,
    since: pause.since,
    nextAt: nextTry(pause, now),
  });
}

function coolingCause(cooling: Use[], position: number, held: number, context: DiagnoseContext): PodwayError {
  const { instanceId, limits, now } = context;
  const times = cooling.map((use) => (use.kind === 'cooling' ? use.until : now)).sort((a, b) => a - b);
  const nextAt = Math.max(now, times[position] ?? now);
  const message =
    `${held} addresses are held and ${cooling.length} are cooling on this ${limits.instanceType}; ` +
    `the next one for this pod is free in ${((nextAt - now) / 1000).toFixed(1)} s`;
  return new PodwayError('COOLDOWN', message, {
    object: instanceId,
    has: held + cooling.length,
    limit: capacityOf(context),
    since: Math.min(...cooling.map((use) => (use.kind === 'cooling' ? use.since : now))),
    nextAt,
  });
}

/** Every address has a holder, or cools for a pod that waits longer than this one. */
function limitCause(
  state: PoolState,
  census: Census,
  context: DiagnoseContext,
  cooling: number,
): PodwayError {
  const { instanceId, limits, policy, position, now } = context;
  const { held, quarantined }: Totals = census.totals;
  const slots = slotsPerEni(limits);
  const unit = usesPrefixes(policy, limits) ? PREFIX_SIZE : 1;
  const capacity = capacityNow(census, context);
  const perEni = census.enis.map(({ eni, held, blocks }) => {
    const size = blocks.reduce((sum, one) => sum + one.size, 0) + Math.max(0, slots - blocks.length) * unit;
    return `${eni.id} ${held} of ${size}`;
  });
  // The last pod that came made the node full.
  const since = Math.max(
    0,
    ...[...state.uses.values()].map((use) => (use.kind === 'held' ? use.lease.at : 0)),
  );
  const foreign = state.foreign.filter((eni) => eni.networkCard === limits.defaultCard);
  const kept = awaitsTrunk(state, policy) ? 1 : 0;
  if (foreign.length + kept > 0 && state.enis.size + foreign.length + kept >= limits.enis) {
    const names = foreign
      .map((eni) => `${eni.id} (device ${eni.deviceIndex}, ${eni.description})`)
      .join(', ');
    const others = [
      ...(foreign.length > 0 ? [`${foreign.length} are of others: ${names}`] : []),
      ...(kept > 0 ? ['1 is kept for the trunk of pods with security groups of their own'] : []),
    ];
    const message =
      `${limits.instanceType} takes ${limits.enis} ENIs: ${state.enis.size} are the node's own (${perEni.join(', ')}), ` +
      others.join(', ');
    return new PodwayError('ENI_LIMIT', message, {
      object: foreign[0]?.id ?? instanceId,
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
    `${limits.instanceType} takes ${capacity} pod addresses (${limits.enis} ENIs of ${slots}${unit > 1 ? ' slots' : ''}) and ` +
    `${held} are held${others}: ${perEni.join(', ')}; by ${holders(state)}`;
  // A quarantine ends when nobody names its address any more, which is looked at now and then.
  const ending = [...state.uses].filter(([ip, use]) => use.kind === 'quarantined' && !state.taken.has(ip));
  return new PodwayError('ADDRESS_LIMIT', message, {
    object: instanceId,
    has: held + cooling + quarantined,
    limit: capacity,
    since,
    ...(position < cooling + ending.length ? { nextAt: now + QUARANTINE_LOOK_MS } : {}),
  });
}

/** Addresses that the node's slots take as they are filled now: single addresses take one of a prefix's. */
function capacityNow(census: Census, context: DiagnoseContext): number {
  const { limits, policy } = context;
  if (!usesPrefixes(policy, limits)) return capacityOf(context);
  const blocks = census.enis.flatMap((one) => one.blocks);
  const free = Math.max(0, limits.enis * slotsPerEni(limits) - blocks.length);
  return blocks.reduce((sum, one) => sum + one.size, 0) + free * PREFIX_SIZE;
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
