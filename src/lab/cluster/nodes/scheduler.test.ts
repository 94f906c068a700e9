import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, Toleration } from '../../../kube/types.ts';
import { TaintEviction } from './eviction.ts';
import { isWaiting, placePod } from './scheduler.ts';

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

function tainted(base: Node, effect: string): Node {
  return { ...base, spec: { taints: [{ key: 'k', effect }] } };
}
function tolerating(base: Pod, ...tolerations: Toleration[]): Pod {
  return { ...base, spec: { ...base.spec, tolerations } };
}
function holding(base: Node, count: string): Node {
  return {
    ...base,
    status: { ...base.status, allocatable: { ...base.status?.allocatable, 'example.com/eni': count } },
  };
}
function asking(count: string, nodeName?: string): Pod {
  const base = pod(nodeName);
  const containers = [{ name: 'c', resources: { limits: { 'example.com/eni': count, cpu: '64' } } }];
  return { ...base, spec: { ...base.spec, containers } };
}
function listening(nodeName: string | undefined, hostPort: number): Pod {
  const base = pod(nodeName);
  return {
    ...base,
    spec: { ...base.spec, containers: [{ name: 'c', ports: [{ containerPort: 8080, hostPort }] }] },
  };
}

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
  [
    'nobody is ready',
    [node('a', 3, { ready: false })],
    [],
    pod(),
    /^0\/1 nodes are available: 1 node\(s\) were not ready\.$/,
  ],
  ['all are full', [node('a', 1)], [pod('a')], pod(), /: 1 Too many pods\.$/],
  ['there is no node', [], [], pod(), /^no nodes available to schedule pods$/],
  [
    'gates that nobody took away',
    [node('a', 1)],
    [],
    { ...pod(), spec: { containers: [], schedulingGates: [{ name: 'x.io/a' }, { name: 'b' }] } },
    /^waiting for scheduling gates: \[x\.io\/a b\]$/,
  ],
  ['cordoned', [node('a', 1, { unschedulable: true })], [], pod(), /1 node\(s\) were unschedulable/],
  [
    'cordoned, and tolerated',
    [node('a', 1, { unschedulable: true })],
    [],
    tolerating(pod(), { key: 'node.kubernetes.io/unschedulable', operator: 'Exists' }),
    'a',
  ],
  [
    'each node for a reason of its own',
    [
      node('a', 1, { ready: false }),
      tainted(node('b', 1), 'NoSchedule'),
      node('c', 1),
      node('d', 1, { labels: { zone: 'z' } }),
      tainted(node('e', 1), 'NoExecute'),
    ],
    [pod('d')],
    pod(undefined, 'Running', { zone: 'z' }),
    /^0\/5 nodes are available: 1 Too many pods, 1 node\(s\) didn't match Pod's node affinity\/selector, 1 node\(s\) were not ready, 2 node\(s\) had untolerated taint\(s\)\.$/,
  ],
  [
    'a taint that it tolerates',
    [tainted(node('a', 1), 'NoSchedule')],
    [],
    tolerating(pod(), { key: 'k' }),
    'a',
  ],
  [
    'a taint with another value',
    [tainted(node('a', 1), 'NoSchedule')],
    [],
    tolerating(pod(), { key: 'k', value: 'v' }),
    /untolerated/,
  ],
  ['rather none with a taint', [tainted(node('a', 9), 'PreferNoSchedule'), node('b', 2)], [], pod(), 'b'],
  [
    'one with a taint, if need be',
    [tainted(node('a', 9), 'PreferNoSchedule'), node('b', 1)],
    [pod('b')],
    pod(),
    'a',
  ],
  ['an extended resource', [node('a', 9), holding(node('b', 9), '1')], [], asking('1'), 'b'],
  [
    'too little of it',
    [holding(node('a', 9), '1k')],
    [asking('999', 'a')],
    asking('2'),
    /: 1 Insufficient example\.com\/eni\.$/,
  ],
  [
    'enough of it, since one has ended',
    [holding(node('a', 9), '1')],
    [{ ...asking('1', 'a'), status: { phase: 'Failed' } }],
    asking('1'),
    'a',
  ],
  [
    'a host port that is taken',
    [node('a', 9)],
    [listening('a', 80)],
    listening(undefined, 80),
    /1 node\(s\) didn't have free ports/,
  ],
  ['another host port', [node('a', 9)], [listening('a', 80)], listening(undefined, 81), 'a'],
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
  const tolerant = tolerating(pod('a'), { operator: 'Exists' });
  const all = [pod('a'), pod('a', 'Failed'), pod('b'), pod(), tolerant].map((each, i) => ({
    ...each,
    metadata: { name: 'p', uid: `${i}` },
  }));
  const evicted = (effect: string) =>
    new TaintEviction()
      .due(all, [tainted(node('a', 1), effect)], 0)
      .evicted.map(({ metadata }) => metadata.uid);
  assert.deepEqual(evicted('NoExecute'), ['0']);
  assert.deepEqual(evicted('NoSchedule'), []);
});

test('a toleration with seconds lasts as long, from when the taint was seen', () => {
  const eviction = new TaintEviction();
  const brief = tolerating(pod('a'), { key: 'k', tolerationSeconds: 10 });
  const pods = [{ ...brief, metadata: { name: 'p', uid: 'u' } }];
  const nodes = [tainted(node('a', 1), 'NoExecute')];
  assert.deepEqual(eviction.due(pods, nodes, 1000), { evicted: [], nextAt: 11_000 });
  assert.deepEqual(eviction.due(pods, nodes, 6000), { evicted: [], nextAt: 11_000 });
  assert.deepEqual(eviction.due(pods, nodes, 11_000).evicted, pods);
  assert.deepEqual(eviction.due(pods, [node('a', 1)], 6000), { evicted: [] });
  assert.deepEqual(eviction.due(pods, nodes, 20_000), { evicted: [], nextAt: 30_000 });
  const never = {
    ...tolerating(pod('a'), { key: 'k', tolerationSeconds: 0 }),
    metadata: { name: 'p', uid: 'v' },
  };
  assert.deepEqual(eviction.due([never], nodes, 0).evicted, [never]);
});
