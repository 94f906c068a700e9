// The planner alone, over random pools, demands, policies and refusals of EC2: it stays within every bound, names nothing
// that is held, fills before it attaches, drains before it detaches, comes to rest in a few steps, and then makes no call.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addToIp,
  type Cidr,
  cidrSize,
  hostCidr,
  type Ip,
  type Ipv4,
  parseCidr,
  parseIpv4,
} from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { EniId } from '../../cloud/port.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { PoolPolicy } from '../policy.ts';
import {
  type Eni,
  emptyPool,
  type Lease,
  newBlock,
  type Pause,
  type PoolState,
  type Use,
  withEni,
  withoutEni,
} from '../state.ts';
import { m5Large, podOwner } from '../testkit.ts';
import { Allowance, freeGoal, slotsPerEni } from './aim.ts';
import { censusOf, givingOf, isIdle, lacksPrefixes, prefixKey, usesPrefixes } from './census.ts';
import { growableEnis } from './grow.ts';
import { type Action, plan } from './plan.ts';

const START = 1_700_000_000_000;
const LONG_AGO = START - 3_600_000;
const RUNS = Number(process.env['PODWAY_PROPERTY_RUNS'] ?? 300);
const SUBNETS = ['subnet-0a', 'subnet-0b'];

const pausedFor = (now: number, cause: Pause['cause']): Pause => ({
  ...{ cause, message: '', since: now, failedAt: now, failures: 1 },
  ...{ until: now + 300_000, probeAt: now + 300_000 },
});

/** EC2 as far as the planner's actions need it: each has its effect at once, or is refused. */
class Model {
  state: PoolState;
  now = START;
  /** Subnets without whole /28s, and full ones. */
  readonly #broken: ReadonlySet<string>;
  readonly #full: ReadonlySet<string>;
  #next = 0;

  constructor(state: PoolState, broken: readonly string[], full: readonly string[]) {
    this.state = state;
    this.#broken = new Set(broken);
    this.#full = new Set(full);
  }

  apply(action: Action): void {
    const { state } = this;
    switch (action.kind) {
      case 'assign':
      case 'assign-prefixes': {
        const eni = state.enis.get(action.eniId)!;
        const isPrefix = action.kind === 'assign-prefixes';
        if (this.#refuses(eni.subnetId, isPrefix)) return;
        const cidrs = Array.from({ length: action.count }, () => this.#fresh(isPrefix));
        this.state = withEni(state, withBlocks(eni, cidrs, this.now));
        return;
      }
      case 'create': {
        const { subnetId, deviceIndex, count, prefixes = 0 } = action;
        if (this.#refuses(subnetId, prefixes > 0)) return;
        const blocks = Array.from({ length: count + prefixes }, () => this.#fresh(prefixes > 0));
        const eni = eniOf(deviceIndex, subnetId, this.now);
        this.state = withEni(
          state,
          withBlocks({ ...eni, id: `${eni.id}-${this.#next++}` as EniId }, blocks, this.now),
        );
        return;
      }
      case 'unassign': {
        const eni = state.enis.get(action.eniId)!;
        const blocks = new Map(eni.blocks);
        for (const { ip } of action.blocks) blocks.delete(ip);
        this.state = withEni(state, { ...eni, blocks });
        return;
      }
      case 'remove':
        this.state = withoutEni(state, action.eniId, this.now);
        return;
      default:
        throw new Error(`${action.kind} of a whole pool`);
    }
  }

  #refuses(subnetId: string, isPrefix: boolean): boolean {
    const isFull = this.#full.has(subnetId);
    const isBroken = isPrefix && this.#broken.has(subnetId);
    if (!isFull && !isBroken) return false;
    const [key, cause] = isPrefix
      ? ([prefixKey(subnetId), 'SUBNET_FRAGMENTED'] as const)
      : ([`subnet:${subnetId}`, 'SUBNET_EXHAUSTED'] as const);
    this.state = { ...this.state, pauses: new Map(this.state.pauses).set(key, pausedFor(this.now, cause)) };
    return true;
  }

  #fresh(isPrefix: boolean): Cidr {
    const ip = addToIp(parseIpv4('10.9.0.0'), PREFIX_SIZE * ++this.#next);
    return isPrefix ? { ip, length: 28 } : hostCidr(ip);
  }
}

function withBlocks(eni: Eni, cidrs: readonly Cidr[], now: number): Eni {
  const blocks = new Map(eni.blocks);
  for (const cidr of cidrs) blocks.set(cidr.ip, newBlock(cidr, now, { pending: false }));
  return { ...eni, blocks };
}

const eniOf = (device: number, subnetId: string, since: number): Eni => ({
  id: `eni-${device}` as EniId,
  mac: `02:00:00:00:00:0${device % 10}` as Mac,
  deviceIndex: device,
  networkCard: 0,
  subnetCidr: parseCidr('10.0.0.0/16'),
  primaryIp: parseIpv4(`10.8.${device}.1`),
  subnetId,
  groupIds: ['sg-0'],
  interfaceType: 'interface',
  attachmentId: `eni-attach-${device}`,
  deleteOnTermination: true,
  primary: device === 0,
  phase: 'ready',
  since,
  settledAt: LONG_AGO,
  missingSince: null,
  blocks: new Map(),
  unsettled: null,
  returned: new Map(),
});

type MadeEni = {
  singles: number;
  prefixes: number;
  subnet: number;
  pinned: boolean;
  uses: (string | null)[];
};
const madeEni: fc.Arbitrary<MadeEni> = fc.record({
  singles: fc.nat(6),
  prefixes: fc.nat(3),
  subnet: fc.nat(1),
  pinned: fc.boolean(),
  uses: fc.array(fc.constantFrom('held', 'cooling', 'cooled', 'quarantined', null, null), { maxLength: 30 }),
});

/** Limits that the pool is within, whatever the policy says. */
const limits: InstanceLimits = { ...m5Large, enis: 4, ipv4PerEni: 10 };
const slots = slotsPerEni(limits);

function poolOf(made: readonly MadeEni[]): PoolState {
  const enis = new Map<EniId, Eni>();
  const uses = new Map<Ip, Use>();
  made.forEach(({ singles, prefixes, subnet, pinned, uses: wanted }, device) => {
    const blank = eniOf(device, SUBNETS[device === 0 ? 0 : subnet]!, LONG_AGO);
    const base = parseIpv4(`10.1.${device}.0`);
    const cidrs: Cidr[] = [
      ...Array.from({ length: prefixes }, (_, i) => ({ ip: addToIp(base, i * PREFIX_SIZE), length: 28 })),
      ...Array.from({ length: singles }, (_, i) => hostCidr(addToIp(base, 200 + i))),
    ];
    const eni = withBlocks(blank, cidrs, LONG_AGO);
    const ips = cidrs.flatMap((cidr) =>
      Array.from({ length: cidrSize(cidr) }, (_, i) => addToIp(cidr.ip as Ipv4, i)),
    );
    wanted.forEach((kind, i) => {
      const ip = ips[(i * 7) % Math.max(1, ips.length)];
      if (kind === null || ip === undefined) return;
      const lease: Lease = { owner: podOwner(`${device}-${i}`), ips: [ip], eni, at: LONG_AGO };
      if (kind === 'held') uses.set(ip, { kind, lease });
      else if (kind === 'quarantined') uses.set(ip, { kind, since: LONG_AGO, reason: '' });
      else {
        const until = kind === 'cooled' ? LONG_AGO : START + 20_000;
        uses.set(ip, { kind: 'cooling', since: LONG_AGO - 1, until, clean: true });
      }
    });
    const blocks = new Map(eni.blocks);
    const first = [...blocks.values()].at(-1);
    if (pinned && first && first.cidr.length === 32) blocks.set(first.cidr.ip, { ...first, pinned: true });
    enis.set(eni.id, { ...eni, blocks });
  });
  const facts = { cidr: parseCidr('10.0.0.0/16'), cidr6: null, zone: '', free: 0, at: START };
  const subnets = new Map(SUBNETS.map((id) => [id, facts]));
  return { ...emptyPool, enis, uses, subnets };
}

const policyArbitrary: fc.Arbitrary<PoolPolicy> = fc.record({
  families: fc.constant('ipv4'),
  addressing: fc.constantFrom('secondary', 'prefix', 'auto'),
  targets: fc.oneof(
    fc.record({ kind: fc.constant('warm' as const), free: fc.nat(12) }),
    fc.record({
      kind: fc.constant('incumbent' as const),
      warmEnis: fc.nat(2),
      warmPrefixes: fc.nat(2),
      warmIps: fc.nat(6),
      minimumIps: fc.nat(12),
    }),
  ),
  idleReleaseMs: fc.constant(60_000),
  podLimit: fc.integer({ min: 5, max: 120 }),
  subnetIds: fc.subarray(SUBNETS),
  excludedSubnetIds: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.subarray(SUBNETS) },
  ),
  noNewEni: fc.constant(null),
  groupIds: fc.constantFrom(null, ['sg-1']),
  primaryGives: fc.boolean(),
  maxEnis: fc.constantFrom(null, null, 1, 2, 3),
  maxAddresses: fc.constantFrom(null, null, 10, 25, 60),
  maxSubnetPercent: fc.constantFrom(null, null, 1),
});

/** Checks one plan against the state that it is made for. */
function checkPlan(
  model: Model,
  actions: readonly Action[],
  waiting: number,
  policy: PoolPolicy,
  room: number,
): void {
  const { state, now } = model;
  const census = censusOf(state, now, givingOf(policy, limits));
  const allowance = new Allowance(state, policy);
  const touched = new Set<string>();
  let enis = state.enis.size;
  for (const action of actions) {
    if ('eniId' in action) {
      assert.ok(!touched.has(action.eniId), 'two actions for an ENI');
      touched.add(action.eniId);
    }
    const one = 'eniId' in action ? census.enis.find(({ eni }) => eni.id === action.eniId)! : null;
    if (action.kind === 'assign' || action.kind === 'assign-prefixes') {
      assert.ok(action.count > 0 && one!.blocks.length + action.count <= slots, 'over the slots');
      assert.ok(!one!.closed, 'an ENI that gives nothing grows');
      allowance.take(one!.eni.subnetId, action.count * (action.kind === 'assign' ? 1 : PREFIX_SIZE));
      assert.ok(allowance.left(one!.eni.subnetId) >= 0, 'over a bound');
    } else if (action.kind === 'create') {
      const { count, prefixes = 0, subnetId } = action;
      assert.ok(++enis <= Math.min(limits.enis, policy.maxEnis ?? limits.enis), 'over the ENIs');
      assert.ok(count + prefixes > 0 && count + prefixes <= slots && (count === 0 || prefixes === 0));
      assert.ok(!policy.excludedSubnetIds.includes(subnetId), 'an excluded subnet');
      allowance.take(subnetId, 1 + count + prefixes * PREFIX_SIZE);
      assert.ok(allowance.left(subnetId) >= 0, 'over a bound');
    } else if (action.kind === 'unassign') {
      assert.ok(action.blocks.length > 0);
      assert.equal(new Set(action.blocks.map(({ length }) => length)).size, 1, 'two kinds in one call');
      for (const { ip } of action.blocks) {
        const found = one!.blocks.find(({ block }) => block.cidr.ip === ip)!;
        assert.ok(isIdle(found) && !found.block.pinned, 'a block in use');
      }
    } else if (action.kind === 'remove') {
      assert.ok(!one!.eni.primary && !one!.isHolding);
      assert.ok(
        one!.blocks.every((each) => isIdle(each) && !each.block.pinned),
        'an ENI that is not drained',
      );
    }
  }
  // Where slots are wanted an ENI comes for them, at the goal.
  const giving = census.enis.filter(({ closed }) => !closed).length;
  if (giving * slots >= room) checkFilled(model, actions, policy, touched);
  if (waiting > 0)
    for (const { kind } of actions) assert.notEqual(kind === 'unassign' && touched.size === 0, true);
}

/** An ENI is attached only when those that are there have no room, or none that may be used. */
function checkFilled(
  { state, now }: Model,
  actions: readonly Action[],
  policy: PoolPolicy,
  touched: ReadonlySet<string>,
): void {
  if (!actions.some(({ kind }) => kind === 'create')) return;
  const allowance = new Allowance(state, policy);
  const prefixes = usesPrefixes(policy, limits);
  for (const { one, room } of growableEnis(censusOf(state, now, givingOf(policy, limits)).enis, limits)) {
    const { id, subnetId } = one.eni;
    const isPaused = state.pauses.has(`subnet:${subnetId}`);
    // With addressing `prefix` single addresses are for waiting pods alone.
    const isSpared =
      policy.addressing === 'prefix' &&
      prefixes &&
      lacksPrefixes(state, subnetId, givingOf(policy, limits), now);
    const isBounded = allowance.left(subnetId) < 2 * PREFIX_SIZE * slots;
    assert.ok(
      touched.has(id) || isPaused || isSpared || isBounded,
      `${id} has room for ${room} and an ENI is attached`,
    );
  }
}

const MOST_STEPS = 40;

/** Applies plans until there is nothing to do; a plan's later actions may be of a state that its earlier ones changed. */
function settle(model: Model, waiting: number, policy: PoolPolicy, room: number): void {
  for (let step = 0; ; step++) {
    assert.ok(step < MOST_STEPS, 'it does not come to rest');
    const actions = plan(model.state, { waiting, room }, limits, policy, model.now);
    checkPlan(model, actions, waiting, policy, room);
    if (actions.length === 0) return;
    for (const action of actions) model.apply(action);
  }
}

test('within every bound, nothing held named, filled before attached, drained before detached; at rest soon', () => {
  fc.assert(
    fc.property(
      fc.array(madeEni, { minLength: 1, maxLength: 4 }),
      policyArbitrary,
      fc.nat(30),
      fc.subarray(SUBNETS),
      fc.subarray(SUBNETS),
      fc.nat(40),
      (made, policy, waiting, broken, full, asked) => {
        // Only a forecast of single addresses asks for slots.
        const room = policy.targets.kind === 'incumbent' || policy.addressing !== 'secondary' ? 0 : asked;
        const model = new Model(poolOf(made), broken, full);
        const held = [...model.state.uses].filter(([, use]) => use.kind === 'held').map(([ip]) => ip);
        settle(model, waiting, policy, room);
        // No pod waits, what cooled is idle, and EC2's refusals are past and come again.
        for (let round = 0; round < 3; round++) {
          model.now += 400_000;
          settle(model, 0, policy, room);
        }
        const { enis, counted, totals } = censusOf(model.state, model.now, givingOf(policy, limits));
        const blocks = enis.flatMap((one) => one.blocks);
        for (const ip of held)
          assert.ok(
            blocks.some(
              ({ block }) => block.cidr.ip <= ip && ip < addToIp(block.cidr.ip as Ipv4, cidrSize(block.cidr)),
            ),
            'a held address was returned',
          );
        for (const { closed, blocks: left } of enis)
          if (closed)
            assert.ok(
              left.every((each) => !isIdle(each) || each.block.pinned),
              'it has not drained',
            );
        const allowance = new Allowance(model.state, policy);
        const isBeyond = SUBNETS.some((id) => allowance.left(id) < 0);
        const isKept = (one: (typeof blocks)[number]) => !isIdle(one) || one.block.pinned;
        if (isBeyond && policy.maxAddresses) assert.ok(blocks.every(isKept), 'idle ones stay beyond a bound');
        if (policy.targets.kind !== 'warm' || policy.maxAddresses || policy.maxSubnetPercent) return;
        const goal = freeGoal(totals.held, { waiting: 0 }, policy);
        const isFull = full.length > 0 || (policy.addressing === 'prefix' && broken.length > 0);
        const canGrow = !isFull && growableEnis(enis, limits).length > 0;
        if (canGrow) assert.ok(counted >= goal, `${counted} free, the goal is ${goal}`);
      },
    ),
    { numRuns: RUNS },
  );
});
