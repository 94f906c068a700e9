import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addToIp, cidrSize, hostCidr, type Ip, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { EniId } from '../../cloud/port.ts';
import { defaultPolicy, type PoolPolicy } from '../policy.ts';
import {
  type Block,
  type Creation,
  type Eni,
  emptyPool,
  isFree,
  isHolding,
  type Lease,
  newBlock,
  type Pause,
  type PoolState,
  type Use,
} from '../state.ts';
import { m5Large, podOwner } from '../testkit.ts';
import { slotsPerEni } from './aim.ts';
import { type Action, plan } from './plan.ts';

const NOW = 1_700_000_000_000;
const policy: PoolPolicy = {
  ...defaultPolicy,
  targets: { kind: 'warm', free: 4 },
  idleReleaseMs: 60_000,
  podLimit: 29,
};
const LONG_AGO = NOW - 600_000;

const idOf = (device: number) => `eni-${device}` as EniId;
const ipOf = (device: number, n: number) => parseIpv4(`10.0.${device}.${n}`);

function eni(device: number, addresses: number, over: Partial<Eni> = {}): Eni {
  const blocks = new Map<Ip, Block>();
  for (let n = 1; n <= addresses; n++) {
    blocks.set(ipOf(device, n), { ...newBlock(hostCidr(ipOf(device, n)), LONG_AGO), pending: false });
  }
  return {
    id: idOf(device),
    mac: `02:00:00:00:00:0${device}` as Mac,
    deviceIndex: device,
    networkCard: 0,
    subnetCidr: parseCidr('10.0.0.0/16'),
    primaryIp: ipOf(device, 250),
    subnetId: 'subnet-0a',
    groupIds: ['sg-0'],
    interfaceType: 'interface',
    attachmentId: `eni-attach-${device}`,
    deleteOnTermination: true,
    primary: device === 0,
    phase: 'ready',
    since: LONG_AGO,
    settledAt: LONG_AGO,
    missingSince: null,
    blocks,
    unsettled: null,
    returned: new Map(),
    ...over,
  };
}

/** ENIs as [addresses, held, cooling] by device. */
function pool(...enis: [number, number, number][]): PoolState {
  const uses = new Map<Ip, Use>();
  const all = enis.map(([addresses, held, cooling], device) => {
    const one = eni(device, addresses);
    for (let n = 1; n <= held + cooling; n++) {
      const lease: Lease = { owner: podOwner(`${device}-${n}`), ips: [ipOf(device, n)], eni: one, at: NOW };
      const cools: Use = { kind: 'cooling', since: NOW - 1_000, until: NOW + 29_000, clean: true };
      uses.set(ipOf(device, n), n <= held ? { kind: 'held', lease } : cools);
    }
    return one;
  });
  return { ...emptyPool, enis: new Map(all.map((one) => [one.id, one])), uses };
}

const short = (action: Action): string => {
  if (action.kind === 'assign') return `assign ${action.eniId} ${action.count}`;
  if (action.kind === 'create') return `create ${action.deviceIndex} ${action.count}`;
  if (action.kind === 'unassign') return `unassign ${action.eniId} ${action.blocks.length}`;
  if (action.kind === 'resume') return 'resume';
  return `${action.kind} ${action.eniId}`;
};
const planned = (state: PoolState, waiting = 0, over: Partial<PoolPolicy> = {}) =>
  plan(state, { waiting }, m5Large, { ...policy, ...over }, NOW).map(short);

const pause = (over: Partial<Pause> = {}): Pause => ({
  cause: 'SUBNET_EXHAUSTED',
  message: '',
  since: NOW,
  failedAt: NOW,
  failures: 1,
  until: NOW + 60_000,
  probeAt: NOW + 1_000,
  ...over,
});
const paused = (state: PoolState, key: string, over: Partial<Pause> = {}): PoolState => ({
  ...state,
  pauses: new Map([[key, pause(over)]]),
});

test('an ENI comes for its slots before they are wanted, and stays for them', () => {
  const forRoom = (state: PoolState, room: number, over: Partial<PoolPolicy> = {}) =>
    plan(state, { waiting: 0, room }, m5Large, { ...policy, ...over }, NOW).map(short);
  const met = pool([4, 0, 0]);
  assert.deepEqual(forRoom(met, 9), []);
  assert.deepEqual(forRoom(met, 10), ['create 1 4']);
  // One at a time, and none beyond the type's limit or in a full subnet.
  assert.deepEqual(forRoom(met, 27), ['create 1 4']);
  assert.deepEqual(forRoom(pool([9, 9, 0], [9, 9, 0], [9, 5, 0]), 40), []);
  assert.deepEqual(forRoom(paused(met, 'subnet:subnet-0a'), 10), []);
  const empty = pool([9, 0, 0], [4, 0, 0]);
  assert.deepEqual(forRoom(empty, 9), ['remove eni-1', 'unassign eni-0 5']);
  assert.deepEqual(forRoom(empty, 10), ['unassign eni-1 4', 'unassign eni-0 5']);
});

test('the next ENI is made when EC2 has taken the one before', () => {
  const creation: Creation = {
    ...{ token: 'first', subnetId: 'subnet-0a', groupIds: [], networkCard: 0, deviceIndex: 1, count: 9 },
    ...{ since: NOW, eniId: 'eni-1' as EniId },
  };
  const during = (one: Creation): PoolState => ({
    ...pool([9, 9, 0]),
    creations: new Map([[one.token, one]]),
    busy: new Map([[one.token, 9]]),
  });
  assert.deepEqual(planned(during(creation), 12), []);
  assert.deepEqual(planned(during({ ...creation, taken: true }), 12), ['create 2 7']);
});

const cases: [string, PoolState, number, Partial<PoolPolicy>, string[]][] = [
  ['a new node fills the primary ENI to the warm target', pool([0, 0, 0]), 0, {}, ['assign eni-0 4']],
  ['nothing to do at the target', pool([4, 0, 0]), 0, {}, []],
  ['cooling addresses do not count as free', pool([4, 0, 4]), 0, {}, ['assign eni-0 4']],
  ['existing ENIs are filled before one is attached', pool([9, 9, 0], [3, 3, 0]), 2, {}, ['assign eni-1 6']],
  ['then ENIs are attached, one after the other', pool([9, 9, 0]), 12, {}, ['create 1 9']],
  ['never beyond the limits of the type', pool([9, 9, 0], [9, 9, 0], [9, 9, 0]), 5, {}, []],
  ['the pod limit bounds the warm target', pool([5, 5, 0]), 0, { podLimit: 6 }, ['assign eni-0 1']],
  ['warm 0 keeps nothing', pool([4, 4, 0]), 0, { targets: { kind: 'warm', free: 0 } }, []],
  [
    'the emptiest ENIs leave first',
    pool([9, 5, 0], [9, 2, 0], [9, 0, 0]),
    0,
    {},
    ['remove eni-2', 'unassign eni-1 7'],
  ],
  ['an ENI with a cooling address stays', pool([9, 5, 0], [9, 0, 1]), 0, {}, ['unassign eni-1 8']],
  [
    'all idle: only the primary ENI stays, at the target',
    pool([9, 0, 0], [9, 0, 0], [9, 0, 0]),
    0,
    {},
    ['remove eni-2', 'remove eni-1', 'unassign eni-0 5'],
  ],
  [
    'an ENI that only keeps warm addresses is emptied into the others',
    pool([3, 3, 0], [4, 0, 0]),
    0,
    {},
    ['assign eni-0 4'],
  ],
  ['nothing leaves while a pod waits', pool([9, 5, 0], [9, 0, 0]), 1, {}, []],
  ['a paused subnet is left alone', paused(pool([2, 2, 0]), 'subnet:subnet-0a'), 0, {}, []],
  [
    'a pod that waits gets one try for one address when the probe is due',
    paused(pool([2, 2, 0]), 'subnet:subnet-0a', { probeAt: NOW }),
    3,
    {},
    ['assign eni-0 1'],
  ],
  [
    'a paused cloud: nothing',
    paused(pool([9, 0, 0], [9, 0, 0]), 'cloud', { cause: 'CLOUD_UNREACHABLE' }),
    0,
    {},
    [],
  ],
];
for (const [name, state, waiting, over, expected] of cases) {
  test(name, () => assert.deepEqual(planned(state, waiting, over), expected));
}

test('a full subnet does not stop ENIs in another', () => {
  const state = pool([2, 2, 0], [2, 2, 0]);
  const other = { ...state.enis.get(idOf(1))!, subnetId: 'subnet-0b' };
  const enis = new Map(state.enis).set(other.id, other);
  assert.deepEqual(planned(paused({ ...state, enis }, 'subnet:subnet-0a')), ['assign eni-1 4']);
});

test('ENIs of others take slots', () => {
  const foreign = [{ id: idOf(1), deviceIndex: 1, networkCard: 0, description: '' }];
  assert.deepEqual(planned({ ...pool([9, 9, 0]), foreign }, 12), ['create 2 9']);
});

test('idle counts from the end of the cooldown, and pinned addresses are never returned', () => {
  const state = pool([9, 0, 0]);
  const uses = new Map<Ip, Use>();
  for (let n = 1; n <= 3; n++)
    uses.set(ipOf(0, n), { kind: 'cooling', since: NOW - 80_000, until: NOW - 50_000, clean: true });
  for (let n = 4; n <= 7; n++)
    uses.set(ipOf(0, n), { kind: 'cooling', since: NOW - 95_000, until: NOW - 65_000, clean: true });
  assert.deepEqual(planned({ ...state, uses }), ['unassign eni-0 5']);
  const blocks = new Map(state.enis.get(idOf(0))!.blocks);
  for (const [ip, block] of blocks) blocks.set(ip, { ...block, pinned: true });
  assert.deepEqual(planned({ ...state, enis: new Map([[idOf(0), eni(0, 9, { blocks })]]) }), []);
});

// Any state at all, sensible or not.
const useArbitrary: fc.Arbitrary<Use> = fc.oneof(
  fc.constant<Use>({ kind: 'held', lease: { owner: podOwner('x'), ips: [], eni: eni(0, 0), at: 0 } }),
  fc.record({
    kind: fc.constant('cooling' as const),
    since: fc.constant(LONG_AGO),
    until: fc.constantFrom(LONG_AGO, NOW, NOW + 5_000),
    clean: fc.boolean(),
  }),
  fc.constant<Use>({ kind: 'quarantined', since: 0, reason: '' }),
);
const eniArbitrary = fc.record({
  addresses: fc.nat(12),
  phase: fc.constantFrom('attached' as const, 'ready' as const, 'leaving' as const),
  missing: fc.boolean(),
  busy: fc.boolean(),
  pausedFor: fc.boolean(),
  uses: fc.array(fc.option(useArbitrary), { maxLength: 12 }),
  leaving: fc.array(fc.boolean(), { maxLength: 3 }),
});
const stateArbitrary: fc.Arbitrary<PoolState> = fc
  .record({
    enis: fc.array(eniArbitrary, { maxLength: 4 }),
    foreign: fc.array(fc.nat(3), { maxLength: 2 }),
    creating: fc.nat(2),
    keys: fc.subarray(['cloud', 'create', 'subnet:subnet-0a']),
    probe: fc.constantFrom(NOW - 1, NOW + 1_000),
  })
  .map((made) => {
    const uses = new Map<Ip, Use>();
    const busy = new Map<string, number>();
    const pauses = new Map(made.keys.map((key) => [key, pause({ probeAt: made.probe })]));
    const enis = made.enis.map((one, device) => {
      const blank = eni(device, one.addresses, {
        phase: one.phase,
        missingSince: one.missing ? LONG_AGO : null,
      });
      const blocks = new Map(blank.blocks);
      one.leaving.forEach((leaving, i) => {
        const block = blocks.get(ipOf(device, i + 1));
        if (block) blocks.set(block.cidr.ip, { ...block, leaving });
      });
      one.uses.forEach((use, i) => {
        if (use) uses.set(ipOf(device, i + 1), use);
      });
      if (one.busy) busy.set(blank.id, 2);
      if (one.pausedFor) pauses.set(`eni:${blank.id}`, pause());
      return { ...blank, blocks };
    });
    const creations = new Map(
      Array.from({ length: made.creating }, (_, i) => [
        `token-${i}`,
        {
          token: `token-${i}`,
          subnetId: 'subnet-0a',
          groupIds: [],
          networkCard: 0,
          deviceIndex: 5 + i,
          count: 3,
          since: 0,
          eniId: null,
        },
      ]),
    );
    return {
      ...emptyPool,
      enis: new Map(enis.map((one) => [one.id, one])),
      uses,
      busy,
      pauses,
      creations,
      foreign: made.foreign.map((deviceIndex) => ({
        id: idOf(9),
        deviceIndex,
        networkCard: 0,
        description: '',
      })),
    };
  });

/** Nobody has an address of the block, and none cools. */
const isIdle = (state: PoolState, { cidr }: Block): boolean =>
  Array.from({ length: cidrSize(cidr) }, (_, i) => addToIp(cidr.ip, i)).every((ip) =>
    isFree(state.uses.get(ip), NOW),
  );

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of value instanceof Map ? value.values() : Object.values(value)) freeze(inner);
  }
  return value;
}

test('total and pure; within the limits; one action per ENI; nothing held is ever named', () => {
  const arbitraries = [
    stateArbitrary,
    fc.nat(40),
    fc.nat(30),
    fc.constantFrom(2, 3, 8),
    fc.constantFrom(1, 2, 10),
  ] as const;
  fc.assert(
    fc.property(...arbitraries, (state, waiting, warm, enis, ipv4PerEni) => {
      const limits: InstanceLimits = { ...m5Large, enis, ipv4PerEni };
      const run = () =>
        plan(freeze(state), { waiting }, limits, { ...policy, targets: { kind: 'warm', free: warm } }, NOW);
      const actions = run();
      assert.deepEqual(run(), actions);
      const touched = new Set<string>();
      let slots = state.enis.size + state.foreign.length + state.creations.size;
      for (const action of actions) {
        if (action.kind === 'resume') continue;
        const key = action.kind === 'create' ? `device ${action.deviceIndex}` : action.eniId;
        assert.ok(!touched.has(key), `two actions for ${key}`);
        touched.add(key);
        if (action.kind === 'create') {
          slots++;
          assert.ok(slots <= enis, 'over the limit of ENIs');
          assert.ok(action.count <= slotsPerEni(limits));
          continue;
        }
        const one = state.enis.get(action.eniId)!;
        assert.ok(!state.busy.has(one.id), 'a call is out for it already');
        if (action.kind === 'assign') assert.ok(one.blocks.size + action.count <= slotsPerEni(limits));
        if (action.kind === 'unassign') {
          for (const cidr of action.blocks) {
            assert.ok(isIdle(state, one.blocks.get(cidr.ip)!));
            assert.equal(cidrSize(cidr), 1);
          }
        }
        if (action.kind === 'remove') assert.ok(!isHolding(state, one), 'an ENI in use');
        if (action.kind === 'remove' && one.phase !== 'leaving') {
          assert.ok(!one.primary);
          for (const block of one.blocks.values()) assert.ok(isIdle(state, block));
        }
      }
    }),
    { numRuns: 400 },
  );
});
