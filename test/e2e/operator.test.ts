// What an operator asks when a pod has no address, and when a subnet is fragmented: explain, subnets, defrag plan and its
// following, the Event of the pod, and the metrics, all of the same node.
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { CoreV1Api } from '@kubernetes/client-node';
import type { SubnetReport } from '../../src/cli/subnets.ts';
import type { DefragPlan } from '../../src/ipam/views/defrag.ts';
import type { Explanation } from '../../src/ipam/views/explain.ts';
import { eventually } from '../support/wait.ts';
import { execute, PODWAY, skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

// t3.nano: two ENIs of one pod address each.
const tiny = new Lab('ask', [
  '--nodes',
  '1',
  '--instance-type',
  't3.nano',
  '--set',
  'warm=0',
  '--set',
  'cooldown=20s',
]);
const wide = new Lab('room', [
  '--nodes',
  '1',
  '--set',
  'warm=2',
  '--set',
  'cooldown=0s',
  '--set',
  'idleRelease=600s',
]);

before(async () => {
  if (skip) return;
  await Promise.all([tiny.up(), wide.up()]);
});
after(async () => {
  if (!skip) await downAll([tiny, wide]);
});

const explain = (lab: Lab, subject: string) => lab.json<Explanation>('ipam', 'explain', subject);

test('explain tells a node its inputs, and a pod its address', { skip }, async () => {
  const first = await tiny.run('first');
  await tiny.run('second');
  const node = await explain(tiny, 'node-1');
  assert.deepEqual(
    [node.subject, node.node, node.source, node.inputs.held, node.inputs.limits.addresses],
    ['node-1', 'node-1', 'the settings', 2, 2],
  );
  assert.match(node.decision, /^rests: the goal is 0 free/);
  const pod = await explain(tiny, 'first');
  assert.deepEqual(
    pod.addresses?.map((one) => one.ip),
    first.ips,
  );
  const text = await tiny.ok('ipam', 'explain', 'node-1');
  assert.match(text, /node-1 rests: .* held, 0 free.*from the settings/s);
});

test('a pod without an address is told its cause, its place and when it may come', { skip }, async () => {
  await tiny.ok('pod', 'run', 'third', '--no-wait');
  const full = await eventually('third is refused', async () => {
    const told = await explain(tiny, 'default/third');
    return told.cause?.code === 'ADDRESS_LIMIT' && told;
  });
  assert.equal(full.cause!.details.limit, 2);
  assert.match(full.cause!.details.doc, /^docs\/causes\.md#address_limit$/);
  await tiny.delete('first');
  const cools = await eventually('third is in line', async () => {
    const told = await explain(tiny, 'third');
    return told.inLine && told.cause?.code === 'COOLDOWN' && told;
  });
  assert.equal(cools.position, 1);
  assert.ok(cools.expectedSeconds! > 0 && cools.expectedSeconds! <= 20, String(cools.expectedSeconds));
  const api = (await tiny.kube()).makeApiClient(CoreV1Api);
  const event = await eventually('the Event of its first cause', async () => {
    const { items } = await api.listNamespacedEvent({
      namespace: 'default',
      fieldSelector: 'involvedObject.name=third',
    });
    return items.find((one) => one.reason === 'AddressLimit');
  });
  assert.match(
    event.message ?? '',
    /^ADDRESS_LIMIT: t3\.nano takes 2 .* You: Delete pods .* docs\/causes\.md/,
  );
  await eventually('third runs', async () => (await explain(tiny, 'third')).addresses?.length === 1);
});

test('what is no node and no pod is refused by name', { skip }, async () => {
  const ran = await tiny.podway('ipam', 'explain', 'nobody');
  assert.equal(ran.code, 1);
  assert.match(ran.stderr, /^podway: NO_SUCH_POD: no node is called nobody/);
});

test('subnets counts as EC2 does; a followed defrag plan frees the /28s that it says', { skip }, async () => {
  const pods = Array.from({ length: 6 }, (_, i) => `p${i}`);
  await Promise.all(pods.map((pod) => wide.run(pod)));
  await wide.delete(...pods.slice(1));
  // What it was still asking for when the pods went has come.
  await wide.agreed();
  const { vpcs } = await wide.status();
  const subnets = await wide.json<SubnetReport[]>('ipam', 'subnets');
  for (const { id, availableIpAddressCount } of vpcs.flatMap((vpc) => vpc.subnets))
    assert.equal(subnets.find((one) => one.id === id)?.free, availableIpAddressCount);
  const before = subnets.find((one) => one.idle.some(({ node }) => node === 'node-1'))!;
  const { totals } = await wide.ipam('node-1');
  assert.deepEqual(before.idle, [{ node: 'node-1', addresses: totals.free }]);

  type Plan = { subnets: (DefragPlan & { id: string })[]; commands: string[] };
  const { subnets: plans, commands } = await wide.json<Plan>('ipam', 'defrag', 'plan');
  const plan = plans.find((one) => one.id === before.id)!;
  assert.equal(plan.freePrefixes, before.freePrefixes);
  assert.ok(plan.steps.length > 0, 'EC2 scatters single addresses');
  // What the node needs for its goal is left to it.
  assert.equal(plan.steps.flatMap((step) => step.addresses).length, totals.free - 2);
  for (const line of commands) {
    const ran = await execute([PODWAY, ...line.split(' ').slice(1)]);
    assert.equal(ran.code, 0, ran.stderr);
  }
  const after = await wide.json<SubnetReport[]>('ipam', 'subnets', '--subnet', before.id);
  assert.deepEqual([after.length, after[0]!.freePrefixes], [1, plan.freePrefixesAfter]);
  await wide.agreed();
});

test('a held address is not returned, and nothing with it', { skip }, async () => {
  const shown = await wide.ipam('node-1');
  const all = shown.enis.flatMap((eni) => eni.addresses);
  const held = all.find((one) => one.state === 'held')!.ip;
  const free = all.find((one) => one.state === 'free')!.ip;
  const ran = await wide.podway('ipam', 'release-idle', free, held, '--node', 'node-1', '-o', 'json');
  assert.equal(ran.code, 2, 'it reads nothing, so it has no -o');
  const refused = await wide.podway('ipam', 'release-idle', free, held, '--node', 'node-1');
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    new RegExp(`^podway: NOT_IDLE: node-1: nothing is returned: ${held} is held by default/p0`),
  );
  assert.equal((await wide.ipam('node-1')).totals.free, shown.totals.free);
});

test('the metrics tell the pool’s numbers by both names, in the format that Prometheus reads', {
  skip,
}, async () => {
  const { totals } = await wide.ipam('node-1');
  const text = await metricsOf(wide);
  for (const line of text.split('\n').filter((each) => each !== ''))
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)*\})? [-+\d.eInfNa]+)$/);
  const value = (name: string) =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${name} `))!
        .split(' ')
        .at(-1),
    );
  assert.deepEqual(
    [value('podway_pool_addresses{state="held",family="4"}'), value('awscni_assigned_ip_addresses')],
    [totals.held, totals.held],
  );
  assert.equal(value('awscni_total_ip_addresses'), totals.held + totals.free + totals.cooling);
  assert.equal(value('awscni_eni_max'), 3);
  assert.ok(value('awscni_add_ip_req_count') >= 6);
  assert.ok(value('awscni_ec2api_req_count{fn="AssignPrivateIpAddresses"}') > 0);
  assert.doesNotMatch(text, /podway_pool_trouble\{/, 'an address is free');
});

/** As the agent's introspection socket serves them. */
async function metricsOf(lab: Lab): Promise<string> {
  const [node] = (await lab.status()).nodes;
  const socketPath = join(dirname(node!.agentSocket), 'api.sock');
  return new Promise((resolve, reject) => {
    const request = get({ socketPath, path: '/metrics' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        body += part;
      });
      response.once('end', () => resolve(body));
    });
    request.once('error', reject);
  });
}

test('the same survey is made of AWS by its endpoint and keys alone', { skip }, async () => {
  const { PODWAY_LAB: _, ...env } = await wide.env();
  const ran = await execute([PODWAY, 'ipam', 'subnets', '--aws', '-o', 'json'], env);
  const asked = JSON.parse(ran.stdout) as SubnetReport[];
  const known = await wide.json<SubnetReport[]>('ipam', 'subnets');
  assert.deepEqual(
    asked.map(({ id, free, freePrefixes, idle }) => ({ id, free, freePrefixes, idle })),
    known.map(({ id, free, freePrefixes }) => ({ id, free, freePrefixes, idle: [] })),
  );
});
