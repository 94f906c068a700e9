// What each field of the policy does to a plan: kinds of addresses, where ENIs stand, bounds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addToIp, type Cidr, hostCidr, type Ip, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { EniId } from '../../cloud/port.ts';
import { defaultPolicy, type PoolPolicy } from '../policy.ts';
import { type Eni, emptyPool, newBlock, type Pause, type PoolState, type Use } from '../state.ts';
import { m5Large, podOwner } from '../testkit.ts';
import { givesAll, nextFree, prefixKey } from './census.ts';
import { type Action, plan } from './plan.ts';

const NOW = 1_700_000_000_000;
const LONG_AGO = NOW - 3_600_000;
const policy: PoolPolicy = {
  ...defaultPolicy,
  targets: { kind: 'warm', free: 4 },
  idleReleaseMs: 60_000,
  podLimit: 110,
};

type Wanted = {
  /** Held addresses of each prefix. */
  prefixes?: number[];
  singles?: number;
  /** Held ones of the singles. */
  held?: number;
  subnet?: string;
};

function pool(...wanted: Wanted[]): PoolState {
  const uses = new Map<Ip, Use>();
  const enis = wanted.map(({ prefixes = [], singles = 0, held = 0, subnet = 'subnet-0a' }, device) => {
    const base = parseIpv4(`10.0.${device}.0`);
    const made: [Cidr, number][] = [
      ...prefixes.map((count, i): [Cidr, number] => [{ ip: addToIp(base, 16 * i), length: 28 }, count]),
      ...Array.from({ length: singles }, (_, i): [Cidr, number] => [
        hostCidr(addToIp(base, 200 + i)),
        i < held ? 1 : 0,
      ]),
    ];
    const eni: Eni = {
      id: `eni-${device}` as EniId,
      mac: `02:00:00:00:00:0${device}` as Mac,
      deviceIndex: device,
      networkCard: 0,
      subnetCidr: parseCidr('10.0.0.0/24'),
      primaryIp: addToIp(base, 250),
      subnetId: subnet,
      groupIds: ['sg-0'],
      interfaceType: 'interface',
      attachmentId: 'a',
      deleteOnTermination: true,
      primary: device === 0,
      phase: 'ready',
      since: LONG_AGO,
      settledAt: LONG_AGO,
      missingSince: null,
      blocks: new Map(made.map(([cidr]) => [cidr.ip, newBlock(cidr, LONG_AGO, { pending: false })])),
      unsettled: null,
      returned: new Map(),
    };
    for (const [cidr, count] of made)
      for (let i = 0; i < count; i++) {
        const ip = addToIp(cidr.ip, i);
        const owner = podOwner(`${device}-${ip}`);
        uses.set(ip, { kind: 'held', lease: { owner, ips: [ip], eni, at: LONG_AGO } });
      }
    return eni;
  });
  return { ...emptyPool, enis: new Map(enis.map((eni) => [eni.id, eni])), uses };
}

const paused = (state: PoolState, ...keys: string[]): PoolState => {
  const pause: Pause = {
    ...{ cause: 'SUBNET_EXHAUSTED' as const, message: '', since: NOW, failedAt: NOW, failures: 1 },
    ...{ until: NOW + 60_000, probeAt: NOW + 60_000 },
  };
  return { ...state, pauses: new Map(keys.map((key) => [key, pause])) };
};

const short = (action: Action): string => {
  switch (action.kind) {
    case 'assign':
      return `assign ${action.eniId} ${action.count}`;
    case 'assign-prefixes':
      return `prefixes ${action.eniId} ${action.count}`;
    case 'create':
      return `create ${action.deviceIndex} ${action.prefixes ? `/28 ${action.prefixes}` : action.count} ${action.subnetId}`;
    case 'unassign':
      return `unassign ${action.eniId} /${action.blocks[0]!.length} ${action.blocks.length}`;
    case 'resume':
      return 'resume';
    default:
      return `${action.kind} ${action.eniId}`;
  }
};
const FRAGMENTED = prefixKey('subnet-0a');
const cases: [string, PoolState, number, Partial<PoolPolicy>, string[]][] = [
  ['a new node gets one prefix', pool({}), 0, { addressing: 'prefix' }, ['prefixes eni-0 1']],
  [
    'as many prefixes as waiting pods need, in one call',
    pool({}),
    40,
    { addressing: 'prefix' },
    ['prefixes eni-0 3'],
  ],
  [
    'slots of attached ENIs are filled first; then an ENI comes with its prefixes',
    pool({ prefixes: Array(8).fill(16) }),
    40,
    { addressing: 'auto' },
    ['prefixes eni-0 1', 'create 1 /28 2 subnet-0a'],
  ],
  [
    'a subnet without whole /28s: auto takes single addresses for its goal',
    paused(pool({}), FRAGMENTED),
    0,
    { addressing: 'auto' },
    ['assign eni-0 4'],
  ],
  ['prefix keeps no single address warm', paused(pool({}), FRAGMENTED), 0, { addressing: 'prefix' }, []],
  [
    'prefix takes single addresses for pods that wait',
    paused(pool({}), FRAGMENTED),
    3,
    { addressing: 'prefix' },
    ['assign eni-0 3'],
  ],
  [
    'another subnet of the policy has prefixes',
    paused(pool({ singles: 9, held: 9 }), FRAGMENTED),
    1,
    { addressing: 'prefix', subnetIds: ['subnet-0a', 'subnet-0b'] },
    ['create 1 /28 1 subnet-0b'],
  ],
  [
    'whole /28s are back: the single addresses do not count, and a prefix comes first',
    pool({ singles: 4 }),
    0,
    { addressing: 'auto' },
    ['prefixes eni-0 1'],
  ],
  [
    'then what is idle of the other kind goes, held ones stay',
    pool({ singles: 5, held: 2, prefixes: [0] }),
    0,
    { addressing: 'auto' },
    ['unassign eni-0 /32 3'],
  ],
  [
    'back to single addresses: free ones of a used prefix do not count',
    pool({ prefixes: [3] }),
    0,
    {},
    ['assign eni-0 4'],
  ],
  [
    'an idle prefix goes once single addresses are there',
    pool({ prefixes: [0], singles: 4 }),
    0,
    {},
    ['unassign eni-0 /28 1'],
  ],
  [
    'no slot is left for the new kind: one idle block of the old one goes first',
    pool({ singles: 9, held: 7 }),
    0,
    { addressing: 'prefix', maxEnis: 1 },
    ['unassign eni-0 /32 1'],
  ],
  [
    'a whole idle prefix beyond the goal goes',
    pool({ prefixes: [8, 0] }),
    0,
    { addressing: 'prefix' },
    ['unassign eni-0 /28 1'],
  ],
  ['a prefix that the goal needs stays', pool({ prefixes: [14, 0] }), 0, { addressing: 'prefix' }, []],
  [
    'a full subnet is left alone while another goes on',
    paused(pool({ singles: 9, held: 9 }), 'subnet:subnet-0a'),
    0,
    { subnetIds: ['subnet-0a', 'subnet-0b'] },
    ['create 1 4 subnet-0b'],
  ],
  [
    'an excluded subnet gives no address and drains',
    pool({}, { singles: 4, held: 1, subnet: 'subnet-0b' }, { singles: 2, subnet: 'subnet-0b' }),
    0,
    { excludedSubnetIds: ['subnet-0b'] },
    ['remove eni-2', 'unassign eni-1 /32 3', 'assign eni-0 4'],
  ],
  [
    'a primary ENI that gives nothing drains, and others are attached',
    pool({ singles: 3, held: 1 }),
    0,
    { primaryGives: false },
    ['unassign eni-0 /32 2', 'create 1 4 subnet-0a'],
  ],
  ['no ENI beyond the policy number', pool({ singles: 9, held: 9 }), 3, { maxEnis: 1 }, []],
  [
    'ENIs beyond a lowered number give none and leave, the emptiest first',
    pool({ singles: 5, held: 1 }, { singles: 4, held: 2 }, { singles: 4 }),
    0,
    { maxEnis: 2 },
    ['remove eni-2', 'unassign eni-1 /32 2'],
  ],
  [
    'addresses are bounded, the ENIs own included',
    pool({ singles: 3, held: 3 }),
    9,
    { maxAddresses: 6 },
    ['assign eni-0 2'],
  ],
  [
    'beyond a lowered bound idle ones go, whatever the goal',
    pool({ singles: 6, held: 2 }),
    0,
    { maxAddresses: 5, targets: { kind: 'warm', free: 9 } },
    ['unassign eni-0 /32 2'],
  ],
  [
    'a share of the subnet is a bound, too',
    pool({ singles: 3, held: 3 }),
    9,
    { maxSubnetPercent: 2 },
    ['assign eni-0 1'],
  ],
  [
    'a bound below two prefixes: single addresses',
    pool({}),
    0,
    { addressing: 'auto', maxAddresses: 31 },
    ['assign eni-0 4'],
  ],
];
for (const [name, state, waiting, over, expected] of cases)
  test(name, () =>
    assert.deepEqual(plan(state, { waiting }, m5Large, { ...policy, ...over }, NOW).map(short), expected),
  );

test('the groups of new ENIs are the policy ones', () => {
  const [action] = plan(
    pool({ singles: 9, held: 9 }),
    { waiting: 1 },
    m5Large,
    { ...policy, groupIds: ['sg-1'] },
    NOW,
  );
  assert.deepEqual(action?.kind === 'create' && action.groupIds, ['sg-1']);
});

test('a type without prefixes has single addresses, whatever the policy says', () => {
  const limits: InstanceLimits = { ...m5Large, prefixes: false };
  const actions = plan(pool({}), { waiting: 0 }, limits, { ...policy, addressing: 'prefix' }, NOW);
  assert.deepEqual(actions.map(short), ['assign eni-0 4']);
});

test('the fullest prefix gives first, of the fullest ENI; the other kind gives last', () => {
  const prefers = { ...givesAll, prefers: 'prefix' as const };
  const state = pool({}, { prefixes: [2, 9] }, { prefixes: [12], singles: 2, held: 1 });
  const first = nextFree(state, NOW, prefers)!;
  assert.deepEqual([first.eni.id, first.ips[0]], ['eni-2', addToIp(parseIpv4('10.0.2.0'), 12)]);
  const single = nextFree(state, NOW, givesAll)!;
  assert.equal(single.ips[0], addToIp(parseIpv4('10.0.2.0'), 201));
});

test('in a prefix the address that was released longest ago is given, never used ones before it', () => {
  const state = pool({ prefixes: [15] });
  const uses = new Map(state.uses);
  const base = parseIpv4('10.0.0.0');
  const cooled = (at: number): Use => ({ kind: 'cooling', since: at, until: at, clean: true });
  for (const [offset, at] of [
    [3, 5],
    [7, 2],
    [9, 8],
  ] as const)
    uses.set(addToIp(base, offset), cooled(LONG_AGO + at));
  const prefers = { ...givesAll, prefers: 'prefix' as const };
  assert.equal(nextFree({ ...state, uses }, NOW, prefers)!.ips[0], addToIp(base, 15));
  uses.set(addToIp(base, 15), uses.get(base)!);
  assert.equal(nextFree({ ...state, uses: new Map(uses) }, NOW, prefers)!.ips[0], addToIp(base, 7));
});
