import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { encodeRequest } from '../cni/wire.ts';
import { DelQueue, type QueuedDel } from './del-queue.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'podway-queue-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function queued(id: string, at: number): void {
  const env = [
    ['CNI_COMMAND', 'DEL'],
    ['CNI_CONTAINERID', id],
    ['CNI_IFNAME', 'eth0'],
    ['PODWAY_QUEUED_AT', String(at)],
  ] as const;
  writeFileSync(join(dir, `${id}:eth0`), encodeRequest(env, '{"cniVersion":"1.0.0","name":"podway"}'));
}

function makeQueue(held: Record<string, number>, del: (del: QueuedDel) => Promise<void>) {
  const errors: string[] = [];
  let length = -1;
  const queue = new DelQueue({
    dir,
    heldSince: ({ containerId }) => held[containerId] ?? null,
    del,
    onError: (_, error) => errors.push((error as Error).message),
    onLength: (entries) => {
      length = entries;
    },
  });
  return { queue, errors, length: () => length };
}

test('serves what is older than the DEL, drops what an ADD came after, keeps what fails', async () => {
  queued('old', 200);
  queued('again', 200);
  queued('gone', 200);
  queued('fails', 200);
  const done: string[] = [];
  const { queue, errors, length } = makeQueue({ old: 100, again: 300, fails: 100 }, async (del) => {
    if (del.containerId === 'fails') throw new Error('not now');
    done.push(`${del.network}/${del.containerId}/${del.ifname}`);
  });
  await queue.drain();
  assert.deepEqual(done.sort(), ['podway/gone/eth0', 'podway/old/eth0']);
  assert.deepEqual(readdirSync(dir), ['fails:eth0']);
  assert.deepEqual(errors, ['not now']);
  assert.equal(length(), 1);
});

test('an entry that cannot be read deletes nothing and is put aside', async () => {
  writeFileSync(join(dir, 'x:eth0'), 'PODWAY-CNI/1\nstdin 5\n');
  const { queue, errors } = makeQueue({}, async () => assert.fail('nothing may be deleted'));
  await queue.drain();
  await queue.drain();
  assert.deepEqual(readdirSync(dir), ['x:eth0.bad']);
  assert.equal(errors.length, 1);
});

test('a drain that is asked for during a drain follows it', async () => {
  queued('a', 1);
  const done: string[] = [];
  const { queue } = makeQueue({}, async ({ containerId }) => {
    done.push(containerId);
    if (containerId === 'a') {
      queued('b', 2);
      void queue.drain();
    }
  });
  await queue.drain();
  assert.deepEqual(done, ['a', 'b']);
});

test('a directory that others remove is made again and watched', { timeout: 60_000 }, async () => {
  const served = Promise.withResolvers<string>();
  const { queue, errors } = makeQueue({}, async ({ containerId }) => served.resolve(containerId));
  const stop = new AbortController();
  await queue.start(stop.signal);
  rmSync(dir, { recursive: true });
  await queue.drain();
  assert.match(errors[0]!, /^ENOENT/);
  queued('later', 1);
  assert.equal(await served.promise, 'later');
  await queue.drain();
  assert.deepEqual(readdirSync(dir), []);
  stop.abort();
});

test('a directory that cannot be read is told, and drained once it can be', async () => {
  const done: string[] = [];
  const { queue, errors } = makeQueue({}, async ({ containerId }) => void done.push(containerId));
  const aside = `${dir}.aside`;
  renameSync(dir, aside);
  writeFileSync(dir, 'no directory');
  await queue.drain();
  assert.match(errors.join(), /^ENOTDIR/);
  rmSync(dir);
  renameSync(aside, dir);
  queued('a', 1);
  await queue.drain();
  assert.deepEqual(done, ['a']);
});
