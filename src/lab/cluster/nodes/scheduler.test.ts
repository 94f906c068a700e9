import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '../../../kube/types.ts';
import { isEvicted, isWaiting, placePod } from './scheduler.ts';

const node = (
  name: string,
  pods: number,
  more: { ready?: boolean; labels?: Record<string, string>; unschedulable?: boolean } = {},
): Node => ({
  metadata: { name, labels: more.labels ?? {} },
  spec: more.unschedulable ? { unschedulable: true } : {},
  status: {
    allocatable: { pods: String(pods) },
    conditions: [{ type: 'Ready', status: more.ready === false ? 'False' : 'True' }],
  },
});
const pod = (
  nodeName?: string,
  phase: 'Running' | 'Failed' = 'Running',
  nodeSelector?: Record<string, string>,
): Pod => ({
  metadata: { name: 'p' },
  spec: {
    containers: [{ name: 'c' }],
    ...(nodeName ? { nodeName } : {}),
    ...(nodeSelector ? { nodeSelector } : {}),
  },
  status: { phase },
});

const cases: [string, Node[], Pod[], Pod, string | RegExp][] = [
  ['the first name of equals', [node('b', 3), node('a', 3)], [], pod(), 'a'],
  ['most free slots', [node('a', 3), node('b', 3)], [pod('a')], pod(), 'b'],
  [
    'ended pods take no slot',
    [node('a', 2), node('b', 1)],
    [pod('a', 'Failed'), pod('a', 'Failed')],
    pod(),
    'a',
  ],
  [
    'a node selector',
    [node('a', 3), node('b', 3, { labels: { zone: 'z' } })],
    [],
    pod(undefined, 'Running', { zone: 'z' }),
    'b',
  ],
  ['nobody is ready', [node('a', 3, { ready: false })], [], pod(), /0 of 1 nodes.* 1 are not ready/],
  ['all are full', [node('a', 1)], [pod('a')], pod(), /1 hold all the pods/],
  [
    'gates that nobody took away',
    [node('a', 1)],
    [],
    { ...pod(), spec: { containers: [], schedulingGates: [{ name: 'x.io/a' }, { name: 'b' }] } },
    /gates are taken away: x\.io\/a, b$/,
  ],
  ['cordoned', [node('a', 1, { unschedulable: true })], [], pod(), /not ready/],
];
for (const [what, nodes, pods, wanted, expected] of cases) {
  test(`placement: ${what}`, () => {
    const placement = placePod(wanted, nodes, pods);
    if (typeof expected === 'string') assert.deepEqual(placement, { kind: 'node', name: expected });
    else assert.match(placement.kind === 'none' ? placement.reason : placement.name, expected);
  });
}

test('a pod that names another scheduler is left to it', () => {
  const of = (schedulerName: string) => ({ ...pod(), spec: { containers: [], schedulerName } });
  const pods = [pod(), of('default-scheduler'), of('other'), pod('a')];
  assert.deepEqual(pods.map(isWaiting), [true, true, false, false]);
});

test('a taint that says NoExecute evicts those who do not tolerate it and have not ended', () => {
  const tainted = (effect: string): Node[] => [{ ...node('a', 1), spec: { taints: [{ key: 'k', effect }] } }];
  const tolerant = {
    ...pod('a'),
    spec: { ...pod('a').spec, tolerations: [{ operator: 'Exists' as const }] },
  };
  const evicted = (effect: string) =>
    [pod('a'), pod('a', 'Failed'), pod('b'), pod(), tolerant].map((each) => isEvicted(each, tainted(effect)));
  assert.deepEqual(evicted('NoExecute'), [true, false, false, false, false]);
  assert.deepEqual(evicted('NoSchedule'), [false, false, false, false, false]);
});
