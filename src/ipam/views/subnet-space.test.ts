import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addToIp, type Ipv4, parseCidr, parseIpv4 } from '../../base/ip.ts';
import { addressesByOwner, type IdleOf, planDefrag } from './defrag.ts';
import { spaceFigures, subnetSpace } from './subnet-space.ts';

const cidr = parseCidr('10.0.1.0/26');
const at = (offset: number): Ipv4 => addToIp(cidr.ip as Ipv4, offset) as Ipv4;
const space = (
  offsets: number[],
  prefixes: string[] = [],
  reservations: [string, 'prefix' | 'explicit'][] = [],
) =>
  subnetSpace({
    cidr,
    addresses: offsets.map(at),
    prefixes: prefixes.map((text) => parseCidr(text)),
    reservations: reservations.map(([text, kind]) => ({ cidr: parseCidr(text), kind })),
  });

test('an empty /26 has 59 addresses, and two of its four /28s are whole', () => {
  assert.deepEqual(spaceFigures(space([])), {
    usable: 59,
    free: 59,
    largestFreeRun: 59,
    // AWS keeps addresses of the first and of the last.
    freePrefixes: 2,
    reserved: { prefix: 0, explicit: 0 },
  });
});

test('one address in a /28 breaks it, a prefix takes it', () => {
  const broken = spaceFigures(space([20]));
  assert.deepEqual([broken.free, broken.largestFreeRun, broken.freePrefixes], [58, 42, 1]);
  const taken = spaceFigures(space([], ['10.0.1.16/28']));
  assert.deepEqual([taken.free, taken.largestFreeRun, taken.freePrefixes], [43, 31, 1]);
});

test('reservations set addresses aside; one for prefixes still gives /28s', () => {
  const figures = spaceFigures(
    space(
      [],
      [],
      [
        ['10.0.1.16/28', 'prefix'],
        ['10.0.1.32/28', 'explicit'],
      ],
    ),
  );
  assert.deepEqual(figures, {
    usable: 59,
    free: 27,
    largestFreeRun: 15,
    freePrefixes: 1,
    reserved: { prefix: 16, explicit: 16 },
  });
});

test('the plan frees /28s by idle addresses alone, the cheapest first, and keeps what a node needs', () => {
  const busy = space([17, 18, 19, 33, 34]);
  const nodes: IdleOf[] = [
    { owner: { node: 'a' }, idle: [at(17), at(18), at(33)], spare: Number.POSITIVE_INFINITY },
    { owner: { interface: 'eni-b' }, idle: [at(19), at(34)], spare: 1 },
  ];
  assert.deepEqual(planDefrag(busy, nodes), {
    freePrefixes: 0,
    freePrefixesAfter: 1,
    steps: [
      {
        prefix: '10.0.1.32/28',
        addresses: [
          { ip: '10.0.1.33', node: 'a' },
          { ip: '10.0.1.34', interface: 'eni-b' },
        ],
      },
    ],
  });
  const free = planDefrag(busy, [{ ...nodes[0]! }, { ...nodes[1]!, spare: 2 }]);
  assert.deepEqual(
    free.steps.map((step) => step.prefix),
    ['10.0.1.32/28', '10.0.1.16/28'],
  );
  assert.deepEqual(addressesByOwner(free.steps), [
    { owner: { node: 'a' }, addresses: ['10.0.1.33', '10.0.1.17', '10.0.1.18'] },
    { owner: { interface: 'eni-b' }, addresses: ['10.0.1.34', '10.0.1.19'] },
  ]);
  // A pod has 10.0.1.18: that /28 stays as it is.
  const held = planDefrag(busy, [
    { ...nodes[0]!, idle: [at(17), at(33)] },
    { ...nodes[1]!, spare: 2 },
  ]);
  assert.deepEqual(
    held.steps.map((step) => step.prefix),
    ['10.0.1.32/28'],
  );
});

test('following any plan frees exactly as many /28s as it says, and names idle addresses once', () => {
  const offsets = fc.uniqueArray(fc.integer({ min: 4, max: 62 }), { maxLength: 40 });
  fc.assert(
    fc.property(
      offsets,
      fc.array(fc.boolean(), { minLength: 59, maxLength: 59 }),
      fc.nat(40),
      (held, idle, spare) => {
        const isIdle = (offset: number) => idle[offset - 4] === true;
        const mine = held.filter(isIdle).map(at);
        const plan = planDefrag(space(held), [{ owner: { node: 'a' }, idle: mine, spare }]);
        const named = plan.steps.flatMap((step) => step.addresses.map((one) => parseIpv4(one.ip)));
        assert.equal(new Set(named).size, named.length);
        assert.ok(named.every((ip) => mine.includes(ip)));
        assert.ok(named.length <= spare);
        const left = held.filter((offset) => !named.includes(at(offset)));
        assert.equal(spaceFigures(space(left)).freePrefixes, plan.freePrefixesAfter);
      },
    ),
  );
});
