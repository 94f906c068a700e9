// VLAN ids: never two owners, not even with lost answers, late describes and restarts in any order.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_VLAN } from '../../kube/index.ts';
import { QUARANTINE, VlanIds } from './vlans.ts';

test('an owner has one id, and ids are given in turn', () => {
  const ids = new VlanIds();
  assert.deepEqual([ids.take('a', 0), ids.take('b', 0), ids.take('a', 0)], [1, 2, 1]);
  ids.end('a', 10);
  ids.observe(new Set([2]), 11, 12);
  assert.equal(ids.take('c', 12 + QUARANTINE), 3, 'the freed one comes last');
});

test('an id is free only when a describe begun after its end shows nothing of it, and a while after', () => {
  const ids = new VlanIds();
  for (let n = 1; n <= MAX_VLAN; n++) ids.take(`pod-${n}`, 0);
  const allBut7 = new Set([...Array(MAX_VLAN).keys()].map((n) => n + 1).filter((n) => n !== 7));
  ids.observe(allBut7, 5, 6);
  assert.equal(ids.take('new', 1e9), null, 'unseen, but nobody has ended it');
  ids.end('pod-7', 1_000);
  ids.observe(allBut7, 999, 1_001);
  assert.equal(ids.take('new', 1e9), null, 'the describe began before the end');
  ids.observe(allBut7, 1_001, 1_002);
  assert.equal(ids.take('new', 1_001 + QUARANTINE), null, 'in quarantine');
  ids.observe(new Set([7]), 1_500, 1_600);
  assert.equal(ids.take('new', 1e9), null, 'it was seen again');
  ids.observe(allBut7, 2_000, 2_001);
  assert.equal(ids.take('new', 2_001 + QUARANTINE), 7);
});

test('an id that EC2 shows and nobody gave is nobody’s to give, until it is gone', () => {
  const ids = new VlanIds();
  ids.observe(new Set([1]), 0, 0);
  assert.equal(ids.take('a', 0), 2);
  assert.equal(ids.hold(2, 'b', 0), false);
  assert.equal(ids.hold(1, 'b', 0), true, 'its owner turns up');
  assert.equal(ids.ownerOf(1), 'b');
});

/** A trunk that loses answers and describes late, and a controller that may forget all. */
const act = fc.oneof(
  fc.record({ kind: fc.constant('start' as const), pod: fc.nat(30), lost: fc.boolean() }),
  fc.record({ kind: fc.constant('stop' as const), pod: fc.nat(30), lost: fc.boolean(), fails: fc.boolean() }),
  fc.record({ kind: fc.constant('describe' as const), late: fc.boolean() }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(QUARANTINE) }),
  fc.record({ kind: fc.constant('restart' as const) }),
);

test('no id is on two branches, with lost answers, late describes and restarts', () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 120 }), (acts) => {
      let ids = new VlanIds();
      let now = 0;
      /** EC2's truth: pod by id. */
      const trunk = new Map<number, string>();
      let earlier = new Set<number>();
      const describe = (began: number, seen: ReadonlySet<number>) => ids.observe(seen, began, ++now);
      for (const one of acts) {
        now += 10;
        if (one.kind === 'start') {
          const owner = `pod-${one.pod}`;
          const vlan = ids.take(owner, now)!;
          const holder = trunk.get(vlan);
          assert.ok(
            holder === undefined || holder === owner,
            `${vlan} is ${holder}'s and was given to ${owner}`,
          );
          trunk.set(vlan, owner);
        } else if (one.kind === 'stop') {
          const owner = `pod-${one.pod}`;
          const vlan = [...trunk].find(([, pod]) => pod === owner)?.[0];
          if (vlan === undefined) continue;
          if (!one.fails) trunk.delete(vlan);
          // Who hears no answer knows nothing.
          if (!one.lost && !one.fails) ids.end(owner, now);
        } else if (one.kind === 'describe') {
          const began = now;
          const truth = new Set(trunk.keys());
          // A late describe shows what was true before, and its time is that of before.
          if (one.late) describe(began - 100, earlier);
          else describe(began, truth);
          earlier = truth;
        } else if (one.kind === 'wait') now += one.ms;
        else {
          // A new leader reads before it gives.
          ids = new VlanIds();
          for (const [vlan, owner] of trunk) assert.ok(ids.hold(vlan, owner, now));
          describe(now, new Set(trunk.keys()));
        }
      }
    }),
    { numRuns: 300 },
  );
});
