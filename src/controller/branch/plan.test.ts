// What is next for a node's pods and branches: tables, and a model in which calls fail, answers are lost and pods come and go.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIpv4 } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import type { EniId } from '../../cloud/port.ts';
import type { PodEni } from '../../kube/index.ts';
import { type Branch, type BranchPod, type NodeWorld, ORPHAN_LOOKS, planNode, type Step } from './plan.ts';

const TRUNK = 'eni-trunk' as EniId;
const pod = (uid: string, more: Partial<BranchPod> = {}): BranchPod => ({
  uid,
  namespace: 'default',
  name: uid,
  node: 'n',
  labels: {},
  serviceAccount: 'default',
  annotated: null,
  isOver: false,
  ...more,
});
const branch = (eniId: string, podUid: string, more: Partial<Branch> = {}): Branch => ({
  eniId: eniId as EniId,
  mac: parseMac('02:00:00:00:00:01'),
  ip: parseIpv4('10.0.0.9'),
  ip6: null,
  subnetId: 'subnet',
  groupIds: ['sg-1'],
  podUid,
  pod: `default/${podUid}`,
  trunkId: TRUNK,
  vlanId: 1,
  cluster: 'c',
  association: null,
  looseSince: null,
  orphaned: 0,
  ...more,
});
const annotation = (eniId: string): PodEni => ({
  ...{ eniId, mac: parseMac('02:00:00:00:00:01'), vlanId: 1, ip: parseIpv4('10.0.0.9'), ip6: null },
  ...{ subnet: null, subnet6: null, associationId: 'a-1' },
});
const on = (vlanId = 1, trunkId = TRUNK) => ({ association: { id: `a-${vlanId}`, trunkId, vlanId } });
const world = (more: Partial<NodeWorld>): NodeWorld => ({
  trunkId: TRUNK,
  limit: 2,
  pods: [],
  branches: [],
  now: 1_000,
  cooldown: 30_000,
  ...more,
});
const told = (steps: Step[]) =>
  steps.map((step) => `${step.kind} ${'pod' in step ? step.pod.uid : step.branch.eniId}`);

test('the next step of each pod and each branch', () => {
  const cases: [string, Partial<NodeWorld>, string[]][] = [
    ['a new pod', { pods: [pod('a')] }, ['create a']],
    ['made, on no trunk', { pods: [pod('a')], branches: [branch('e', 'a')] }, ['associate a']],
    ['on its trunk', { pods: [pod('a')], branches: [branch('e', 'a', on())] }, ['annotate a']],
    ['whole', { pods: [pod('a', { annotated: [annotation('e')] })], branches: [branch('e', 'a', on())] }, []],
    [
      'off the trunk behind our back',
      { pods: [pod('a', { annotated: [annotation('e')] })], branches: [branch('e', 'a')] },
      ['associate a'],
    ],
    [
      'gone behind our back: before a new pod',
      { limit: 1, pods: [pod('b'), pod('a', { annotated: [annotation('e')] })] },
      ['create a', 'refuse b'],
    ],
    [
      'made anew with its address',
      { pods: [pod('a', { annotated: [annotation('e')] })], branches: [branch('f', 'a')] },
      ['associate a'],
    ],
    [
      'back on its trunk, by another association',
      {
        pods: [pod('a', { annotated: [annotation('e')] })],
        branches: [branch('e', 'a', { association: { id: 'a-9', trunkId: TRUNK, vlanId: 1 } })],
      },
      ['annotate a'],
    ],
    [
      'on the trunk again',
      { pods: [pod('a', { annotated: [annotation('e')] })], branches: [branch('f', 'a', on())] },
      ['annotate a'],
    ],
    [
      'on its trunk, tagged with another',
      {
        pods: [pod('a', { annotated: [annotation('e')] })],
        branches: [branch('e', 'a', { ...on(), trunkId: 'eni-old' as EniId })],
      },
      ['tag e'],
    ],
    [
      'on its trunk, tagged with another VLAN id',
      {
        pods: [pod('a', { annotated: [annotation('e')] })],
        branches: [branch('e', 'a', { ...on(), vlanId: 2 })],
      },
      ['tag e'],
    ],
    [
      'on another trunk',
      { pods: [pod('a')], branches: [branch('e', 'a', on(1, 'eni-old' as EniId))] },
      ['disassociate e'],
    ],
    [
      'made twice',
      {
        pods: [pod('a')],
        branches: [branch('e', 'a'), branch('f', 'a', on()), branch('g', 'a', { looseSince: 1 })],
        now: 40_000,
      },
      ['delete g', 'annotate a'],
    ],
    [
      'the pod is over',
      { pods: [pod('a', { isOver: true })], branches: [branch('e', 'a', on())] },
      ['disassociate e'],
    ],
    [
      'cooling',
      { pods: [pod('a', { isOver: true })], branches: [branch('e', 'a', { looseSince: 900 })] },
      [],
    ],
    [
      'cooled',
      { pods: [pod('a', { isOver: true })], branches: [branch('e', 'a', { looseSince: 900 })], now: 30_900 },
      ['delete e'],
    ],
    ['nobody’s, seen once', { branches: [branch('e', 'x', { ...on(), orphaned: 1 })] }, []],
    [
      'nobody’s, seen twice',
      { branches: [branch('e', 'x', { ...on(), orphaned: ORPHAN_LOOKS })] },
      ['disassociate e'],
    ],
    ['a full trunk', { pods: [pod('a'), pod('b'), pod('c')] }, ['create a', 'create b', 'refuse c']],
    [
      'full of one that leaves',
      { limit: 1, pods: [pod('a', { isOver: true }), pod('b')], branches: [branch('e', 'a', on())] },
      ['disassociate e', 'refuse b'],
    ],
    [
      'full no more',
      {
        limit: 1,
        pods: [pod('a', { isOver: true }), pod('b')],
        branches: [branch('e', 'a', { looseSince: 1_000 })],
      },
      ['create b'],
    ],
  ];
  for (const [what, given, expected] of cases) assert.deepEqual(told(planNode(world(given))), expected, what);
});

test('each pod that is refused is told how many branches the trunk has, whoever waits before it', () => {
  const steps = planNode(world({ limit: 1, pods: [pod('a'), pod('b'), pod('c')] }));
  const refused = steps.flatMap((step) => (step.kind === 'refuse' ? [step] : []));
  assert.deepEqual(
    refused.map(({ pod, used, limit }) => [pod.name, used, limit]),
    [
      ['b', 1, 1],
      ['c', 1, 1],
    ],
  );
});

test('a pod that runs keeps its branch, whatever else there is', () => {
  const anyBranch = fc.record({
    eni: fc.constantFrom('e', 'f', 'g'),
    of: fc.constantFrom('a', 'b', 'x'),
    isOn: fc.boolean(),
    loose: fc.option(fc.nat(100_000)),
    orphaned: fc.nat(3),
  });
  fc.assert(
    fc.property(fc.uniqueArray(anyBranch, { selector: ({ eni }) => eni }), fc.nat(100_000), (list, now) => {
      const branches = list.map(({ eni, of, isOn, loose, orphaned }) =>
        branch(eni, of, { ...(isOn ? on() : {}), looseSince: loose, orphaned }),
      );
      const pods = [pod('a', { annotated: [annotation('e')] }), pod('b', { isOver: true })];
      for (const step of planNode(world({ pods, branches, now })))
        if (step.kind === 'delete' || step.kind === 'disassociate')
          assert.ok(step.branch.eniId !== 'e' || step.branch.podUid !== 'a');
    }),
  );
});
