// What is cleared: PodwayNodes, our CNINodes, taints, conditions and capacity of branches, the webhooks' Secret, the
// Lease; nothing of others, and again while somebody writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  cniNodes,
  type KubeClient,
  KubeError,
  type Node,
  nodes,
  POD_ENI,
  type PodwayNode,
  podwayNodes,
} from '../kube/index.ts';
import { clear } from './clear.ts';
import { leases } from './leader.ts';

const gone = (name: string) => new KubeError(404, 'NotFound', `${name} is not there`);

test('ours goes, others’ stays, and what comes once more goes too', async () => {
  const OTHER = { key: 'someone.else', effect: 'NoSchedule' };
  const node: Node = {
    metadata: { name: 'n', resourceVersion: '1' },
    spec: { taints: [OTHER, { key: 'podway.dev/no-address', effect: 'NoSchedule' }] },
    status: {
      conditions: [
        { type: 'PodwayAddressesAvailable', status: 'False' },
        { type: 'PodwayCloudReachable', status: 'True' },
        { type: 'Ready', status: 'True' },
      ],
    },
  };
  const owns: PodwayNode[] = [{ metadata: { name: 'n' } }, { metadata: { name: 'm' } }];
  const marks = [{ metadata: { name: 'n' } }];
  let lease = 1;
  let sleeps = 0;
  const client = {
    get: async (_of: unknown, name: string) => {
      throw gone(name);
    },
    list: async (of: unknown, { labelSelector }: { labelSelector?: string }) => {
      if (of === cniNodes && labelSelector !== undefined)
        assert.equal(labelSelector, 'app.kubernetes.io/managed-by=podway');
      return { metadata: {}, items: of === podwayNodes ? [...owns] : of === cniNodes ? [...marks] : [node] };
    },
    delete: async (of: unknown, name: string) => {
      if (of === podwayNodes)
        owns.splice(
          owns.findIndex(({ metadata }) => metadata.name === name),
          1,
        );
      else if (of === cniNodes) marks.pop();
      else if (of === leases) lease--;
      else throw gone(name);
    },
    patch: async (of: unknown, _name: string, _ns: undefined, patch: Node) => {
      assert.equal(of, nodes);
      if (patch.spec) node.spec = patch.spec;
      const gone = patch.status?.conditions?.map(({ type }) => type) ?? [];
      node.status!.conditions = node.status!.conditions!.filter(({ type }) => !gone.includes(type));
    },
  } as unknown as KubeClient;
  const clock = {
    now: () => 0,
    sleep: async () => {
      // An agent that is ending writes once more.
      if (sleeps++ === 0) owns.push({ metadata: { name: 'late' } });
    },
  };
  const done = await clear({ client, namespace: 'kube-system', lease: 'podway-controller', clock });
  assert.deepEqual(done, {
    ...{ podwayNodes: 3, cniNodes: 1, taints: 1, conditions: 1, capacities: 0, secrets: 0 },
    quiet: true,
  });
  assert.deepEqual([owns, lease, sleeps], [[], 0, 2]);
  assert.deepEqual(node.spec?.taints, [OTHER]);
  assert.deepEqual(
    node.status?.conditions?.map(({ type }) => type),
    ['Ready'],
  );
});

test('what Nodes say of branches goes where Podway made them, and stays EKS’s where its controller is seen', async () => {
  const EKS = 'cp-vpc-resource-controller';
  const cases: [what: string, there: string[], hasMark: boolean, left: string | undefined][] = [
    ['by its Secret', ['podway-webhook'], false, undefined],
    ['by a CNINode', [], true, undefined],
    ['EKS’s controller too', ['podway-webhook', EKS], true, '9'],
    ['nothing of Podway’s', [], false, '9'],
  ];
  for (const [what, names, hasMark, left] of cases) {
    const there = new Set(names);
    const amounts = (): Record<string, string> => ({ cpu: '2', [POD_ENI]: '9' });
    const status = { capacity: amounts(), allocatable: amounts() };
    const marks = hasMark ? [{ metadata: { name: 'n' } }] : [];
    const client = {
      get: async (_of: unknown, name: string) => {
        if (!there.has(name)) throw gone(name);
      },
      list: async (of: unknown) => ({
        items: of === nodes ? [{ metadata: { name: 'n' }, status }] : of === cniNodes ? [...marks] : [],
      }),
      delete: async (of: unknown, name: string) => {
        if (of === cniNodes) marks.pop();
        else if (!there.delete(name)) throw gone(name);
      },
      patch: async (_of: unknown, _name: string, _ns: undefined, patch: Node, options: unknown) => {
        assert.deepEqual(options, { subresource: 'status' });
        for (const part of ['capacity', 'allocatable'] as const)
          for (const [name, value] of Object.entries(patch.status![part]!))
            if (value === null) delete status[part][name];
      },
    } as unknown as KubeClient;
    const clock = { now: () => 0, sleep: async () => {} };
    const { capacities, secrets, quiet } = await clear({ client, namespace: 'a', lease: 'l', clock });
    assert.deepEqual(
      [capacities, secrets, quiet],
      [left ? 0 : 1, names.includes('podway-webhook') ? 1 : 0, true],
      what,
    );
    const after = { cpu: '2', ...(left ? { [POD_ENI]: left } : {}) };
    assert.deepEqual(status, { capacity: after, allocatable: after }, what);
    assert.equal(there.has('podway-webhook'), false, what);
  }
});
