// The account's calls are never granted twice, and pods that wait go before warm pools.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { share } from './share.ts';

const asks = fc
  .array(fc.record({ rate: fc.double({ min: 0, max: 5, noNaN: true }), waiting: fc.nat(3) }), {
    minLength: 1,
    maxLength: 60,
  })
  .map((list) => list.map((one, index) => ({ node: `n${index}`, ...one })));
const NEARLY = 1e-9;

test('grants stay within the budget and the asks, pods come first, equals get the same', () => {
  fc.assert(
    fc.property(asks, fc.double({ min: 0.5, max: 40, noNaN: true }), (list, budget) => {
      const granted = share(list, budget);
      const total = list.reduce((sum, { rate }) => sum + rate, 0);
      if (granted === null) return assert.ok(total <= budget);
      assert.ok(total > budget);
      const of = (node: string) => granted.get(node)!;
      const sum = list.reduce((all, { node }) => all + of(node), 0);
      assert.ok(Math.abs(sum - budget) < 1e-6, `${sum} of ${budget} are granted`);
      const trickle = Math.min(0.05, (0.1 * budget) / list.length);
      for (const { node, rate, waiting } of list) {
        assert.ok(of(node) <= rate + NEARLY);
        assert.ok(of(node) >= Math.min(rate, trickle) - NEARLY, 'nobody is cut off');
        if (of(node) >= rate - NEARLY) continue;
        for (const other of list) {
          if (waiting > 0 && other.waiting === 0)
            assert.ok(of(other.node) <= trickle + NEARLY, 'a warm pool came before a pod');
          if (waiting > 0 === other.waiting > 0)
            assert.ok(of(other.node) <= of(node) + 1e-6, 'an equal got more');
        }
      }
    }),
  );
});
