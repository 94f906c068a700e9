import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limiter } from './limit.ts';

test('never more than the width at once, all of them in the end, in order', async () => {
  const limit = limiter(3);
  let running = 0;
  let most = 0;
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      limit(async () => {
        order.push(index);
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        if (index % 5 === 0) throw new Error('a task that fails gives its place back');
      }).catch(() => {}),
    ),
  );
  assert.equal(most, 3);
  assert.deepEqual(
    order,
    Array.from({ length: 20 }, (_, index) => index),
  );
});
