import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Cidr, formatIp, hostCidr, type Ipv4, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { emptyPool, type Lease, type PoolState, withEni } from '../state.ts';
import { podOwner } from '../testkit.ts';
import { adoptEni, foldDescribe } from './observe.ts';
import { TAG_INSTANCE } from './tags.ts';

const T0 = 1_700_000_000_000;
const subnetCidrs: ReadonlyMap<string, Cidr> = new Map([['subnet-0a', parseCidr('10.0.0.0/19')]]);
const at = (beganAt: number) => ({
  instanceId: 'i-0',
  primaryEniId: 'eni-0' as EniId,
  subnetCidrs,
  beganAt,
  now: beganAt + 50,
  isForeign: (one: { public: boolean }) => one.public,
});

function described(
  id: string,
  deviceIndex: number,
  ips: string[],
  over: Partial<EniDescription> = {},
): EniDescription {
  return {
    id: id as EniId,
    mac: `02:00:00:00:00:0${deviceIndex}` as Mac,
    subnetId: 'subnet-0a',
    vpcId: 'vpc-0',
    zone: 'us-west-2a',
    description: '',
    interfaceType: 'interface',
    status: 'in-use',
    groupIds: ['sg-0'],
    addresses: ips.map((ip, i) => ({ ip: parseIpv4(ip), primary: i === 0, public: false })),
    ipv6Addresses: [],
    ipv4Prefixes: [],
    ipv6Prefixes: [],
    attachment: {
      id: `eni-attach-${deviceIndex}`,
      instanceId: 'i-0',
      deviceIndex,
      networkCard: 0,
      status: 'attached',
      deleteOnTermination: true,
    },
    requesterId: '',
    tags: deviceIndex === 0 ? {} : { [TAG_INSTANCE]: 'i-0' },
    ...over,
  };
}

const primary = (...ips: string[]) => described('eni-0', 0, ['10.0.0.10', ...ips]);

function poolOf(...enis: EniDescription[]): PoolState {
  let state = emptyPool;
  for (const eni of enis) state = withEni(state, { ...adoptEni(eni, at(T0)), phase: 'ready', settledAt: T0 });
  return state;
}
const addressesOf = (state: PoolState, id: string): string[] =>
  [...(state.enis.get(id as EniId)?.blocks.keys() ?? [])].map((ip) => formatIp(ip)).sort();

test('what is new is taken in at once; ENIs of others take slots and nothing else', () => {
  const { state, observations } = foldDescribe(
    emptyPool,
    [
      primary('10.0.0.11'),
      described('eni-1', 1, ['10.0.0.20', '10.0.0.21']),
      described('eni-2', 2, ['10.0.0.30'], { tags: {} }),
    ],
    at(T0),
  );
  assert.deepEqual([...state.enis.keys()], ['eni-0', 'eni-1']);
  assert.equal(state.enis.get('eni-1' as EniId)!.phase, 'attached');
  assert.deepEqual(
    state.foreign.map((eni) => eni.id),
    ['eni-2'],
  );
  assert.equal(observations.filter((one) => one.kind === 'eni-found').length, 2);
});

test('an address leaves after two describes 30 s apart, and is not given out in between', () => {
  const pool = poolOf(primary('10.0.0.11', '10.0.0.12'));
  const once = foldDescribe(pool, [primary('10.0.0.11')], at(T0 + 1_000)).state;
  assert.deepEqual(addressesOf(once, 'eni-0'), ['10.0.0.11', '10.0.0.12']);
  assert.equal(once.enis.get('eni-0' as EniId)!.blocks.get(parseIpv4('10.0.0.12'))!.missingSince, T0 + 1_000);
  const tooSoon = foldDescribe(once, [primary('10.0.0.11')], at(T0 + 30_999)).state;
  assert.deepEqual(addressesOf(tooSoon, 'eni-0'), ['10.0.0.11', '10.0.0.12']);
  const gone = foldDescribe(tooSoon, [primary('10.0.0.11')], at(T0 + 31_000)).state;
  assert.deepEqual(addressesOf(gone, 'eni-0'), ['10.0.0.11']);
  const back = foldDescribe(once, [primary('10.0.0.11', '10.0.0.12')], at(T0 + 31_000)).state;
  assert.equal(back.enis.get('eni-0' as EniId)!.blocks.get(parseIpv4('10.0.0.12'))!.missingSince, null);
});

test('a describe that began before our last change settled, or while a call is out, says nothing', () => {
  const pool = poolOf(primary('10.0.0.11'));
  assert.equal(foldDescribe(pool, [primary()], at(T0)).state.enis, pool.enis);
  const busy = { ...pool, busy: new Map([['eni-0', 0]]) };
  assert.equal(foldDescribe(busy, [primary()], at(T0 + 1_000)).state.enis, pool.enis);
});

test('an ENI leaves after two describes; one that pods hold addresses of stays and is reported', () => {
  const pool = poolOf(primary(), described('eni-1', 1, ['10.0.0.20', '10.0.0.21']));
  const ip = parseIpv4('10.0.0.21');
  const eni = pool.enis.get('eni-1' as EniId)!;
  const lease: Lease = { owner: podOwner('a'), ips: [ip], eni, at: T0 };
  const held: PoolState = { ...pool, uses: new Map([[ip, { kind: 'held', lease }]]) };
  const once = foldDescribe(held, [primary()], at(T0 + 1_000));
  assert.deepEqual(
    once.observations.map((one) => [one.kind, one.held]),
    [['eni-missing', true]],
  );
  const twice = foldDescribe(once.state, [primary()], at(T0 + 40_000));
  assert.deepEqual(
    twice.observations.map((one) => [one.kind, one.held]),
    [],
  );
  assert.equal(twice.state.enis.has('eni-1' as EniId), true, 'it is asked for by its holder');
  const released = { ...once.state, uses: new Map() };
  const gone = foldDescribe(released, [primary()], at(T0 + 40_000));
  assert.deepEqual(
    gone.observations.map((one) => [one.kind, one.held]),
    [['eni-gone', false]],
  );
  assert.equal(gone.state.enis.has('eni-1' as EniId), false);
});

test('a lagging describe brings back neither a returned address nor a removed ENI', () => {
  const pool = poolOf(primary('10.0.0.11'));
  const eni = pool.enis.get('eni-0' as EniId)!;
  const ip = parseIpv4('10.0.0.12') as Ipv4;
  const state: PoolState = {
    ...withEni(pool, { ...eni, returned: new Map([[ip, T0]]) }),
    removed: new Map([['eni-1' as EniId, T0]]),
  };
  const lagging = [primary('10.0.0.11', '10.0.0.12'), described('eni-1', 1, ['10.0.0.20', '10.0.0.21'])];
  const soon = foldDescribe(state, lagging, at(T0 + 20_000)).state;
  assert.deepEqual(addressesOf(soon, 'eni-0'), ['10.0.0.11']);
  assert.equal(soon.enis.size, 1);
  const later = foldDescribe(state, lagging, at(T0 + 60_000)).state;
  assert.deepEqual(addressesOf(later, 'eni-0'), ['10.0.0.11', '10.0.0.12']);
  assert.equal(later.enis.size, 2);
});

test('an address with a public one on it is pinned; prefixes are blocks', () => {
  const eni = primary('10.0.0.11');
  eni.addresses[1]!.public = true;
  eni.ipv4Prefixes = [parseCidr('10.0.1.0/28')];
  const { state } = foldDescribe(emptyPool, [eni], at(T0));
  const blocks = state.enis.get('eni-0' as EniId)!.blocks;
  assert.equal(blocks.get(parseIpv4('10.0.0.11'))!.pinned, true);
  assert.deepEqual(blocks.get(parseIpv4('10.0.1.0'))!.cidr, parseCidr('10.0.1.0/28'));
  assert.deepEqual(blocks.get(parseIpv4('10.0.0.11'))!.cidr, hostCidr(parseIpv4('10.0.0.11')));
});

test('the primary ENI of a describe that lags is attached, whatever the describe says of its attachment', () => {
  const whole = primary('10.0.0.11');
  for (const attachment of [null, { ...whole.attachment!, status: 'attaching' as const }]) {
    const { state } = foldDescribe(emptyPool, [{ ...whole, attachment }], at(T0));
    const eni = state.enis.get('eni-0' as EniId)!;
    assert.deepEqual([eni.primary, eni.phase, eni.deviceIndex], [true, 'attached', 0]);
    // A later describe tells the rest, and takes nothing away.
    const later = foldDescribe(state, [whole], at(T0 + 1_000)).state.enis.get('eni-0' as EniId)!;
    assert.deepEqual([later.phase, later.attachmentId], ['attached', 'eni-attach-0']);
  }
});
