import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  blocksBeyond,
  type IncumbentCounts,
  type IncumbentTargets,
  incumbentDefaults,
  isDispensable,
  isLow,
  mayRemoveEni,
  overOf,
  overPrefixes,
  shortOf,
  shortPrefixes,
} from './incumbent.ts';
import { type ModelNode, restingPools } from './incumbent-model.ts';

type Knobs = { E?: number; P?: number; W?: number; M?: number };
const targets = ({ E = 1, P = 1, W = 0, M = 0 }: Knobs): IncumbentTargets => ({
  ...incumbentDefaults,
  warmEnis: E,
  warmPrefixes: P,
  warmIps: W,
  minimumIps: M,
});
const counts = (total: number, assigned: number, prefixes = 0, freePrefixes = 0): IncumbentCounts => ({
  total,
  assigned,
  prefixes,
  freePrefixes,
});
const node = (slotsPerEni: number, maxEnis: number, maxPods: number, usesPrefixes = false): ModelNode => ({
  usesPrefixes,
  slotsPerEni,
  maxEnis,
  maxPods,
  primaryGives: true,
});
const t3small = node(3, 3, 11);
const p3dn = node(49, 15, 737);
const t3smallPrefixes = node(3, 3, 110, true);

describe("golden vectors of the AWS VPC CNI's arithmetic", () => {
  const single: [w: number, m: number, total: number, assigned: number, short: number, over: number][] = [
    [5, 0, 0, 0, 5, 0],
    [5, 0, 2, 0, 3, 0],
    [2, 5, 3, 0, 2, 0],
    [2, 5, 5, 5, 2, 0],
    [1, 1, 14, 2, 0, 11],
    [2, 12, 14, 0, 0, 2],
    [5, 10, 12, 7, 0, 0],
    [2, 23, 23, 19, 0, 0],
    [0, 16, 10, 10, 6, 0],
    [3, 0, 14, 5, 0, 6],
  ];
  for (const [W, M, total, assigned, short, over] of single) {
    test(`W=${W} M=${M}, ${assigned} of ${total}: ${short} short, ${over} over`, () => {
      assert.equal(shortOf(counts(total, assigned), targets({ W, M })), short);
      assert.equal(overOf(counts(total, assigned), targets({ W, M })), over);
    });
  }
  const prefixed: [
    w: number,
    m: number,
    total: number,
    used: number,
    p: number,
    f: number,
    short: number,
    over: number,
  ][] = [
    [5, 0, 0, 0, 0, 0, 1, 0],
    [5, 0, 32, 0, 2, 2, 0, 1],
    [16, 0, 16, 1, 1, 0, 1, 0],
    [7, 20, 0, 0, 0, 0, 2, 0],
    [7, 20, 32, 5, 2, 1, 0, 0],
    [1, 1, 48, 1, 3, 2, 0, 2],
    [15, 0, 48, 3, 3, 0, 0, 0],
  ];
  for (const [W, M, total, assigned, prefixes, free, short, over] of prefixed) {
    test(`W=${W} M=${M}, ${assigned} of ${prefixes} prefixes: ${short} short, ${over} over`, () => {
      assert.equal(shortPrefixes(counts(total, assigned, prefixes, free), targets({ W, M })), short);
      assert.equal(overPrefixes(counts(total, assigned, prefixes, free), targets({ W, M })), over);
    });
  }
});

describe("the AWS VPC CNI's steady states", () => {
  const cases: [name: string, node: ModelNode, knobs: Knobs, pods: number, enis: number, blocks: number][] = [
    ['t3.small', t3small, { E: 1 }, 0, 1, 3],
    ['t3.small', t3small, { E: 1 }, 5, 3, 9],
    ['t3.small', t3small, { E: 1 }, 9, 3, 9],
    ['t3.small', t3small, { W: 1, M: 1 }, 0, 1, 1],
    ['t3.small', t3small, { W: 1, M: 1 }, 5, 2, 6],
    ['t3.small', t3small, { W: 2, M: 5 }, 0, 2, 5],
    ['t3.small', t3small, { W: 2, M: 5 }, 5, 3, 7],
    ['p3dn.24xlarge', p3dn, { E: 1 }, 0, 1, 49],
    ['p3dn.24xlarge', p3dn, { E: 1 }, 3, 2, 98],
    ['p3dn.24xlarge', p3dn, { E: 1 }, 95, 3, 147],
    ['p3dn.24xlarge', p3dn, { W: 5, M: 10 }, 0, 1, 10],
    ['p3dn.24xlarge', p3dn, { W: 5, M: 10 }, 7, 1, 12],
    ['p3dn.24xlarge', p3dn, { W: 5, M: 10 }, 15, 1, 20],
    ['p3dn.24xlarge', p3dn, { W: 5, M: 10 }, 45, 2, 50],
    ['t3.small, prefixes', t3smallPrefixes, { P: 1 }, 0, 1, 1],
    ['t3.small, prefixes', t3smallPrefixes, { P: 1 }, 5, 1, 2],
    ['t3.small, prefixes', t3smallPrefixes, { P: 1 }, 16, 1, 2],
    ['t3.small, prefixes', t3smallPrefixes, { P: 1 }, 17, 1, 3],
    ['t3.small, prefixes', t3smallPrefixes, { P: 1 }, 58, 2, 5],
  ];
  for (const [name, model, knobs, pods, enis, blocks] of cases) {
    test(`${name} ${JSON.stringify(knobs)}, ${pods} pods: ${blocks} on ${enis} ENIs`, () => {
      const last = [...restingPools(pods, targets(knobs), model)].at(-1)!;
      assert.deepEqual([last.enis, last.blocks, last.waiting], [enis, blocks, 0]);
    });
  }

  test('with custom networking the primary ENI gives nothing', () => {
    const custom = { ...t3small, primaryGives: false };
    const at = [...restingPools(6, targets({ E: 1 }), custom)];
    assert.deepEqual([at[0]!.enis, at[0]!.addresses], [2, 3]);
    assert.deepEqual([at[6]!.enis, at[6]!.addresses, at[6]!.waiting], [3, 6, 0]);
  });

  test('pods beyond the type wait', () => {
    const at = [...restingPools(11, targets({ E: 1 }), t3small)].at(-1)!;
    assert.deepEqual([at.addresses, at.idle, at.waiting], [9, 0, 2]);
  });
});

describe('the rest of its rules', () => {
  test('a pool with as many addresses as max pods does not grow', () => {
    assert.equal(isLow(counts(11, 11), targets({ W: 5 }), t3small), false);
    assert.equal(isLow(counts(10, 10), targets({ W: 5 }), t3small), true);
  });
  test('a target of 0 grows only when nothing is available', () => {
    assert.equal(isLow(counts(3, 2), targets({ E: 0 }), t3small), false);
    assert.equal(isLow(counts(3, 3), targets({ E: 0 }), t3small), true);
  });
  test('single addresses never go back with WARM_ENI_TARGET alone', () => {
    assert.equal(blocksBeyond(counts(9, 0), targets({ E: 0 }), t3small), 0);
  });
  test('free prefixes beyond WARM_PREFIX_TARGET go back', () => {
    assert.equal(blocksBeyond(counts(48, 0, 3, 3), targets({ P: 1 }), t3smallPrefixes), 2);
  });
  test('an ENI may go when one more than the target is free', () => {
    assert.equal(mayRemoveEni(counts(9, 4), targets({ E: 1 }), t3small, true), false);
    assert.equal(mayRemoveEni(counts(9, 3), targets({ E: 1 }), t3small, true), true);
    assert.equal(mayRemoveEni(counts(32, 20, 2, 0), targets({ P: 1 }), t3smallPrefixes, true), true);
    assert.equal(mayRemoveEni(counts(32, 20, 2, 0), targets({ P: 1 }), t3smallPrefixes, false), false);
  });
  test('an ENI stays while W, M or P need it', () => {
    assert.equal(isDispensable(counts(5, 3), targets({ W: 3 }), t3small), false);
    assert.equal(isDispensable(counts(5, 2), targets({ W: 3 }), t3small), true);
    assert.equal(isDispensable(counts(5, 0), targets({ M: 6 }), t3small), false);
    assert.equal(isDispensable(counts(16, 10, 1, 0), targets({ P: 1 }), t3smallPrefixes), false);
    assert.equal(isDispensable(counts(32, 10, 2, 1), targets({ P: 1 }), t3smallPrefixes), true);
  });
  test('whatever the targets: the model rests within the type, and no pod waits beside an idle address', () => {
    fc.assert(
      fc.property(
        fc.record({ E: fc.nat(3), P: fc.nat(3), W: fc.nat(40), M: fc.nat(60) }),
        fc.boolean(),
        fc.nat(40),
        (knobs, usesPrefixes, pods) => {
          const model = { ...t3small, usesPrefixes, maxPods: 146 };
          for (const at of restingPools(pods, targets(knobs), model)) {
            const most = model.slotsPerEni * model.maxEnis * (usesPrefixes ? 16 : 1);
            assert.ok(at.enis <= model.maxEnis && at.addresses <= most);
            assert.equal(at.addresses - at.idle, at.pods - at.waiting);
            assert.ok(at.waiting === 0 || at.idle === 0);
          }
        },
      ),
    );
  });
});
