// Subnets chosen by their tags: a node's ENIs go to the subnet with most free addresses of those that may be used; a
// subnet that is excluded later gives no new addresses, and pods that have one keep it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CreateTagsCommand } from '@aws-sdk/client-ec2';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('discover', [
  ...['-f', join(ROOT, 'examples/subnet-discovery.yaml')],
  ...['--set', 'env=CLUSTER_NAME=mine', '--set', 'idleRelease=1s'],
]);
let nameOf: Map<string, string>;

before(async () => {
  if (skip) return;
  await lab.up();
  const { vpcs } = await lab.status();
  nameOf = new Map(vpcs[0]!.subnets.map(({ id, name }) => [id, name]));
});
after(async () => {
  if (!skip) await lab.down();
});

const subnetsOf = async (node: string): Promise<string[]> =>
  (await lab.ipam(node)).enis.map(({ subnetId }) => nameOf.get(subnetId)!);
async function run(from: number, to: number): Promise<PodView[]> {
  const names = Array.from({ length: to - from }, (_, index) => `p-${from + index}`);
  for (const name of names) await lab.ok('pod', 'run', name, '--node', 'node-1', '--no-wait');
  return eventually('all run', async () => {
    const pods = await lab.pods();
    return pods.every(({ phase }) => phase === 'Running') ? pods : undefined;
  });
}

test('a second ENI goes to the tagged subnet with most free addresses, never to one of others', {
  skip,
}, async () => {
  await run(0, 12);
  // How many ENIs the node keeps for what may come is not this test's.
  const [first, ...others] = await subnetsOf('node-1');
  assert.deepEqual([first, ...new Set(others)], ['nodes-a', 'more-a']);
  const { checks } = await lab.json<{ checks: { ok: boolean }[] }>('connectivity', 'test');
  assert.ok(checks.every(({ ok }) => ok));
});

test('a subnet that is excluded gives no new address; its pods keep theirs', { skip }, async () => {
  const before = await lab.pods();
  const id = [...nameOf].find(([, name]) => name === 'more-a')![0];
  const ec2 = await lab.ec2();
  try {
    const Tags = [{ Key: 'kubernetes.io/role/cni', Value: '0' }];
    await ec2.send(new CreateTagsCommand({ Resources: [id], Tags }));
  } finally {
    ec2.destroy();
  }
  // EC2 is asked for tags at a slow pace; an agent that starts without fresh ones asks at once.
  const { pid } = JSON.parse(readFileSync(labPaths(lab.name).node('node-1').agentPid, 'utf8')) as {
    pid: number;
  };
  process.kill(pid, 'SIGKILL');
  await eventually('the exclusion is known', async () => {
    const { policy } = JSON.parse(await lab.ok('ipam', 'explain', 'node-1', '-o', 'json')) as {
      policy: { excludedSubnetIds: string[] };
    };
    return policy.excludedSubnetIds.includes(id);
  });
  const after = await run(12, 15);
  for (const pod of before)
    assert.deepEqual(after.find(({ name }) => name === pod.name)?.ips, pod.ips, pod.name);
  const added = after.filter(({ name }) => !before.some((each) => each.name === name));
  assert.ok(
    added.every(({ ips }) => ips[0]!.startsWith('10.60.0.')),
    JSON.stringify(added.map(({ ips }) => ips)),
  );
  await lab.agreed();
});
