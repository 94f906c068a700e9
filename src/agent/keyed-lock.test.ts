import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedLock } from './keyed-lock.ts';

test('one at a time per key, in order, and nothing is kept afterwards', async () => {
  const lock = new KeyedLock();
  const seen: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = lock.run('a', async () => {
    seen.push('a1 in');
    await gate.promise;
    seen.push('a1 out');
  });
  const second = lock.run('a', () => {
    seen.push('a2');
  });
  await lock.run('b', () => {
    seen.push('b');
  });
  gate.resolve();
  await Promise.all([first, second]);
  assert.deepEqual(seen, ['a1 in', 'b', 'a1 out', 'a2']);
  assert.equal(lock.size, 0);
});

test('a failure is its own caller’s alone', async () => {
  const lock = new KeyedLock();
  const failed = lock.run('a', () => {
    throw new Error('no');
  });
  const after = lock.run('a', () => 'yes');
  await assert.rejects(failed, /no/);
  assert.equal(await after, 'yes');
});
