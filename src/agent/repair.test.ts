// When repairs are made: as values say, with a datapath that is played.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { eventually } from '../../test/support/wait.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { ALL_PARTS, type Part } from '../datapath/parts.ts';
import { quiet } from '../datapath/testing.ts';
import type { SyncReport } from '../datapath/types.ts';
import type { LostLinks } from './lost-links.ts';
import type { NodeState } from './node-state.ts';
import { Repair } from './repair.ts';

const right: SyncReport = { changes: [], missingPods: [], absent: [], retryAt: null };
let stop: AbortController;
let looks: (readonly Part[] | 'state')[];
let lost: string[];
/** What the next looks answer; right ones when there is no more. */
let answers: (SyncReport | Error)[];
let concern: (parts: Part[]) => void;
let repair: Repair;

const answer = async (): Promise<SyncReport> => {
  const next = answers.shift() ?? right;
  if (next instanceof Error) throw next;
  return next;
};

beforeEach(() => {
  [looks, lost, answers, stop] = [[], [], [], new AbortController()];
  repair = new Repair(
    {
      node: {
        sync: () => {
          looks.push('state');
          return answer();
        },
        repair: (parts: Iterable<Part>) => {
          looks.push([...parts]);
          return answer();
        },
        // The metadata service is away.
        learnVpc: () => new Promise(() => {}),
      } as unknown as NodeState,
      datapath: {
        watch: (onConcern: typeof concern) => {
          concern = onConcern;
          return { close: () => {} };
        },
        obstacles: async () => [],
      } as unknown as Datapath,
      lostLinks: {
        restore: async (links: readonly string[]) => {
          lost.push(...links);
          return null;
        },
        learn: async () => {},
      } as unknown as LostLinks,
      log: quiet,
      onStrangeLink: () => {},
      tell: () => {},
    },
    stop.signal,
  );
});
afterEach(() => stop.abort());

test('what the kernel tells in one go is one look, and what comes meanwhile is the next', async () => {
  concern(['rules']);
  for (let i = 0; i < 200; i++) concern(['routes']);
  await eventually('the looks', () => looks.length === 2);
  concern(['links']);
  await eventually('a third', () => looks.length === 3);
  assert.deepEqual(looks, [['rules'], ['routes'], ['links']]);
});

test('what was put off is looked at when its time has come, as a whole', async () => {
  answers.push({ ...right, retryAt: performance.now() + 50 });
  concern(['rules']);
  await eventually('the second look', () => looks.length === 2);
  assert.deepEqual(looks[1], ALL_PARTS);
});

test('links that are missed are seen to', async () => {
  answers.push({ ...right, missingPods: ['pw0123456789ab'] });
  concern(['links']);
  await eventually('it is seen to', () => lost.length === 1);
});

test('a failure is kept, tried again soon, and forgotten once everything was looked at', async () => {
  answers.push(new Error('no such table'));
  concern(['table']);
  await eventually('it is broken', () => repair.broken !== null);
  assert.match(repair.broken!.message, /no such table/);
  await eventually('it is right again', () => repair.broken === null);
  assert.deepEqual(looks, [['table'], ALL_PARTS]);
});

test('silent settings are compared although the metadata service never answers', async () => {
  const kept = repair.keep(stop.signal);
  await eventually('a comparison', () => looks.length > 0);
  assert.deepEqual(looks, [['sysctls']]);
  stop.abort();
  await kept;
});
