// Right before a deletion the leader asks again: whether it leads, and whether the node is back. A look that fails counts for
// nothing. What EC2 refuses is left for the next look.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../base/clock.ts';
import type { FleetCloud } from '../../cloud/fleet.ts';
import { CloudError, type EniDescription, type EniId } from '../../cloud/port.ts';
import { ownTags } from '../../ipam/ec2/tags.ts';
import { type KubeClient, KubeError, type Node, type PodwayNode } from '../../kube/index.ts';
import { createMetrics } from '../metrics.ts';
import type { NodeView } from '../view.ts';
import { Sweeper } from './sweeper.ts';

const GAP = 30_000;
const silent = { debug() {}, info() {}, warn() {}, error() {} };

function world(fails: Error | null = null) {
  let now = 0;
  let wake = () => {};
  const clock: Clock = {
    now: () => now,
    sleep: (ms) =>
      new Promise((resolve) => {
        // Short pauses inside a look pass by themselves.
        if (ms < 1_000) return resolve();
        wake = resolve;
      }),
  };
  const enis = new Map<string, EniDescription>([
    [
      'eni-1',
      {
        ...{ id: 'eni-1' as EniId, status: 'available', interfaceType: 'interface', attachment: null },
        ...{ addresses: [], tags: ownTags({}, 'i-1', 0) },
      } as unknown as EniDescription,
    ],
  ]);
  const own: PodwayNode = {
    metadata: { name: 'n', uid: 'u', resourceVersion: '1' },
    spec: { instanceId: 'i-1' },
  };
  const w = {
    enis,
    owns: new Map([['n', own]]),
    nodes: new Map<string, NodeView>(),
    /** What the API says when it is asked, whatever was followed. */
    node: null as Node | null,
    isLeading: true,
    fails,
    describes: 0,
    deleted: [] as string[],
    forgotten: [] as string[],
  };
  const cloud: FleetCloud = {
    instanceStates: async () => {
      w.describes++;
      if (w.fails) throw w.fails;
      return new Map();
    },
    taggedEnis: async () => [...enis.values()],
    subnets: async () => [],
    deleteEni: async (id) => {
      if (w.fails) throw w.fails;
      w.deleted.push(id);
      enis.delete(id);
    },
  };
  const client = {
    get: async () => {
      if (!w.node) throw new KubeError(404, 'NotFound', 'gone');
      return w.node;
    },
    delete: async (_: unknown, name: string) => {
      w.forgotten.push(name);
      w.owns.delete(name);
    },
  } as unknown as KubeClient;
  const view = { isWhole: true, nodes: w.nodes, podwayNodes: w.owns };
  const sweeper = new Sweeper({
    ...{ view, client, cloud, isLeading: () => w.isLeading, metrics: createMetrics(), log: silent },
    ...{ gap: GAP, clock },
  });
  const stop = new AbortController();
  void sweeper.keep(stop.signal);
  const settle = async () => {
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  const pass = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      await settle();
      now += 1_000;
      wake();
    }
    await settle();
  };
  return { w, pass, stop: () => stop.abort() };
}

const back = { metadata: { name: 'n' }, spec: { providerID: 'aws:///z/i-1' } } as Node;

test('what a gone node left goes, then its PodwayNode; with every node there nobody asks EC2', async () => {
  const { w, pass, stop } = world();
  await pass(200);
  assert.deepEqual([w.deleted, w.forgotten], [['eni-1'], ['n']]);
  const asked = w.describes;
  await pass(600);
  assert.equal(w.describes, asked);
  stop();
});

test('nothing goes when the API says that the node is there, whatever was followed', async () => {
  const { w, pass, stop } = world();
  w.node = back;
  await pass(600);
  assert.deepEqual([w.deleted, w.forgotten], [[], []]);
  stop();
});

test('who leads no more deletes nothing', async () => {
  const { w, pass, stop } = world();
  await pass(50);
  w.isLeading = false;
  await pass(600);
  assert.deepEqual([w.deleted, w.forgotten], [[], []]);
  stop();
});

test('a look that fails counts for nothing, and the next ones go on', async () => {
  const { w, pass, stop } = world(new CloudError('DescribeInstances', 'RequestLimitExceeded', 'later'));
  await pass(300);
  assert.deepEqual(w.deleted, []);
  w.fails = null;
  await pass(30);
  assert.deepEqual(w.deleted, [], 'one good look is no two');
  await pass(120);
  assert.deepEqual(w.deleted, ['eni-1']);
  stop();
});
