// The planners as values: sizes of sets, who goes first, how ended pods are counted, when a rollout is late.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, PodSpec } from '../../../kube/types.ts';
import { matchesNode, toleratesTaints } from '../fits.ts';
import { type Deployment, type Job, type JobStatus, podsOf, type ReplicaSet } from '../workloads.ts';
import { deploymentStatus } from './deployment-status.ts';
import { planJob } from './job.ts';
import { indexRanges, TRACKING } from './job-pods.ts';
import { goFirst, templateHash } from './pods.ts';
import { maxUnavailable, sizeAnnotations } from './revisions.ts';
import { nextSize, rescale, shrinkOld } from './scaling.ts';

const now = Date.parse('2026-01-01T00:00:00Z');

const web = (replicas: number, maxSurge: string | number = '25%', unavailable: string | number = '25%') =>
  ({
    metadata: { name: 'web', generation: 1 },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      template: { spec: { containers: [] } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable: unavailable } },
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
    },
  }) as Deployment;

const set = (name: string, replicas: number, available = replicas, deployment?: Deployment): ReplicaSet => ({
  metadata: { name, ...(deployment ? { annotations: sizeAnnotations(deployment) } : {}) },
  spec: { replicas, selector: {}, template: { spec: { containers: [] } } },
  status: { replicas, availableReplicas: available },
});

test('shares of pods are rounded up for what may be more and down for what may be missing', () => {
  assert.deepEqual(
    [podsOf('25%', 5, 'up'), podsOf('25%', 5, 'down'), podsOf(3, 5, 'up'), podsOf('x', 5, 'up')],
    [2, 1, 3, Number.NaN],
  );
  // Both round to nothing: one may be missing, else no rollout begins.
  assert.equal(maxUnavailable(web(3, '0%', '10%')), 1);
});

test('the new set grows into the room that maxSurge leaves', () => {
  const deployment = web(10, 3);
  assert.equal(nextSize(deployment, [set('old', 10)], 0), 3);
  assert.equal(nextSize(deployment, [set('old', 8), set('new', 3)], 3), 5);
  assert.equal(nextSize(deployment, [set('old', 10), set('new', 3)], 3), 3);
  assert.equal(nextSize(deployment, [set('new', 12)], 12), 10);
});

const shrinks: [string, Deployment, ReplicaSet, ReplicaSet[], Record<string, number>][] = [
  ['as many as may be missing', web(10, 3, 2), set('new', 3, 0), [set('a', 10)], { a: 8 }],
  ['none while the new ones are not there', web(10, 3, 2), set('new', 5, 0), [set('a', 8)], {}],
  [
    'those that do not serve first',
    web(10, 3, 2),
    set('new', 3, 0),
    [set('a', 5, 5), set('b', 5, 3)],
    { b: 3 },
  ],
  ['the oldest first', web(4, 1, 1), set('new', 3), [set('a', 1), set('b', 1)], { a: 0, b: 0 }],
  ['nothing that would go below the least', web(4, 1, 0), set('new', 1, 0), [set('a', 4)], {}],
];
for (const [what, deployment, fresh, old, expected] of shrinks) {
  test(`old sets give way: ${what}`, () => {
    const sizes = shrinkOld(deployment, fresh, old);
    assert.deepEqual(
      Object.fromEntries(sizes.map((each) => [each.set.metadata.name, each.replicas])),
      expected,
    );
  });
}

test('a Deployment that is scaled in the middle of a rollout shares the change by size', () => {
  const before = web(10, 5);
  const sizes = rescale(web(15, 5), set('new', 6, 2, before), [set('old', 9, 9, before)]);
  assert.deepEqual(
    sizes.map((each) => [each.set.metadata.name, each.replicas]),
    [
      ['old', 12],
      ['new', 8],
    ],
  );
  const down = rescale(web(0, 5), set('new', 6, 2, before), [set('old', 9, 9, before)]);
  assert.deepEqual(
    down.map((each) => each.replicas),
    [0, 0],
  );
  assert.deepEqual(
    rescale(web(3), undefined, [set('only', 5)]).map((each) => each.replicas),
    [3],
  );
});

test('a rollout that makes no step within its deadline is late, and says when to look', () => {
  const deployment = web(2);
  const fresh = set('new', 2, 1);
  const begun = deploymentStatus({ deployment, fresh, made: undefined, old: [], now });
  assert.equal(begun.wakeAt, now + 600_000);
  const waiting = { ...deployment, status: begun.status };
  const halfway = deploymentStatus({ deployment: waiting, fresh, made: undefined, old: [], now: now + 1000 });
  assert.deepEqual([halfway.wakeAt, halfway.status], [now + 600_000, begun.status]);
  const late = deploymentStatus({ deployment: waiting, fresh, made: undefined, old: [], now: now + 600_000 });
  const progressing = late.status.conditions?.find((each) => each.type === 'Progressing');
  assert.deepEqual([progressing?.status, progressing?.reason], ['False', 'ProgressDeadlineExceeded']);
  const done = { ...waiting, status: late.status };
  const after = deploymentStatus({
    deployment: done,
    fresh: set('new', 2),
    made: undefined,
    old: [],
    now: now + 700_000,
  });
  assert.ok(after.status.conditions?.some((each) => each.reason === 'NewReplicaSetAvailable'));
});

const pod = (name: string, more: { status?: object; metadata?: object; spec?: object } = {}): Pod =>
  ({
    metadata: { name, uid: name, creationTimestamp: '2026-01-01T00:00:00Z', ...more.metadata },
    spec: { containers: [{ name: 'c' }], nodeName: 'n', ...more.spec },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }], ...more.status },
  }) as Pod;

test('of too many pods the least useful goes first', () => {
  const pods = [
    pod('young', { metadata: { creationTimestamp: '2026-01-02T00:00:00Z' } }),
    pod('old', { spec: { nodeName: 'o' } }),
    pod('crowded-1', { spec: { nodeName: 'm' } }),
    pod('crowded-2', { spec: { nodeName: 'm' } }),
    pod('crowded-3', { spec: { nodeName: 'm' } }),
    pod('cheap', {
      metadata: { annotations: { 'controller.kubernetes.io/pod-deletion-cost': '-1' } },
    }),
    pod('unready', { status: { conditions: [{ type: 'Ready', status: 'False' }] } }),
    pod('pending', { status: { phase: 'Pending', conditions: [] } }),
    pod('unbound', { spec: { nodeName: undefined } }),
  ];
  assert.deepEqual(
    goFirst(pods).map((each) => each.metadata.name),
    ['unbound', 'pending', 'unready', 'cheap', 'young', 'crowded-1', 'crowded-2', 'crowded-3', 'old'],
  );
});

test('a template has one hash, whatever the order of its fields', () => {
  const a = { spec: { containers: [{ name: 'c', image: 'x' }] } };
  const b = { spec: { containers: [{ image: 'x', name: 'c' }] } };
  assert.equal(templateHash(a), templateHash(b));
  assert.match(templateHash(a), /^[bcdfghjklmnpqrstvwxz2456789]{10}$/);
  assert.notEqual(templateHash(a), templateHash({ spec: { containers: [{ name: 'c', image: 'y' }] } }));
});

test('an ended pod is counted once, wherever a kill comes between the steps', () => {
  const job = (status: JobStatus): Job => ({
    metadata: { name: 'j', uid: 'j', namespace: 'd' },
    spec: {
      parallelism: 1,
      completions: 3,
      backoffLimit: 6,
      template: { spec: { containers: [{ name: 'c' }], restartPolicy: 'Never' } },
    },
    status: { startTime: '2026-01-01T00:00:00Z', ...status },
  });
  const ended = (finalizers: string[]) => [
    pod('p', { metadata: { finalizers }, status: { phase: 'Succeeded' } }),
  ];
  const statusOf = (status: JobStatus, pods: Pod[]): JobStatus => {
    const [first] = planJob({ job: job(status), pods, now }).actions;
    assert.ok(first?.do === 'status');
    return first.status as JobStatus;
  };
  const frees = (status: JobStatus, pods: Pod[]) =>
    planJob({ job: job(status), pods, now }).actions.some((each) => each.do === 'update');

  const seen = statusOf({}, ended([TRACKING]));
  assert.deepEqual([seen.succeeded, seen.uncountedTerminatedPods?.succeeded], [0, ['p']]);
  assert.equal(frees({}, ended([TRACKING])), false, 'written down before it is freed');
  assert.equal(frees(seen, ended([TRACKING])), true);
  // Killed before the finalizer went: the same again.
  assert.deepEqual(statusOf(seen, ended([TRACKING])), seen);
  // Freed, or freed and deleted.
  for (const pods of [ended([]), []]) {
    const counted = statusOf(seen, pods);
    assert.deepEqual([counted.succeeded, counted.uncountedTerminatedPods?.succeeded], [1, []]);
    assert.equal(statusOf(counted, pods).succeeded, 1);
  }
});

test('indexes that are done are told as ranges', () => {
  assert.equal(indexRanges(new Set([4, 0, 2, 1])), '0-2,4');
  assert.equal(indexRanges(new Set()), '');
});

const node = (labels: Record<string, string>, taints: object[] = []): Node =>
  ({ metadata: { name: 'n1', labels }, spec: { taints } }) as Node;
const affinity = (...terms: object[]): PodSpec =>
  ({
    containers: [],
    affinity: {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } },
    },
  }) as PodSpec;
const inZone = (values: string[]) => ({ matchExpressions: [{ key: 'zone', operator: 'In', values }] });

test('a node takes a pod by selector, required affinity and taints', () => {
  const a = node({ zone: 'a', size: '8' });
  const cases: [PodSpec, boolean][] = [
    [{ containers: [], nodeSelector: { zone: 'a' } }, true],
    [{ containers: [], nodeSelector: { zone: 'b' } }, false],
    [affinity(inZone(['b']), inZone(['a'])), true],
    [affinity({}), false],
    [affinity({ matchExpressions: [{ key: 'size', operator: 'Gt', values: ['4'] }] }), true],
    [affinity({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n2'] }] }), false],
    [affinity({ matchExpressions: [{ key: 'size', operator: 'Odd', values: [] }] }), false],
  ];
  for (const [spec, expected] of cases) assert.equal(matchesNode(spec, a), expected, JSON.stringify(spec));

  const tainted = node({}, [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }]);
  const tolerated: [object[], boolean][] = [
    [[], false],
    [[{ operator: 'Exists' }], true],
    [[{ key: 'gpu', value: 'yes' }], true],
    [[{ key: 'gpu', value: 'no' }], false],
    [[{ key: 'gpu', operator: 'Exists', effect: 'NoExecute' }], false],
  ];
  for (const [list, expected] of tolerated)
    assert.equal(toleratesTaints(list, tainted, ['NoSchedule']), expected, JSON.stringify(list));
  assert.equal(toleratesTaints([], tainted, ['NoExecute']), true);
});
