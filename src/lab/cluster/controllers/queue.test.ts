import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../api/testing.ts';
import { WorkQueue } from './queue.ts';

test('a key is looked at once however often it is marked, and others come between', async () => {
  const seen: string[] = [];
  const queue = new WorkQueue(
    (key) => {
      seen.push(key);
      if (seen.length < 4) queue.mark(key);
    },
    () => {},
  );
  for (const key of ['a', 'b', 'a', 'a']) queue.mark(key);
  await until('all looks', () => seen.length === 5);
  assert.deepEqual(seen, ['a', 'b', 'a', 'b', 'a']);
  queue.close();
});

test('a look that throws comes again after a pause, though its failure marks it, and then once without', async () => {
  const looks: { at: number; failure: string | undefined }[] = [];
  const failed: boolean[] = [];
  const queue = new WorkQueue(
    (_key, failure) => {
      looks.push({ at: performance.now(), failure });
      if (looks.length <= 2) throw new Error('no');
    },
    (key, _error, repeated) => {
      failed.push(repeated);
      queue.mark(key);
    },
  );
  queue.mark('a');
  await until('four looks', () => looks.length === 4);
  assert.deepEqual(
    looks.map((each) => each.failure),
    [undefined, 'no', 'no', undefined],
  );
  assert.deepEqual(failed, [false, true]);
  for (const [from, to] of [
    [0, 1],
    [1, 2],
  ] as const)
    assert.ok(looks[to]!.at - looks[from]!.at >= 190, `look ${to} came too soon`);
  queue.close();
});

test('a closed queue looks at nothing more', async () => {
  let looks = 0;
  const queue = new WorkQueue(
    () => void looks++,
    () => {},
  );
  queue.mark('a');
  queue.wake('b', 1);
  queue.close();
  queue.mark('c');
  const other = new WorkQueue(
    () => void looks++,
    () => {},
  );
  other.wake('d', 60);
  await until('the other', () => looks === 1);
  other.close();
});

test('a look that waits keeps its key to itself, not the others; marked meanwhile, the key comes again', async () => {
  const begun: string[] = [];
  const failed: string[] = [];
  const gates: { open: () => void; refuse: (error: Error) => void }[] = [];
  const queue = new WorkQueue(
    (key) => {
      begun.push(key);
      if (key !== 'slow') return;
      return new Promise<void>((resolve, reject) => gates.push({ open: resolve, refuse: reject }));
    },
    (key) => failed.push(key),
  );
  queue.mark('slow');
  await until('it has begun', () => gates.length === 1);
  queue.mark('slow');
  queue.mark('other');
  await until('the other was looked at', () => begun.includes('other'));
  assert.deepEqual(begun, ['slow', 'other']);
  gates[0]!.open();
  await until('it comes again', () => gates.length === 2);
  gates[1]!.refuse(new Error('no'));
  await until('its failure is told, and it is tried again', () => failed.length === 1 && gates.length === 3);
  gates[2]!.open();
  await until('once more without the failure', () => gates.length === 4);
  queue.close();
});
