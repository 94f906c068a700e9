// The end of what a node can give: an m5.large holds 27 pods with addresses (3 ENIs of 9 secondary ones), the 28th is told
// which limit it met and who holds the addresses; all deleted, the node goes back to its warm target and EC2 agrees. And
// an address rests for the real cooldown before anybody gets it again.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DescribeNetworkInterfacesCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { CoreV1Api } from '@kubernetes/client-node';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { podway, skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

const MOST = 27;
const WARM = 5;
/** What the issue of a full node allows for its way back. */
const BACK_MS = 180_000;
const COOLDOWN_MS = 30_000;
const AT_ONCE = 4;

const full = new Lab('full', [
  '--nodes',
  '1',
  '--set',
  'cooldown=1s',
  '--set',
  'idleRelease=2s',
  '--set',
  'warm=5',
]);
// t3.nano: 2 ENIs of one secondary address each. The default cooldown.
const tiny = new Lab('tiny', ['--nodes', '1', '--instance-type', 't3.nano', '--set', 'warm=0']);
let ec2: EC2Client;
let instanceId: string;

before(async () => {
  if (skip) return;
  await full.up();
  ec2 = await full.ec2();
  instanceId = (await full.status()).nodes[0]!.instanceId;
});
after(async () => {
  ec2?.destroy();
  if (!skip) await downAll([full, tiny]);
});

async function enis(): Promise<{ id: string; secondary: string[] }[]> {
  const { NetworkInterfaces } = await ec2.send(
    new DescribeNetworkInterfacesCommand({
      Filters: [{ Name: 'attachment.instance-id', Values: [instanceId] }],
    }),
  );
  return NetworkInterfaces!.map((eni) => ({
    id: eni.NetworkInterfaceId!,
    secondary: eni.PrivateIpAddresses!.filter((each) => !each.Primary).map((each) => each.PrivateIpAddress!),
  }));
}

async function accept(names: string[]): Promise<void> {
  const left = [...names];
  const worker = async () => {
    for (let name = left.shift(); name; name = left.shift()) await full.ok('pod', 'run', name, '--no-wait');
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const names = Array.from({ length: MOST }, (_, index) => `p-${index + 1}`);
const find = async (name: string): Promise<PodView | undefined> =>
  (await full.pods()).find((pod) => pod.name === name);

test('27 pods have addresses, each one that EC2 lists on an ENI of the node', { skip }, async () => {
  await accept(names);
  const pods = await eventually(
    'all pods are Running',
    async () => {
      const found = await full.pods();
      return found.length === MOST && found.every((pod) => pod.phase === 'Running') && found;
    },
    60_000,
  );
  const ips = pods.map((pod) => pod.ips[0]!);
  assert.equal(new Set(ips).size, MOST);
  const attached = await enis();
  assert.equal(attached.length, 3);
  const listed = new Set(attached.flatMap((eni) => eni.secondary));
  assert.deepEqual(
    ips.filter((ip) => !listed.has(ip)),
    [],
  );
  const { totals, limits } = await full.ipam('node-1');
  assert.equal(totals.held, MOST);
  assert.deepEqual([limits.enis, limits.ipv4PerEni, limits.pods], [3, 10, 29]);
});

test('the 28th fails with the limit and the holders in its cause; explain says what to do', {
  skip,
}, async () => {
  const ran = await full.podway('pod', 'run', 'too-many', '--timeout', '20s', '-o', 'json');
  assert.equal(ran.code, 1);
  const { error } = JSON.parse(ran.stdout) as { error: { code: string; message: string; next: string } };
  assert.equal(error.code, 'ADDRESS_LIMIT');
  for (const part of ['m5.large', '27', 'default/p-']) assert.ok(error.message.includes(part), error.message);
  assert.match(ran.stderr, /^podway: ADDRESS_LIMIT: [^\n]+ \([^\n]+\)\n$/);
  const left = await find('too-many');
  assert.deepEqual([left?.phase, left?.message?.code], ['Pending', 'ADDRESS_LIMIT']);
  const api = (await full.kube()).makeApiClient(CoreV1Api);
  const eventsOf = async () => {
    const fieldSelector = 'involvedObject.name=too-many';
    return (await api.listNamespacedEvent({ namespace: 'default', fieldSelector })).items;
  };
  await eventually('an Event tells it', async () =>
    (await eventsOf()).some((event) => event.type === 'Warning' && event.message?.includes('ADDRESS_LIMIT')),
  );
  // The agent's own Event: the cause is its reason, and it says what to do.
  const own = await eventually('the agent tells the pod', async () =>
    (await eventsOf()).find((event) => event.reason === 'AddressLimit'),
  );
  assert.equal(own.type, 'Warning');
  assert.match(
    own.message!,
    /^ADDRESS_LIMIT: m5\.large takes 27 .* Podway: .* You: Delete pods .* See docs\//,
  );
  const explained = await podway('explain', 'ADDRESS_LIMIT', '-o', 'json');
  assert.match((JSON.parse(explained.stdout) as { next: string }).next, /Delete pods/);
  await full.agreed();
});

test('it is tried again and runs when another goes', { skip }, async () => {
  await full.delete(names[0]!);
  await eventually('the 28th runs', async () => (await find('too-many'))?.phase === 'Running');
  await full.delete('too-many');
});

test('all deleted, the node is back at its warm target and EC2 agrees', { skip }, async () => {
  await full.delete(...names);
  assert.deepEqual(await full.pods(), []);
  await eventually(
    'one ENI with the warm addresses',
    async () => {
      const attached = await enis();
      return attached.length === 1 && attached[0]!.secondary.length === WARM;
    },
    BACK_MS,
  );
  await full.agreed();
  // EC2 has done it before the node has heard its answer.
  const shown = await eventually('the node knows', async () => {
    const { warm, totals, enis: own } = await full.ipam('node-1');
    const numbers = [warm.target, totals.held, totals.free, own.length];
    return numbers.join() === [WARM, 0, WARM, 1].join() && full.ipam('node-1');
  });
  const [eni] = await enis();
  assert.deepEqual(shown.enis[0]!.addresses.map((each) => each.ip).sort(), eni!.secondary.sort());
  // No ENI that was made for the node is left unattached.
  const { NetworkInterfaces } = await ec2.send(
    new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'status', Values: ['available'] }] }),
  );
  assert.deepEqual(NetworkInterfaces, []);
});

test('an address rests 30 s before it is given again', { skip, timeout: 240_000 }, async () => {
  await tiny.up();
  const first = await tiny.run('first');
  await tiny.run('second');
  assert.equal((await tiny.ipam('node-1')).warm.cooldownSeconds, COOLDOWN_MS / 1000);
  const released = performance.now();
  await tiny.delete('first');
  // Long enough for a busy machine to try it once, and shorter than the cooldown.
  const asked = tiny.podway('pod', 'run', 'third', '--timeout', '15s', '-o', 'json');
  const cooling = (await tiny.ipam('node-1')).enis
    .flatMap((eni) => eni.addresses)
    .filter((each) => each.state === 'cooling');
  assert.deepEqual(
    cooling.map((each) => each.ip),
    first.ips,
  );
  assert.ok(Date.parse(cooling[0]!.coolingUntil!) > Date.now());
  const refused = await asked;
  assert.equal(refused.code, 1);
  assert.equal((JSON.parse(refused.stdout) as { error: { code: string } }).error.code, 'COOLDOWN');
  const third = await eventually(
    'the pod that waited runs',
    async () => {
      const found = (await tiny.pods()).find((pod) => pod.name === 'third');
      return found?.phase === 'Running' && found;
    },
    2 * COOLDOWN_MS,
  );
  assert.deepEqual(third.ips, first.ips);
  const rested = performance.now() - released;
  assert.ok(rested >= COOLDOWN_MS, `given again after ${Math.round(rested)} ms`);
});
