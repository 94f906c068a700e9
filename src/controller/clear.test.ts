// What is cleared: PodwayNodes, our CNINodes, taints and conditions, the Lease; nothing of others, and again while
// somebody writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cniNodes, type KubeClient, type Node, nodes, type PodwayNode, podwayNodes } from '../kube/index.ts';
import { clear } from './clear.ts';

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
    list: async (of: unknown, { labelSelector }: { labelSelector?: string }) => {
      if (of === cniNodes) assert.equal(labelSelector, 'app.kubernetes.io/managed-by=podway');
      return { metadata: {}, items: of === podwayNodes ? [...owns] : of === cniNodes ? [...marks] : [node] };
    },
    delete: async (of: unknown, name: string) => {
      if (of === podwayNodes)
        owns.splice(
          owns.findIndex(({ metadata }) => metadata.name === name),
          1,
        );
      else if (of === cniNodes) marks.pop();
      else lease--;
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
  assert.deepEqual(done, { podwayNodes: 3, cniNodes: 1, taints: 1, conditions: 1, quiet: true });
  assert.deepEqual([owns, lease, sleeps], [[], 0, 2]);
  assert.deepEqual(node.spec?.taints, [OTHER]);
  assert.deepEqual(
    node.status?.conditions?.map(({ type }) => type),
    ['Ready'],
  );
});
