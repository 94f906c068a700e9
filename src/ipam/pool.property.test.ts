// The pool under chaos, with single addresses, prefixes, and changes between them. What must hold: no two holders of one
// address; none given again within its cooldown; none held is given back to EC2; what was answered survives; in the end
// the pool, the journal and the cloud agree and are at the warm target.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { podAddresses } from './config/max-pods.ts';
import { slotsPerEni } from './plan/aim.ts';
import { censusOf, givingOf } from './plan/census.ts';
import { plan } from './plan/plan.ts';
import { ChaosNode, type Event } from './testing-chaos.ts';

const RUNS = Number(process.env['PODWAY_PROPERTY_RUNS'] ?? 40);

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('add' as const), count: fc.integer({ min: 1, max: 12 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('del' as const),
      pick: fc.nat(40),
      count: fc.integer({ min: 1, max: 12 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 10, 700, 5_000, 31_000, 95_000),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('kill' as const), after: fc.nat(12) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('fail' as const),
      calls: fc.integer({ min: 1, max: 4 }),
      when: fc.constantFrom('before' as const, 'after' as const),
      code: fc.constantFrom('Network', 'RequestLimitExceeded', 'UnauthorizedOperation', 'InternalError'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('lag' as const), seconds: fc.constantFrom(0, 5, 20) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('take' as const), pick: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'detach' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'full' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'roomy' as const }) },
);

test('under chaos no address has two holders, none is given while cooling, none held is given back; it converges', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { minLength: 5, maxLength: 40 }),
      fc.nat(1_000_000),
      async (events, seed) => {
        const chaos = new ChaosNode(seed);
        await using _node = chaos.node;
        await chaos.start();
        for (const one of events) await chaos.run(one);
        await chaos.calm();
        chaos.checkAgreement();
        const { free, held, cooling, foreign } = chaos.node.pool.counts();
        assert.equal(foreign, 0, 'an address of ours is taken for somebody else’s');
        assert.equal(held, chaos.answered.size);
        assert.equal(cooling, 0);
        assert.equal(free, Math.min(4, 27 - held), 'not at the warm target');
        for (const lease of [...chaos.answered.values()]) chaos.release(lease);
        await chaos.calm();
        chaos.checkAgreement();
        assert.equal(chaos.node.pool.counts().free, 4);
        assert.equal(chaos.node.cloud.enis.size, 1, 'an idle ENI stays');
      },
    ),
    { numRuns: RUNS, endOnFailure: process.env['PODWAY_PROPERTY_SHRINK'] === undefined },
  );
});

const modes = fc.constantFrom('secondary' as const, 'prefix' as const, 'auto' as const);
const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  { weight: 24, arbitrary: event },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('mode' as const), addressing: modes }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'fragment' as const }) },
);

/** A prefix was taken, and new pods got its slot before the pool could know: it is told, and cannot be had back. */
function isStuck({ node }: ChaosNode): boolean {
  const { state } = node.pool;
  const { enis } = censusOf(state, node.clock.now(), givingOf(node.pool.policy, node.limits));
  const full = enis.filter(({ blocks }) => blocks.length > slotsPerEni(node.limits));
  for (const { blocks, lost } of full) {
    for (const one of blocks) assert.ok(one.held > 0, 'a slot that a taken prefix could have is idle');
    for (const ip of lost) assert.ok(state.taken.has(ip), 'a lost address is not told');
  }
  return full.length > 0;
}

/** What the pool would do now, and whether blocks of the other kind are idle: nothing at rest. */
function checkRest({ node }: ChaosNode): void {
  const { state, policy } = node.pool;
  const now = node.clock.now();
  const next = plan(state, { waiting: 0 }, node.limits, policy, now);
  assert.deepEqual(next, [], 'it is not at rest');
  for (const { blocks } of censusOf(state, now, givingOf(policy, node.limits)).enis)
    for (const one of blocks) assert.ok(!one.other || one.used > 0, 'an idle block of the other kind');
}

test('the same with prefixes, fragmented subnets and changes of the mode', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyEvent, { minLength: 5, maxLength: 40 }),
      fc.nat(1_000_000),
      modes,
      async (events, seed, mode) => {
        const chaos = new ChaosNode(seed, mode);
        await using node = chaos.node;
        await chaos.start();
        for (const one of events) await chaos.run(one);
        await chaos.calm();
        if (isStuck(chaos)) return;
        chaos.checkAgreement();
        checkRest(chaos);
        const { held, foreign, cooling, free } = node.pool.counts();
        assert.deepEqual([held, foreign, cooling], [chaos.answered.size, 0, 0]);
        const capacity = podAddresses(node.limits, { prefixes: false });
        assert.ok(free >= Math.min(4, capacity - held), `${free} free beside ${held} held`);
        for (const lease of [...chaos.answered.values()]) chaos.release(lease);
        await chaos.calm();
        chaos.checkAgreement();
        checkRest(chaos);
        assert.equal(node.cloud.enis.size, 1, 'an idle ENI stays');
        const blocks = [...node.pool.state.enis.values()].flatMap((eni) => [...eni.blocks.values()]);
        const lengths = blocks.map(({ cidr }) => cidr.length);
        assert.deepEqual(lengths, node.settings.addressing === 'secondary' ? [32, 32, 32, 32] : [28]);
      },
    ),
    { numRuns: RUNS, endOnFailure: process.env['PODWAY_PROPERTY_SHRINK'] === undefined },
  );
});
