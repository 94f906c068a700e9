// What EC2 can still be asked for, by slots, ENIs, bounds and refusals. m5.large: 3 ENIs of 9 slots, 29 pods.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cause } from '../../base/causes.ts';
import { hostCidr, type Ip, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { EniId } from '../../cloud/port.ts';
import { defaultPolicy, type PoolPolicy } from '../policy.ts';
import { type Block, type Eni, emptyPool, newBlock, type Pause, type PoolState } from '../state.ts';
import { m5Large } from '../testkit.ts';
import { addressNeeds, obtainable } from './obtainable.ts';

const NOW = 1_700_000_000_000;
const SUBNET = 'subnet-0a';
const policy = (more: Partial<PoolPolicy> = {}): PoolPolicy => ({ ...defaultPolicy, podLimit: 29, ...more });

function eni(device: number, addresses: number): Eni {
  const blocks = new Map<Ip, Block>();
  for (let n = 1; n <= addresses; n++) {
    const ip = parseIpv4(`10.0.${device}.${n}`);
    blocks.set(ip, { ...newBlock(hostCidr(ip), 0), pending: false });
  }
  return {
    id: `eni-${device}` as EniId,
    mac: `02:00:00:00:00:0${device}` as Mac,
    ...{ deviceIndex: device, networkCard: 0, subnetId: SUBNET, subnetCidr: parseCidr('10.0.0.0/16') },
    primaryIp: parseIpv4(`10.0.${device}.250`),
    ...{ groupIds: ['sg-0'], interfaceType: 'interface', attachmentId: 'a', deleteOnTermination: true },
    ...{ primary: device === 0, phase: 'ready', since: 0, settledAt: 0, missingSince: null, blocks },
    ...{ unsettled: null, returned: new Map() },
  };
}
const stateOf = (enis: Eni[], pauses: [string, Cause][] = []): PoolState => ({
  ...emptyPool,
  enis: new Map(enis.map((one) => [one.id, one])),
  pauses: new Map(pauses.map(([key, cause]) => [key, { cause, message: '', until: NOW + 1 } as Pause])),
});
const of = (state: PoolState, more: Partial<PoolPolicy> = {}) =>
  obtainable(state, policy(more), m5Large, NOW);

for (const [what, found, count, lack] of [
  ['free slots of the ENIs and of those that may come', of(stateOf([eni(0, 4)])), 23, null],
  ['no more than the node takes pods', of(stateOf([eni(0, 4)]), { podLimit: 10 }), 6, null],
  ['nothing when all slots are full', of(stateOf([eni(0, 9), eni(1, 9), eni(2, 9)])), 0, 'ADDRESS_LIMIT'],
  [
    'nothing of a full subnet',
    of(stateOf([eni(0, 4)], [[`subnet:${SUBNET}`, 'SUBNET_EXHAUSTED']])),
    0,
    'SUBNET_EXHAUSTED',
  ],
  [
    'new ENIs in a subnet that is not full',
    of(stateOf([eni(0, 4)], [[`subnet:${SUBNET}`, 'SUBNET_EXHAUSTED']]), {
      subnetIds: [SUBNET, 'subnet-0b'],
    }),
    18,
    null,
  ],
  [
    'nothing while EC2 is away',
    of(stateOf([eni(0, 4)], [['cloud', 'CLOUD_UNREACHABLE']])),
    0,
    'CLOUD_UNREACHABLE',
  ],
  ['all of it while EC2 only throttles', of(stateOf([eni(0, 4)], [['create', 'CLOUD_THROTTLED']])), 23, null],
  [
    'the attached ENIs’ slots without the right to make one',
    of(stateOf([eni(0, 4)], [['create', 'CLOUD_DENIED']])),
    5,
    null,
  ],
  ['up to the policy’s bound', of(stateOf([eni(0, 4)]), { maxAddresses: 7 }), 2, null],
  ['nothing beyond it', of(stateOf([eni(0, 4)]), { maxAddresses: 5 }), 0, 'ADDRESS_LIMIT'],
] as const)
  test(`${what}: ${count}`, () => assert.deepEqual(found, { count, lack }));

const OTHER = 'subnet-0b';
const full: [string, Cause][] = [[`subnet:${SUBNET}`, 'SUBNET_EXHAUSTED']];
for (const [what, state, more, needs] of [
  ['1 with a free slot', stateOf([eni(0, 8)], full), {}, { [SUBNET]: 1 }],
  ['2 for a new ENI', stateOf([eni(0, 9)], full), {}, { [SUBNET]: 2 }],
  [
    '1 with a free slot where the node has prefixes',
    stateOf([eni(0, 8)], full),
    { addressing: 'prefix' },
    { [SUBNET]: 1 },
  ],
  [
    '2 in the subnets of new ENIs',
    stateOf([eni(0, 8)], full),
    { subnetIds: [OTHER] },
    { [SUBNET]: 1, [OTHER]: 2 },
  ],
  ['nothing where all slots are full', stateOf([eni(0, 9), eni(1, 9), eni(2, 9)], full), {}, {}],
  [
    'nothing without the right to make an ENI',
    stateOf([eni(0, 9)], [...full, ['create', 'CLOUD_DENIED']]),
    {},
    {},
  ],
  ['nothing where the policy’s bound leaves 1', stateOf([eni(0, 9)], full), { maxAddresses: 11 }, {}],
] as const)
  test(`a full subnet needs ${what}`, () =>
    assert.deepEqual(
      Object.fromEntries(
        addressNeeds(state, policy(more), m5Large, NOW).map((one) => [one.subnetId, one.addresses]),
      ),
      needs,
    ));
