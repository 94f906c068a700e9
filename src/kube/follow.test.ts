import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Alarm } from '../base/alarm.ts';
import type { KubeClient } from './client.ts';
import { KubeError } from './errors.ts';
import { follow, followEach } from './follow.ts';
import { nodes } from './resources.ts';
import type { Node, WatchEvent } from './types.ts';

const node = (name: string, version: string): Node => ({ metadata: { name, resourceVersion: version } });

/** Answers lists and watches from a script; the last watch ends the test. */
async function run(lists: (Node[] | Error)[], watches: (WatchEvent<Node>[] | Error)[]) {
  const stop = new AbortController();
  const told: string[] = [];
  const away: string[] = [];
  const asked: string[] = [];
  const pauses: number[] = [];
  let now = 0;
  const client = {
    async list() {
      const next = lists.shift();
      asked.push('list');
      if (next instanceof Error) throw next;
      return { metadata: { resourceVersion: '1' }, items: next ?? [] };
    },
    async *watch(_: unknown, query: { resourceVersion?: string }) {
      asked.push(`watch ${query.resourceVersion}`);
      const next = watches.shift();
      if (next === undefined) {
        stop.abort();
        throw new Error('aborted');
      }
      if (next instanceof Error) throw next;
      yield* next;
    },
  } as unknown as KubeClient;
  const clock = {
    now: () => now,
    sleep: async (ms: number) => {
      pauses.push(ms);
      now += ms;
      if (pauses.length > 20) stop.abort();
    },
  };
  await follow(
    client,
    nodes,
    {
      keep: ({ metadata }) => metadata.resourceVersion,
      onChange: (kept) => void told.push([...kept].map((pair) => pair.join('@')).join()),
      onAway: (error) => void away.push(error.message),
    },
    stop.signal,
    clock,
  );
  return { told, away, asked, pauses };
}

test('changes are told; a bookmark and an unchanged object are not', async () => {
  const { told, asked } = await run(
    [[node('a', '1')]],
    [
      [
        { type: 'MODIFIED', object: node('a', '1') },
        { type: 'ADDED', object: node('b', '2') },
        { type: 'BOOKMARK', object: { metadata: { resourceVersion: '7' } } },
        { type: 'DELETED', object: node('a', '8') },
        { type: 'BOOKMARK', object: { metadata: { resourceVersion: '9' } } },
      ],
    ],
  );
  assert.deepEqual(told, ['a@1', 'a@1,b@2', 'b@2']);
  assert.deepEqual(asked, ['list', 'watch 1', 'watch 9']);
});

test('an expired place is listed again at once', async () => {
  const { asked, pauses, told } = await run(
    [[node('a', '1')], [node('a', '5')]],
    [new KubeError(410, 'Expired', 'old')],
  );
  assert.deepEqual(asked, ['list', 'watch 1', 'list', 'watch 1']);
  assert.deepEqual([pauses, told], [[], ['a@1', 'a@5']]);
});

test('an API that is away is told of once and asked ever more seldom; what was known stays', async () => {
  const gone = new KubeError(0, 'ECONNREFUSED', 'refused');
  const { away, pauses, told, asked } = await run([[node('a', '1')]], [gone, gone, gone]);
  assert.deepEqual([away, told], [['refused'], ['a@1']]);
  assert.deepEqual(asked, ['list', 'watch 1', 'watch 1', 'watch 1', 'watch 1']);
  assert.ok(pauses[0]! >= 1_000 && pauses[1]! >= 2_000 && pauses[2]! >= 4_000, pauses.join());
});

test('a kind that does not exist has no objects, and is looked for again within a minute and a half', async () => {
  const { told, away, pauses } = await run([new KubeError(404, 'NotFound', 'no kind'), [node('a', '1')]], []);
  assert.deepEqual([told, away], [['', 'a@1'], []]);
  assert.ok(pauses[0]! >= 60_000 && pauses[0]! <= 90_000);
});

test('a watch of which nothing is heard is begun anew where it was; one that is not answered is away', async () => {
  const stop = new AbortController();
  const asked: string[] = [];
  const away: string[] = [];
  let heard = 0;
  const client = {
    list: async () => ({ metadata: { resourceVersion: '7' }, items: [] }),
    async *watch(_: unknown, query: { resourceVersion?: string }, signal: AbortSignal, onOpen: () => void) {
      asked.push(`watch ${query.resourceVersion}`);
      // The connections of the first two are dead, one before and one after its answer.
      if (asked.length > 3) {
        stop.abort();
        throw new Error('aborted');
      }
      if (asked.length !== 2) onOpen();
      if (asked.length === 1) yield { type: 'BOOKMARK', object: { metadata: { resourceVersion: '9' } } };
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      );
    },
  } as unknown as KubeClient;
  await followEach(
    client,
    nodes,
    {
      sink: { replace: () => {}, put: () => {}, remove: () => {} },
      onAway: (error) => away.push(error.message),
      idleMs: () => 20,
      onHeard: () => heard++,
    },
    stop.signal,
    { now: () => 0, sleep: async () => {} },
  );
  assert.deepEqual(asked, ['watch 7', 'watch 9', 'watch 9', 'watch 9']);
  assert.deepEqual(away, ['nothing was heard of a watch for 20 ms']);
  assert.equal(heard, 4, 'the list, two answers and a bookmark');
});

test('an alarm ends a wait, but for its first second; who finds the API back rings it', async () => {
  const stop = new AbortController();
  const alarm = new Alarm();
  const pauses: number[] = [];
  let tries = 0;
  let rung = 0;
  const client = {
    async list() {
      if (++tries < 5) throw new KubeError(0, 'ECONNREFUSED', 'refused');
      alarm.signal.addEventListener('abort', () => rung++);
      return { metadata: { resourceVersion: '1' }, items: [node('a', '1')] };
    },
    async *watch() {
      stop.abort();
      yield* [];
    },
  } as unknown as KubeClient;
  const seen: (string | undefined)[] = [];
  await followEach<Node, string | undefined>(
    client,
    nodes,
    {
      alarm,
      view: ({ metadata }) => metadata.name,
      sink: { replace: (all) => seen.push(...all), put: () => {}, remove: () => {} },
      onAway: () => {},
    },
    stop.signal,
    {
      now: () => 0,
      // The rest of a wait ends when somebody rings.
      sleep: async (ms, signal) => {
        pauses.push(ms);
        if (ms === 1_000 || stop.signal.aborted) return;
        const ended = new Promise((_, reject) =>
          signal!.addEventListener('abort', () => reject(signal!.reason), { once: true }),
        );
        setImmediate(() => alarm.ring());
        await ended;
      },
    },
  );
  const [first] = pauses;
  assert.equal(first, 1_000);
  assert.equal(tries, 5);
  assert.deepEqual([seen, rung], [['a'], 1]);
});

test("that a kind of the API's own does not exist is no word of its objects", async () => {
  const stop = new AbortController();
  const away: string[] = [];
  const told: unknown[] = [];
  const answers: (KubeError | null)[] = [null, new KubeError(404, 'NotFound', 'no kind')];
  const client = {
    async list() {
      return { metadata: { resourceVersion: '1' }, items: [node('a', '1')] };
    },
    async *watch() {
      const next = answers.pop();
      if (next) throw next;
      stop.abort();
      yield* [];
    },
  } as unknown as KubeClient;
  await followEach<Node>(
    client,
    nodes,
    {
      isBuiltIn: true,
      sink: { replace: (all) => told.push(all.length), put: () => {}, remove: () => {} },
      onAway: (error) => away.push(error.message),
    },
    stop.signal,
    { now: () => 0, sleep: async () => {} },
  );
  assert.deepEqual([told, away], [[1], ['no kind']]);
});
