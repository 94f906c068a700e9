import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../../base/ip.ts';
import type { Lease } from '../../ipam/state.ts';
import type { Pod } from '../../kube/index.ts';
import { VanishedSandboxes } from './vanished.ts';

const OLD = 1_000_000;
const NOW = OLD + 600_000;

const lease = (containerId: string, pod: string | null, at = OLD): Lease =>
  ({
    owner: {
      ...{ network: 'podway', containerId, ifname: 'eth0', netns: `/run/netns/${containerId}` },
      ...(pod === null ? {} : { pod: { namespace: 'default', name: pod, uid: 'a-static-pods-own' } }),
    },
    ips: [parseIp('10.0.0.7')],
    eni: null,
    at,
  }) as unknown as Lease;

function harness(leases: Lease[], options: { pods?: string[]; api?: 'up' | 'down' | 'none' } = {}) {
  const state = {
    known: new Set<string>(),
    pods: options.pods ?? [],
    api: options.api ?? 'up',
    fails: false,
  };
  const ended: string[] = [];
  const told: string[] = [];
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const one = new VanishedSandboxes({
    sandboxes: async () => {
      if (state.fails) throw new Error('the runtime restarts');
      return state.known;
    },
    held: () => leases.filter(({ owner }) => !ended.includes(owner.containerId)),
    end: async ({ owner }) => void ended.push(owner.containerId),
    api: {
      isConfigured: state.api !== 'none',
      pods: async () => {
        if (state.api === 'down') throw new Error('away');
        return state.pods.map((name) => ({
          metadata: { namespace: 'default', name },
          spec: {},
        })) as unknown as Pod[];
      },
    },
    log,
    tell: ({ text }) => void told.push(text),
    onEnded: () => undefined,
    now: () => NOW,
  });
  return { one, state, ended, told };
}

test('a sandbox that two looks lack ends; those that are there, new, or without a pod stay', async () => {
  const { one, state, ended } = harness([
    lease('gone', 'a'),
    lease('there', 'b'),
    lease('new', 'c', NOW - 60_000),
    lease('by-hand', null),
  ]);
  state.known = new Set(['there']);
  await one.look();
  assert.deepEqual(ended, [], 'one look may be wrong');
  await one.look();
  assert.deepEqual(ended, ['gone']);
});

test('a sandbox that is back at the second look was never gone; a runtime that is away proves nothing', async () => {
  const { one, state, ended } = harness([lease('flickers', 'a')]);
  await one.look();
  state.known = new Set(['flickers']);
  await one.look();
  state.known = new Set();
  await one.look();
  assert.deepEqual(ended, []);
  state.fails = true;
  await one.look();
  assert.deepEqual(ended, []);
  state.fails = false;
  await one.look();
  assert.deepEqual(ended, ['flickers'], 'two looks that answer lack it');
});

test('the API has a word: away, nothing ends; a pod that lives keeps its address and is told', async () => {
  const { one, state, ended, told } = harness([lease('x', 'web')], { api: 'down' });
  await one.look();
  await one.look();
  assert.deepEqual(ended, []);
  state.api = 'up';
  state.pods = ['web'];
  await one.look();
  assert.deepEqual(ended, []);
  assert.match(told[0]!, /no sandbox x, and the API says that default\/web runs: 10\.0\.0\.7 stays held/);
  state.pods = [];
  await one.look();
  assert.deepEqual(ended, ['x']);
});

test('of a pod that lives in a newer sandbox the older one ends', async () => {
  const { one, state, ended } = harness([lease('old', 'web'), lease('newer', 'web', OLD + 1)], {
    pods: ['web'],
  });
  state.known = new Set(['newer']);
  await one.look();
  await one.look();
  assert.deepEqual(ended, ['old']);
});
