// What a lab lives through: an instance stopped and started, its own process killed while pods run, a second lab with the
// same addresses at its side.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { StartInstancesCommand, StopInstancesCommand } from '@aws-sdk/client-ec2';
import { namespacesOf } from '../../src/lab/daemon/paths.ts';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { executeOk, skip } from './command.ts';
import { assertAnswer, downAll, Lab } from './lab.ts';

const lab = new Lab('life');
const other = new Lab('twin');
const streams = new Streams();
let a: PodView;
let near: PodView;
let far: PodView;

const folder = (...parts: string[]) => ['/run/podway/labs', lab.name, ...parts].join('/');

before(async () => {
  if (skip) return;
  await lab.up();
  [a, near, far] = await Promise.all([
    lab.run('a', '--node', 'node-1'),
    lab.run('near', '--node', 'node-1'),
    lab.run('far', '--node', 'node-2'),
  ]);
});
after(async () => {
  streams.close();
  if (!skip) await downAll([lab, other]);
});

test('up again in the same shape says so; in another it names the difference', { skip }, async () => {
  assert.match(await lab.up(), /is up already in this shape/);
  const { code, stderr } = await lab.podway('lab', 'up', '--nodes', '3');
  assert.equal(code, 1);
  assert.match(stderr, /^podway: [A-Z_]+: .*nodes?.* \(.+\)$/im);
});

test('the lab is killed: streams and new connections go on; lab up goes on with the same lab', {
  skip,
}, async () => {
  await streams.open(a.netnsPath, [`${near.ips[0]}:8080`, `${far.ips[0]}:8080`, '203.0.113.10:8080']);
  const before = await lab.status();
  const env = await lab.env();
  const { pid } = JSON.parse(readFileSync(folder('lab.pid'), 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  await streams.alive();
  for (const to of [a, far]) {
    assertAnswer(await lab.ask('node-1', 'tcp', to.ips[0]!, '8080'), `${to.name} ${before.nodes[0]!.ips[0]}`);
  }
  // An address that no neighbour knows yet is still answered for: by the kernel.
  await executeOk(['ip', '-n', before.nodes[0]!.netns, 'neigh', 'flush', 'all']);
  assertAnswer(await lab.ask('node-1', 'tcp', far.ips[0]!, '8080'), `far ${before.nodes[0]!.ips[0]}`);
  assert.equal((await lab.podway('pod', 'list')).code, 1);

  await lab.up();
  await streams.alive();
  const now = await lab.status();
  // What subnets have free is left out: agents grow and trim their pools meanwhile.
  const shape = ({ vpcs, nodes, pods, ec2Endpoint, kubernetesEndpoint }: typeof now) => ({
    ec2Endpoint,
    kubernetesEndpoint,
    vpcs: vpcs.map((vpc) => ({
      ...vpc,
      subnets: vpc.subnets.map(({ id, name, zone, cidr }) => ({ id, name, zone, cidr })),
    })),
    nodes: nodes.map(({ name, instanceId, ips, publicIps }) => ({ name, instanceId, ips, publicIps })),
    pods: pods.map(({ name, ips, netns, phase }) => ({ name, ips, netns, phase })),
  });
  assert.deepEqual(shape(now), shape(before));
  assert.deepEqual(await lab.env(), env);
  const late = await lab.run('late', '--node', 'node-2');
  assertAnswer(await lab.askFrom('a', 'tcp', late.ips[0]!, '8080'), `late ${a.ips[0]}`);
  await lab.delete('late');
  await lab.agreed();
  await streams.alive();
});

test('an instance that stops takes its processes, pods and /run with it; started, it is a node again', {
  skip,
}, async () => {
  const ec2 = await lab.ec2();
  const apart = new Streams();
  try {
    await apart.open(a.netnsPath, [`${near.ips[0]}:8080`]);
    const node = (await lab.status()).nodes.find((each) => each.name === 'node-2')!;
    streams.close();
    await ec2.send(new StopInstancesCommand({ InstanceIds: [node.instanceId] }));
    await eventually('the node is not ready', async () => {
      const { nodes } = await lab.status();
      return nodes.find((each) => each.name === 'node-2')!.ready === false;
    });
    await eventually("the pod's namespace and the node's /run are gone", () => {
      const left = existsSync(folder('nodes', 'node-2', 'run'))
        ? readdirSync(folder('nodes', 'node-2', 'run'))
        : [];
      return !existsSync(far.netnsPath) && left.length === 0;
    });
    const { error } = await lab.askFrom('a', 'tcp', far.ips[0]!, '8080');
    assert.match(error ?? 'connected', /connect/);
    await apart.alive();

    await ec2.send(new StartInstancesCommand({ InstanceIds: [node.instanceId] }));
    const again = await eventually('the node is ready', async () => {
      const { nodes } = await lab.status();
      const found = nodes.find((each) => each.name === 'node-2')!;
      return found.ready && found;
    });
    assert.deepEqual([again.instanceId, again.ips], [node.instanceId, node.ips]);
    const fresh = await lab.run('fresh', '--node', 'node-2');
    assertAnswer(await lab.askFrom('a', 'tcp', fresh.ips[0]!, '8080'), `fresh ${a.ips[0]}`);
    // As by a kubelet that finds its pods without sandboxes: they run again.
    const back = await eventually('the pod of the node runs again', async () => {
      const found = (await lab.pods()).find((each) => each.name === 'far')!;
      return found.phase === 'Running' && found;
    });
    assertAnswer(await lab.askFrom('a', 'tcp', back.ips[0]!, '8080'), `far ${a.ips[0]}`);
    await lab.delete('far');
    // The public address went with the stop; the start brings one.
    assert.equal(again.publicIps.length, 1);
    assertAnswer(await lab.askFrom('fresh', 'tcp', '203.0.113.10', '8080'), `internet ${again.publicIps[0]}`);
    await lab.agreed();
    await apart.alive();
  } finally {
    apart.close();
    ec2.destroy();
  }
});

test('two labs with the same addresses side by side, and one goes', { skip }, async () => {
  await other.up();
  const [mine, theirs] = await Promise.all([lab.status(), other.status()]);
  assert.deepEqual(
    theirs.nodes.map((node) => node.ips),
    mine.nodes.map((node) => node.ips),
  );
  assert.notEqual(theirs.ec2Endpoint, mine.ec2Endpoint);
  const twin = await other.run('twin', '--node', 'node-1');
  assertAnswer(await other.ask('node-2', 'tcp', twin.ips[0]!, '8080'), `twin ${theirs.nodes[1]!.ips[0]}`);
  assert.equal(
    (await lab.pods()).some((pod) => pod.name === 'twin'),
    false,
  );
  const stranger = await lab.env();
  const wrong = await fetch(theirs.ec2Endpoint, { method: 'POST', body: 'Action=DescribeVpcs' });
  assert.ok(wrong.status >= 400 && !(await wrong.text()).includes(stranger['AWS_ACCESS_KEY_ID']!));
  await other.down();
  assert.deepEqual(namespacesOf(other.name, readdirSync('/run/netns')), []);
  assertAnswer(await lab.askFrom('a', 'tcp', near.ips[0]!, '8080'), `near ${a.ips[0]}`);
  await lab.agreed();
});
