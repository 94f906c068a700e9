// Every kind of addressing on real packets: single addresses, prefixes, and both. A live node changes between them while a
// connection of its pods goes on; what EC2, a kill or a lost journal does to a prefix costs no pod its address.
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { Check, IpamNode, PodView } from '../../src/lab/daemon/protocol.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { blocksOf, instanceOf, isIn } from './blocks.ts';
import { skip } from './command.ts';
import { assertAnswer, Lab } from './lab.ts';

const lab = new Lab('addr', ['--nodes', '2', '--set', 'cooldown=1s', '--set', 'idleRelease=2s']);
const DRAINED_MS = 60_000;
const kind = { group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' };
const streams = new Streams();
let ec2: EC2Client;
let client: PodView;
let server: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
});
after(async () => {
  streams.close();
  ec2?.destroy();
  if (!skip) await lab.down();
});

async function follow(addressing: string): Promise<void> {
  const objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
  const spec = { addressing, cooldown: '1s' };
  const made = { apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'mode' } };
  // Again when an agent has written its status between the two.
  await eventually('the NodeNetwork is written', async () => {
    const known = await objects.getClusterCustomObject({ ...kind, name: 'mode' }).catch(() => null);
    if (known) await objects.replaceClusterCustomObject({ ...kind, name: 'mode', body: { ...known, spec } });
    else await objects.createClusterCustomObject({ ...kind, body: { ...made, spec } });
    return true;
  });
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
    // EC2 lists a prefix before the node has it, and until then a pod gets a single address that is free.
    await eventually('both nodes have a prefix, and no single address to give', async () =>
      (await lab.json<IpamNode[]>('ipam', 'show')).every(
        ({ enis }) =>
          enis.some(({ prefixes }) => prefixes.some(({ free }) => free > 0)) &&
          enis.every(({ addresses }) => addresses.every(({ state, leaving }) => state !== 'free' || leaving)),
      ),
    );
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
