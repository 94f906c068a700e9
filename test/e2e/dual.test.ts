// Pods with an address of each family on a lab: each address of the pod's ENI, packets in both families between pods of one
// node and of two, from the node, with the real source; repair of what is IPv6's alone; a live node that gets and loses
// the second family; pods of IPv6 alone.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { AT_ONCE_MS, type Damage, testDamages } from './damages.ts';
import { assertAnswer, downAll, Lab, QUICK } from './lab.ts';

const lab = new Lab('dual', [...QUICK, '--set', 'families=dual']);
const six = new Lab('six', [...QUICK, '--set', 'families=ipv6', '--set', 'egress4=node', '--nodes', '1']);
const INTERNET = '203.0.113.10';

let a: PodView;
let b: PodView;
let far: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  [a, b, far] = await Promise.all([
    lab.run('a', '--node', 'node-1'),
    lab.run('b', '--node', 'node-1'),
    lab.run('far', '--node', 'node-2'),
  ]);
});
after(() => (skip ? undefined : downAll([lab, six])));

const onNode = (...command: string[]) => lab.ok('lab', 'exec', 'node-1', '--', ...command);

async function reach(): Promise<void> {
  for (const to of [b, far])
    for (const family of [0, 1])
      assertAnswer(await lab.askFrom('a', 'tcp', to.ips[family]!, '8080'), `${to.name} ${a.ips[family]}`);
}

test('a pod has an IPv4 and an IPv6 address of one ENI, and ipam show counts both', { skip }, async () => {
  for (const pod of [a, b, far])
    assert.deepEqual(
      pod.ips.map((ip) => ip.includes(':')),
      [false, true],
    );
  const shown = await lab.ipam('node-1');
  const eni = shown.enis.find(({ addresses }) => addresses.some(({ ip }) => ip === a.ips[0]))!;
  assert.ok(eni.addresses.some(({ ip, state }) => ip === a.ips[1] && state === 'held'));
  assert.equal(eni.ipv6Prefixes?.length, 1);
  assert.equal(shown.totals.held, 2);
  assert.equal(shown.totals6?.held, 2);
  await lab.agreed();
});

test('pods answer each other in both families, with the address that they hold', { skip }, async () => {
  await reach();
  for (const protocol of ['tcp', 'udp'])
    assertAnswer(await lab.askFrom('far', protocol, a.ips[1]!, '8080'), `a ${far.ips[1]}`);
  const { answer } = await lab.ask('node-2', 'tcp', a.ips[1]!, '8080');
  assert.match(answer ?? '', /^a [0-9a-f:]+$/, 'the node itself asks');
});

const damages: Damage[] = [
  [
    'all rules of IPv6',
    'ip -6 rule flush',
    'ip -6 rule | grep -q "lookup 20480" && ip -6 rule | grep -q "32766:.*main"',
  ],
  [
    'the pods’ IPv6 routes',
    'ip -6 route flush table 20480',
    'test "$(ip -6 route show table 20480 | wc -l)" = 2',
  ],
  ['the map of IPv6', 'nft flush map inet podway pods6', 'nft list map inet podway pods6 | grep -q pw'],
  [
    'forwarding of IPv6',
    'echo 0 > /proc/sys/net/ipv6/conf/all/forwarding',
    'grep -q 1 /proc/sys/net/ipv6/conf/all/forwarding',
  ],
  [
    'the gateway of a pod',
    'ip addr del fe80::1/128 dev $(ip -br link show group 20480 | head -1 | cut -d@ -f1)',
    'test "$(ip -6 addr | grep -c fe80::1/128)" = 2',
  ],
];
testDamages(lab, damages, reach);

test('a pod’s deleted link is made again with both addresses', { skip }, async () => {
  const route = await onNode('ip', '-6', 'route', 'show', 'table', '20480', a.ips[1]!);
  await onNode('ip', 'link', 'del', /dev (\S+)/.exec(route)![1]!);
  await eventually('a has its network', () => reach().then(() => true), AT_ONCE_MS);
});

/** Kills the node's agent; resolves when the next one serves. */
async function restartAgent(node: string): Promise<void> {
  const pid = () =>
    (JSON.parse(readFileSync(labPaths(lab.name).node(node).agentPid, 'utf8')) as { pid: number }).pid;
  const killed = pid();
  process.kill(killed, 'SIGKILL');
  await eventually(
    'the agent is up again',
    async () => pid() !== killed && (await lab.podway('ipam', 'show', '--node', node)).code === 0,
  );
}

test('where the cluster’s Services have IPv6 first, so have new pods', { skip }, async () => {
  const api = (await lab.kube()).makeApiClient(CoreV1Api);
  const ports = [{ port: 443 }];
  const spec = { ipFamilies: ['IPv6', 'IPv4'], ipFamilyPolicy: 'RequireDualStack', ports };
  await api.createNamespacedService({
    namespace: 'default',
    body: { metadata: { name: 'kubernetes' }, spec },
  });
  await restartAgent('node-1');
  // An agent that starts waits for the API's word, but not for long.
  let first = await lab.run('first', '--node', 'node-1');
  for (let tries = 0; tries < 5 && !first.ips[0]!.includes(':'); tries++) {
    await lab.delete('first');
    first = await lab.run('first', '--node', 'node-1');
  }
  assert.deepEqual(
    first.ips.map((ip) => ip.includes(':')),
    [true, false],
  );
  const { status } = await api.readNamespacedPod({ namespace: 'default', name: 'first' });
  assert.deepEqual([status?.podIP, status?.podIPs?.map(({ ip }) => ip)], [first.ips[0], first.ips]);
  for (const family of [0, 1])
    assertAnswer(await lab.askFrom('first', 'tcp', a.ips[family]!, '8080'), `a ${first.ips[1 - family]}`);
  assert.deepEqual((await lab.pods()).find(({ name }) => name === 'a')?.ips, a.ips, 'a pod that runs stays');
  await reach();
  await lab.agreed();
});

test('a NodeNetwork gives new pods IPv6 alone, and the node’s address for IPv4 hosts', { skip }, async () => {
  const objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
  const body = { apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'six' } };
  await objects.createClusterCustomObject({
    ...{ group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' },
    body: { ...body, spec: { families: 'ipv6', egress4: 'node' } },
  });
  await eventually('it counts', async () => (await lab.ipam('node-1')).family === 'IPv6');
  const { ips } = await lab.run('alone', '--node', 'node-1');
  assert.deepEqual(
    ips.map((ip) => ip.includes(':')),
    [true],
  );
  const { answer } = await lab.askFrom('alone', 'tcp', INTERNET, '8080');
  assert.match(answer ?? '', /^internet 198\.18\.0\.\d+$/);
  await reach();
  await lab.agreed();
});

test('pods of IPv6 alone have no IPv4, wait for EC2 once, and answer', { skip }, async () => {
  await six.up();
  const pods = await Promise.all(['p', 'q'].map((name) => six.run(name)));
  for (const { ips } of pods)
    assert.deepEqual(
      ips.map((ip) => ip.includes(':')),
      [true],
    );
  assertAnswer(await six.askFrom('p', 'tcp', pods[1]!.ips[0]!, '8080'), `q ${pods[0]!.ips[0]}`);
  const shown = await six.ipam('node-1');
  assert.deepEqual([shown.totals.held, shown.totals6?.held, shown.family], [0, 2, 'IPv6']);
  assert.equal(shown.enis.length, 1, 'one /80 is enough');
  // By the node's address, which the internet gateway makes its public one.
  const { answer } = await six.askFrom('p', 'tcp', INTERNET, '8080');
  assert.match(answer ?? '', /^internet 198\.18\.0\.\d+$/);
  await six.agreed();
});
