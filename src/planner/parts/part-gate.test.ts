import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EPOCH, PartGate, shareBetween } from './part-gate.ts';

const ACTION = 'AssignPrivateIpAddresses';
/** Of the account (published). */
const BURST = 100;
const PER_SECOND = 5;

/** Each part asks so many times in each of its epochs, evenly; answers with what was taken in each. */
function run(asked: readonly (readonly number[])[]): number[][] {
  const parts = asked[0]!.length;
  const shared = shareBetween(parts);
  const gates = Array.from({ length: parts }, (_, part) => new PartGate(shared, part));
  return asked.map((counts, epoch) => {
    const took = gates.map((gate, part) => {
      let taken = 0;
      for (let i = 0; i < counts[part]!; i++)
        if (gate.ask(ACTION, (epoch + i / counts[part]!) * EPOCH)()) taken++;
      return taken;
    });
    for (const gate of gates) gate.offer();
    for (const gate of gates) gate.level();
    return took;
  });
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

test('all parts together are never given more than the account', () => {
  const epoch = fc.tuple(fc.nat(400), fc.nat(400), fc.nat(400));
  fc.assert(
    fc.property(fc.array(epoch, { minLength: 1, maxLength: 8 }), (asked) => {
      let taken = 0;
      run(asked).forEach((took, index) => {
        taken += sum(took);
        assert.ok(taken <= BURST + (PER_SECOND * (index + 1) * EPOCH) / 1_000 + 1e-6);
      });
    }),
  );
});

test('parts that ask alike are given what the account is', () => {
  const took = run([
    [200, 200],
    [200, 200],
  ]);
  const whole = [BURST + (PER_SECOND * EPOCH) / 1_000, (PER_SECOND * EPOCH) / 1_000];
  for (const [i, each] of took.entries())
    assert.ok(Math.abs(sum(each) - whole[i]!) <= 2, `${each} of ${whole[i]}`);
});

test('what one part leaves another has an epoch later', () => {
  const took = run([
    [0, 200],
    [0, 200],
  ]);
  assert.ok(took[0]![1]! >= (BURST + 50) / 2 - 1, `${took[0]}`);
  assert.ok(took[1]![1]! >= BURST / 4 + 24, `${took[1]}`);
});

test('an action without a bucket is refused', () => {
  assert.throws(() => new PartGate(shareBetween(2), 0).ask('RunInstances', 0), /RunInstances has no bucket/);
});
