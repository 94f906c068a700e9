// A lab of examples/ipv6.yaml: instances of both families and of IPv6 alone, IMDS by IPv6, gateways that let in and that
// do not, what Kubernetes shows of it, and all of it again after a kill.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ModifyInstanceMetadataOptionsCommand } from '@aws-sdk/client-ec2';
import { CoreV1Api } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { Check, LabStatus } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { assertAnswer, Lab, QUICK } from './lab.ts';

const HOST = '2001:db8:113::10';
const lab = new Lab('six', [...QUICK, '-f', join(ROOT, 'examples/ipv6.yaml')]);
let status: LabStatus;

before(async () => {
  if (skip) return;
  await lab.up();
  status = await lab.status();
});
after(async () => {
  if (!skip) await lab.down();
});

const isSix = (ip: string) => ip.includes(':');
const sixOf = (name: string): string =>
  [...status.nodes, ...status.instances].find((each) => each.name === name)!.ips.find(isSix)!;

test('status shows the blocks and the addresses of both families', { skip }, () => {
  const [vpc] = status.vpcs;
  assert.equal(vpc!.ipv6Cidrs!.length, 1);
  assert.deepEqual(
    vpc!.subnets.map((subnet) => [subnet.name, subnet.cidr !== '', subnet.ipv6Cidr !== undefined]).sort(),
    [
      ['both', true, true],
      ['hidden', true, true],
      ['six', false, true],
    ],
  );
  const families = (name: string) => status.nodes.find((each) => each.name === name)!.ips.map(isSix);
  assert.deepEqual(families('node-1'), [false, true]);
  assert.deepEqual(families('node-2'), [true]);
});

test('instances reach each other, IMDS and the internet by IPv6', { skip }, async () => {
  assertAnswer(await lab.ask('node-1', 'ping', sixOf('db')), `reply from ${sixOf('db')}`);
  assertAnswer(await lab.ask('node-2', 'tcp', sixOf('db'), '8080'), `db ${sixOf('node-2')}`);
  for (const node of ['node-1', 'node-2', 'db']) {
    const id = (await lab.ok('lab', 'status', '-o', 'json')).includes(node);
    assert.ok(id);
    const asked = await lab.ask(node, 'imds', 'fd00:ec2::254', '/latest/meta-data/ipv6');
    assertAnswer(asked, sixOf(node));
    assertAnswer(await lab.ask(node, 'tcp', HOST, '8080'), `internet ${sixOf(node)}`);
  }
  assert.match(
    (await lab.ask('internet', 'tcp', sixOf('db'), '8080')).error ?? '',
    /timed out/i,
    'egress-only',
  );
});

test('Kubernetes has a node of each kind, and Services of both families', { skip }, async () => {
  const core = (await lab.kube()).makeApiClient(CoreV1Api);
  const { items } = await core.listNode();
  const internal = new Map(
    items.map(({ metadata, status: now }) => [
      metadata!.name,
      now!.addresses!.filter((each) => each.type === 'InternalIP').map((each) => isSix(each.address)),
    ]),
  );
  assert.deepEqual(internal.get('node-1'), [false, true]);
  assert.deepEqual(internal.get('node-2'), [true]);
  const body = {
    metadata: { name: 'both' },
    spec: { ipFamilyPolicy: 'PreferDualStack', ports: [{ port: 80 }] },
  };
  const made = await core.createNamespacedService({ namespace: 'default', body });
  assert.deepEqual(made.spec!.ipFamilies, ['IPv4', 'IPv6']);
  assert.deepEqual(made.spec!.clusterIPs!.map(isSix), [false, true]);
});

test('a pod has an address of each family, and every question is answered as asked', { skip }, async () => {
  const pod = await lab.run('both', '--node', 'node-1');
  assert.deepEqual(pod.ips.map(isSix), [false, true]);
  const core = (await lab.kube()).makeApiClient(CoreV1Api);
  const { status: now } = await core.readNamespacedPod({ namespace: 'default', name: 'both' });
  assert.deepEqual(
    now!.podIPs!.map((each) => each.ip),
    pod.ips,
  );
  assert.deepEqual(
    now!.hostIPs!.map((each) => isSix(each.ip!)),
    [false, true],
  );
  const { checks } = await lab.json<{ checks: Check[] }>('connectivity', 'test');
  assert.deepEqual(
    checks.filter((each) => !each.ok),
    [],
  );
  const names = new Set(checks.map((each) => each.name));
  for (const name of [
    'pod-to-pod-same-node',
    'pod-to-router',
    'pod-to-internet',
    'pod-to-imds',
    'pod-to-instance',
  ])
    assert.ok(names.has(name) && names.has(`${name}-ipv6`), name);
});

test('IMDS by IPv6 keeps to the hop limit, and to what the instance says', { skip }, async () => {
  const ec2 = await lab.ec2();
  const InstanceId = status.nodes.find((each) => each.name === 'node-1')!.instanceId;
  const modify = (more: object) =>
    ec2.send(new ModifyInstanceMetadataOptionsCommand({ InstanceId, ...more }));
  const question = ['imds', 'fd00:ec2::254', '/latest/meta-data/instance-id'] as const;
  assertAnswer(await lab.askFrom('both', ...question), InstanceId);
  await modify({ HttpPutResponseHopLimit: 1 });
  assert.notEqual((await lab.askFrom('both', ...question)).error, undefined, 'the token ends on the node');
  assertAnswer(await lab.ask('node-1', ...question), InstanceId);
  await modify({ HttpProtocolIpv6: 'disabled' });
  assert.notEqual((await lab.ask('node-1', ...question)).error, undefined);
  assertAnswer(await lab.ask('node-1', 'imds', '169.254.169.254', question[2]), InstanceId);
  await modify({ HttpProtocolIpv6: 'enabled', HttpPutResponseHopLimit: 2 });
  assertAnswer(await lab.askFrom('both', ...question), InstanceId);
  ec2.destroy();
});

test('a killed lab goes on with the same addresses', { skip }, async () => {
  const { pid } = JSON.parse(readFileSync(labPaths(lab.name).pid, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  assertAnswer(await lab.ask('node-1', 'ping', sixOf('db')), `reply from ${sixOf('db')}`);
  await lab.up();
  const again = await lab.status();
  assert.deepEqual(
    again.nodes.map((each) => each.ips),
    status.nodes.map((each) => each.ips),
  );
  await eventually('IMDS answers again', async () => {
    const asked = await lab.ask('node-2', 'imds', 'fd00:ec2::254', '/latest/meta-data/ipv6');
    return asked.answer === sixOf('node-2');
  });
});
