// EC2 away, on real packets: the router drops what nodes send to EC2's address, or refuses it. Pods start while addresses
// last, the node stays Ready and says so in a condition and an Event; on its return the pod that waits is served. An hour
// of it, by the clock, is in src/ipam/ec2/reach.test.ts.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CoreV1Api } from '@kubernetes/client-node';
import { IN_LAB } from '../../src/lab/daemon/endpoints.ts';
import { eventually } from '../support/wait.ts';
import { executeOk, skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

const NODE = 'node-1';
const lab = new Lab('away', [
  '--nodes',
  '1',
  '--set',
  'cooldown=0s',
  '--set',
  'idleRelease=1h',
  '--set',
  'warm=5',
]);
let api: CoreV1Api;

const router = (): string => `podway_${lab.name}_vpc`;
/** Nodes' packets to EC2 go nowhere, or are refused. */
async function endEc2(how: 'drop' | 'reject with tcp reset'): Promise<void> {
  const chain = 'chain input { type filter hook input priority -300; policy accept;';
  const rule = `ip daddr ${IN_LAB.ec2Address} tcp dport 80 ${how};`;
  await executeOk(['ip', 'netns', 'exec', router(), 'nft', `table inet away {\n${chain}\n${rule}\n}\n}`]);
}
const beginEc2 = () => executeOk(['ip', 'netns', 'exec', router(), 'nft', 'delete table inet away']);

async function node() {
  const { status } = await api.readNode({ name: NODE });
  const said = (type: string) => status?.conditions?.find((one) => one.type === type);
  return { ready: said('Ready')?.status, reachable: said('PodwayCloudReachable') };
}
const phase = async (pod: string) => (await lab.pods()).find((one) => one.name === pod)?.phase;

before(async () => {
  if (skip) return;
  await lab.up();
  api = (await lab.kube()).makeApiClient(CoreV1Api);
});
after(async () => {
  if (!skip) await downAll([lab]);
});

for (const [round, how] of (['drop', 'reject with tcp reset'] as const).entries()) {
  test(`EC2 is away (${how}): pods start while addresses last, and the one that waits is served on its return`, {
    skip,
  }, async () => {
    const name = (n: number) => `p${round}-${n}`;
    await lab.run(name(0));
    await eventually('EC2 answers', async () => (await node()).reachable?.status === 'True');
    // Below it the node would go on asking for addresses, and have more than are counted here.
    const free = await eventually('the pool is warm', async () => {
      const { totals, warm } = await lab.ipam(NODE);
      return totals.free >= warm.target && totals.free;
    });
    await endEc2(how);
    try {
      for (let n = 1; n <= free; n++) assert.equal((await lab.run(name(n))).phase, 'Running');
      const last = name(free + 1);
      await lab.podway('pod', 'run', last, '--no-wait');
      const away = await eventually('the node says that EC2 is away', async () => {
        const { reachable } = await node();
        return reachable?.status === 'False' && reachable;
      });
      assert.equal(away.reason, 'NoConnection');
      assert.equal((await node()).ready, 'True');
      assert.equal(await phase(last), 'Pending');
      await eventually(
        'the pod says why',
        async () => {
          const pod = (await lab.pods()).find((one) => one.name === last);
          return pod?.message?.code === 'CLOUD_UNREACHABLE';
        },
        60_000,
      );
      assert.equal((await node()).ready, 'True');
      await beginEc2();
      await eventually(
        'the node says that EC2 is back',
        async () => (await node()).reachable?.status === 'True',
      );
      await eventually('the pod runs', async () => (await phase(last)) === 'Running');
    } finally {
      await beginEc2().catch(() => {});
    }
    await eventually('Events tell of both', async () => {
      const { items } = await api.listNamespacedEvent({ namespace: 'default' });
      const reasons = items.filter((one) => one.involvedObject.name === NODE).map((one) => one.reason);
      return ['CloudUnreachable', 'CloudReachable'].every((reason) => reasons.includes(reason));
    });
    await lab.delete(...Array.from({ length: free + 2 }, (_, n) => name(n)));
    await lab.agreed();
  });
}
