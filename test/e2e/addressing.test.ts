// Every kind of addressing on real packets: single addresses, prefixes, and both. A live node changes between them while a
// connection of its pods goes on; what EC2, a kill or a lost journal does to a prefix costs no pod its address. A subnet
// without whole /28s serves single addresses until it has some again, and a full one serves the next address that is freed.
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  type EC2Client,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { cidrContains, parseCidr, parseIp } from '../../src/base/ip.ts';
import type { SubnetReport } from '../../src/cli/subnets.ts';
import type { DefragPlan } from '../../src/ipam/views/defrag.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { Check, PodView } from '../../src/lab/daemon/protocol.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { assertAnswer, downAll, Lab } from './lab.ts';

type DefragAnswer = { subnets: (DefragPlan & { id: string })[]; commands: string[] };

const lab = new Lab('addr', ['--nodes', '2', '--set', 'cooldown=1s', '--set', 'idleRelease=2s']);
const holes = new Lab('holes', [
  ...['-f', join(ROOT, 'examples/fragmented.yaml')],
  ...['--set', 'addressing=auto', '--set', 'cooldown=1s', '--set', 'idleRelease=2s', '--set', 'warm=2'],
]);
const small = new Lab('small', [
  ...['-f', join(ROOT, 'examples/small-subnet.yaml'), '--set', 'warm=0', '--set', 'cooldown=1s'],
]);
const DRAINED_MS = 60_000;
/** A subnet without whole /28s is left alone for at most a minute at first. */
const WHOLE_MS = 150_000;
const kind = { group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' };
const clients: EC2Client[] = [];
const streams = new Streams();
let ec2: EC2Client;
let client: PodView;
let server: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await clientOf(lab);
});
after(async () => {
  streams.close();
  for (const one of clients) one.destroy();
  if (!skip) await downAll([lab, holes, small]);
});

async function clientOf(from: Lab): Promise<EC2Client> {
  const made = await from.ec2();
  clients.push(made);
  return made;
}

const instanceOf = async (from: Lab, node: string): Promise<string> =>
  (await from.status()).nodes.find(({ name }) => name === node)!.instanceId;

/** What EC2 lists on the node's ENIs. */
async function blocksOf(
  from: Lab,
  by: EC2Client,
  node: string,
): Promise<{ singles: string[]; prefixes: string[] }> {
  const Filters = [{ Name: 'attachment.instance-id', Values: [await instanceOf(from, node)] }];
  const { NetworkInterfaces } = await by.send(new DescribeNetworkInterfacesCommand({ Filters }));
  return {
    singles: NetworkInterfaces!.flatMap((eni) =>
      eni.PrivateIpAddresses!.filter(({ Primary }) => !Primary).map((one) => one.PrivateIpAddress!),
    ),
    prefixes: NetworkInterfaces!.flatMap((eni) => (eni.Ipv4Prefixes ?? []).map((one) => one.Ipv4Prefix!)),
  };
}

const isIn = (ip: string, prefixes: readonly string[]): boolean =>
  prefixes.some((prefix) => cidrContains(parseCidr(prefix), parseIp(ip)));

async function follow(addressing: string): Promise<void> {
  const objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
  const spec = { addressing, cooldown: '1s' };
  const known = await objects.getClusterCustomObject({ ...kind, name: 'mode' }).catch(() => null);
  const made = { apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'mode' } };
  if (known) await objects.replaceClusterCustomObject({ ...kind, name: 'mode', body: { ...known, spec } });
  else await objects.createClusterCustomObject({ ...kind, body: { ...made, spec } });
}

async function connects(): Promise<void> {
  const { ok, checks } = await lab.json<{ ok: boolean; checks: Check[] }>('connectivity', 'test');
  assert.ok(ok, JSON.stringify(checks.filter((one) => !one.ok)));
  const db = (await lab.status()).instances.find(({ name }) => name === 'db');
  if (db) assertAnswer(await lab.askFrom(client.name, 'tcp', db.ips[0]!, '8080'), `db ${client.ips[0]}`);
}

const ipOf = (pod: PodView): string => pod.ips[0]!;
const addresses = async (): Promise<string[]> =>
  (await lab.pods()).filter(({ name }) => name === 'client' || name === 'server').map(ipOf);

test('single addresses: pods reach each other, instances and the internet', { skip }, async () => {
  client = await lab.run('client', '--node', 'node-1');
  server = await lab.run('server', '--node', 'node-2');
  assert.deepEqual((await blocksOf(lab, ec2, 'node-1')).prefixes, []);
  await connects();
  await streams.open(client.netnsPath!, [`${ipOf(server)}:8080`]);
});

for (const mode of ['prefix', 'auto'])
  test(`a live node changes to ${mode}: new pods are on prefixes, and nothing that runs is moved`, {
    skip,
  }, async () => {
    await follow(mode);
    const name = `on-${mode}`;
    await eventually('both nodes have a prefix', async () => {
      const both = await Promise.all(['node-1', 'node-2'].map((node) => blocksOf(lab, ec2, node)));
      return both.every(({ prefixes }) => prefixes.length > 0);
    });
    const pods = [
      await lab.run(`${name}-1`, '--node', 'node-1'),
      await lab.run(`${name}-2`, '--node', 'node-2'),
    ];
    for (const pod of pods) {
      const { prefixes } = await blocksOf(lab, ec2, pod.node!);
      assert.ok(isIn(ipOf(pod), prefixes), `${ipOf(pod)} is in none of ${prefixes}`);
      for (const peer of [client, server, ...pods])
        assertAnswer(await lab.askFrom(pod.name, 'tcp', ipOf(peer), '8080'), `${peer.name} ${ipOf(pod)}`);
    }
    await connects();
    await streams.alive();
    await eventually(
      'the old kind is returned but for running pods',
      async () => (await blocksOf(lab, ec2, 'node-1')).singles.join() === ipOf(client),
      DRAINED_MS,
    );
    assert.deepEqual(await addresses(), [ipOf(client), ipOf(server)]);
    await lab.agreed();
    await streams.alive();
  });

test('a kill -9 and a lost journal: pods on prefixes keep their addresses', { skip }, async () => {
  const paths = labPaths(lab.name).node('node-1');
  const held = async () => (await lab.pods()).map((pod) => `${pod.name} ${ipOf(pod)}`).sort();
  const before = await held();
  const kill = () => {
    const { pid } = JSON.parse(readFileSync(paths.agentPid, 'utf8')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    return pid;
  };
  const isUpAgain = (killed: number) =>
    eventually('the agent is up again', async () => {
      const { pid } = JSON.parse(readFileSync(paths.agentPid, 'utf8')) as { pid: number };
      return pid !== killed && (await lab.podway('ipam', 'show', '--node', 'node-1')).code === 0;
    });
  await isUpAgain(kill());
  await lab.agreed();
  rmSync(join(paths.run, 'journal'));
  await isUpAgain(kill());
  await lab.agreed(60_000);
  assert.deepEqual(await held(), before);
  const after = await lab.run('after', '--node', 'node-1');
  assert.ok(!before.some((text) => text.endsWith(` ${ipOf(after)}`)));
  await streams.alive();
});

test('a prefix that somebody unassigns under running pods is had back', { skip }, async () => {
  const pod = (await lab.pods()).find(({ name }) => name === 'on-auto-1')!;
  const Filters = [{ Name: 'attachment.instance-id', Values: [await instanceOf(lab, 'node-1')] }];
  const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters }));
  const eni = NetworkInterfaces!.find((one) =>
    isIn(
      ipOf(pod),
      (one.Ipv4Prefixes ?? []).map((prefix) => prefix.Ipv4Prefix!),
    ),
  )!;
  const Ipv4Prefixes = eni
    .Ipv4Prefixes!.map((one) => one.Ipv4Prefix!)
    .filter((one) => isIn(ipOf(pod), [one]));
  const { NetworkInterfaceId } = eni;
  await ec2.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, Ipv4Prefixes }));
  await lab.agreed();
  assert.ok(isIn(ipOf(pod), (await blocksOf(lab, ec2, 'node-1')).prefixes));
  await eventually('the pod answers', async () => {
    const { answer } = await lab.askFrom('server', 'tcp', ipOf(pod), '8080');
    return answer !== undefined;
  });
});

test('back to single addresses: the prefixes drain as their pods go', { skip }, async () => {
  await follow('secondary');
  const pod = await eventually('a new pod has a single address', async () => {
    const tried = await lab.run('single', '--node', 'node-1');
    const { singles } = await blocksOf(lab, ec2, 'node-1');
    if (singles.includes(ipOf(tried))) return tried;
    await lab.delete('single');
    return undefined;
  });
  assertAnswer(await lab.askFrom('server', 'tcp', ipOf(pod), '8080'), `single ${ipOf(server)}`);
  const onPrefixes = ['on-prefix-1', 'on-prefix-2', 'on-auto-1', 'on-auto-2', 'after'];
  await lab.delete(...onPrefixes);
  await eventually(
    'no prefix is left',
    async () => {
      const both = await Promise.all(['node-1', 'node-2'].map((node) => blocksOf(lab, ec2, node)));
      return both.every(({ prefixes }) => prefixes.length === 0);
    },
    DRAINED_MS,
  );
  await connects();
  assert.deepEqual(await addresses(), [ipOf(client), ipOf(server)]);
  await streams.alive();
  assert.deepEqual(streams.broken(), []);
});

test('a fragmented subnet: single addresses, and prefixes once it has whole /28s again', {
  skip,
}, async () => {
  await holes.up();
  const by = await clientOf(holes);
  const first = await holes.run('first', '--node', 'node-1');
  const before = await blocksOf(holes, by, 'node-1');
  assert.deepEqual(before.prefixes, []);
  assert.ok(before.singles.includes(ipOf(first)));
  const elsewhere = await holes.run('elsewhere', '--node', 'node-2');
  const reserved = await blocksOf(holes, by, 'node-2');
  assert.ok(isIn(ipOf(elsewhere), reserved.prefixes), 'the subnet with a reservation for prefixes has them');
  const SubnetId = (await holes.status()).vpcs[0]!.subnets.find(({ name }) => name === 'holes-a')!.id;
  const inTheWay = ['defrag', 'plan', '--subnet', SubnetId];
  const { subnets, commands } = await holes.json<DefragAnswer>('ipam', ...inTheWay);
  const [plan] = subnets;
  assert.deepEqual(
    [plan!.id, plan!.freePrefixes, plan!.freePrefixesAfter],
    [SubnetId, 0, plan!.steps.length],
  );
  // All are of one interface that is attached to nothing, and its own address is one of them.
  const [NetworkInterfaceId] = new Set(
    plan!.steps.flatMap((step) =>
      step.addresses.map((one) => ('interface' in one ? one.interface : one.node)),
    ),
  );
  assert.deepEqual(commands, [
    `aws ec2 delete-network-interface --network-interface-id ${NetworkInterfaceId}`,
  ]);
  await by.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
  const room = await holes.json<SubnetReport[]>('ipam', 'subnets', '--subnet', SubnetId);
  assert.equal(room[0]!.freePrefixes, plan!.freePrefixesAfter);
  await eventually(
    'node-1 has a prefix again, and singles for running pods alone',
    async () => {
      const { singles, prefixes } = await blocksOf(holes, by, 'node-1');
      return prefixes.length > 0 && singles.join() === ipOf(first);
    },
    WHOLE_MS,
  );
  const second = await holes.run('second', '--node', 'node-1');
  assert.ok(isIn(ipOf(second), (await blocksOf(holes, by, 'node-1')).prefixes));
  assertAnswer(await holes.askFrom('second', 'tcp', ipOf(first), '8080'), `first ${ipOf(second)}`);
  await holes.agreed();
});

test('a full /26: the waiting pod is told, others go on, and a freed address reaches it', {
  skip,
}, async (t) => {
  await small.up();
  const by = await clientOf(small);
  const SubnetId = (await small.status()).vpcs[0]!.subnets.find(({ name }) => name === 'full-a')!.id;
  const left = async () => {
    const { Subnets } = await by.send(new DescribeSubnetsCommand({ SubnetIds: [SubnetId] }));
    return Subnets![0]!.AvailableIpAddressCount!;
  };
  await eventually('the nodes rest', async () => (await left()) === 57);
  const count = (await left()) - 1;
  const { NetworkInterface } = await by.send(
    new CreateNetworkInterfaceCommand({ SubnetId, SecondaryPrivateIpAddressCount: count }),
  );
  assert.equal(await left(), 0);
  await small.ok('pod', 'run', 'waits', '--node', 'node-1', '--no-wait');
  const api = (await small.kube()).makeApiClient(CoreV1Api);
  const told = await eventually('an Event names the full subnet', async () => {
    const { items } = await api.listNamespacedEvent({ namespace: 'default' });
    return items.find(({ involvedObject, message }) =>
      involvedObject.name === 'waits' ? message?.includes('SUBNET_EXHAUSTED') : false,
    );
  });
  for (const part of [SubnetId, '10.70.0.0/26', '59 addresses', '0 free'])
    assert.ok(told.message!.includes(part), told.message!);
  assert.equal((await small.run('goes-on', '--node', 'node-3')).phase, 'Running');
  const PrivateIpAddresses = [NetworkInterface!.PrivateIpAddresses![1]!.PrivateIpAddress!];
  const NetworkInterfaceId = NetworkInterface!.NetworkInterfaceId!;
  await by.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses }));
  const freedAt = Date.now();
  const pod = await eventually('the pod has the freed address', async () => {
    const found = (await small.pods()).find(({ name }) => name === 'waits');
    return found?.phase === 'Running' ? found : undefined;
  });
  t.diagnostic(`Running ${Date.now() - freedAt} ms after the address was freed`);
  assert.equal(ipOf(pod), PrivateIpAddresses[0]);
  await small.agreed();
});
