// What a pod and its peers see: the pod's own address in every log, replies on the interface they came in by, metadata
// within the hop limit, packets as large as the path allows. On the demo's lab, and on small nodes where the second
// interface is soon reached: one with `snat=node`, one with `snat=none`, one with a smaller MTU for pods.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AuthorizeSecurityGroupIngressCommand,
  DescribeInstancesCommand,
  type EC2Client,
  ModifyInstanceMetadataOptionsCommand,
} from '@aws-sdk/client-ec2';
import type { LabStatus, PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { assertAnswer, downAll, Lab, QUICK } from './lab.ts';

const INTERNET = '203.0.113.10';
/** Bytes of an IPv4 and an ICMP header. */
const HEADERS = 28;

const lab = new Lab('traffic');
const shown = new Lab('off', [...QUICK, '--set', 'snat=none', ...small()]);
const hidden = new Lab('on', [...QUICK, '--set', 'snat=node', ...small()]);
const narrow = new Lab('mtu', [...QUICK, '--set', 'podMtu=1500']);
const labs = [lab, shown, hidden, narrow];
const clients: EC2Client[] = [];

let status: LabStatus;
let a: PodView;
let b: PodView;
let far: PodView;

/** t3.small: 3 ENIs of 3 secondary addresses, so that the fourth pod is on the second ENI. */
function small(): string[] {
  return ['--nodes', '1', '--instance-type', 't3.small', '--set', 'warm=1'];
}

before(async () => {
  if (skip) return;
  await lab.up('--demo');
  status = await lab.status();
  const on = (node: string) => status.pods.filter((pod) => pod.node === node);
  const first = on('node-1').length >= 2 ? 'node-1' : 'node-2';
  [a, b] = on(first) as [PodView, PodView];
  far = status.pods.find((pod) => pod.node !== first)!;
});
after(async () => {
  for (const client of clients) client.destroy();
  if (!skip) await downAll(labs);
});

const client = async (from: Lab): Promise<EC2Client> => {
  const made = await from.ec2();
  clients.push(made);
  return made;
};

test("a peer's log has the pod's own address: pod on the same node, pod on another, instance", {
  skip,
}, async () => {
  const db = status.instances.find((each) => each.name === 'db')!;
  for (const protocol of ['tcp', 'udp']) {
    for (const to of [b, far, db]) {
      assertAnswer(await lab.askFrom(a.name, protocol, to.ips[0]!, '8080'), `${to.name} ${a.ips[0]}`);
      const log = to === db ? ['lab', 'logs', 'db'] : ['pod', 'logs', to.name];
      const line = new RegExp(` ${protocol} ${a.ips[0]!.replaceAll('.', '\\.')}:\\d+$`, 'm');
      await eventually('the log tells', async () => line.test(await lab.ok(...log)));
    }
  }
});

test('nodes and instances reach a pod directly, each by its own address', { skip }, async () => {
  for (const from of [...status.nodes, ...status.instances]) {
    assertAnswer(await lab.ask(from.name, 'tcp', a.ips[0]!, '8080'), `${a.name} ${from.ips[0]}`);
  }
});

test('two pods of a node serve one port', { skip }, async () => {
  for (const to of [a, b]) {
    assertAnswer(await lab.askFrom(far.name, 'tcp', to.ips[0]!, '8080'), `${to.name} ${far.ips[0]}`);
  }
});

test('an address that nobody holds answers nothing', { skip }, async () => {
  const { error } = await lab.askFrom(a.name, 'tcp', '10.0.31.200', '8080');
  assert.match(error ?? 'connected', /connect/);
});

test('metadata within the hop limit: 1 is the node alone, 2 its pods too', { skip }, async () => {
  const ec2 = await client(lab);
  const node = status.nodes.find((each) => each.name === a.node)!;
  const imds = ['imds', '169.254.169.254', '/latest/meta-data/instance-id'];
  const limit = (hops: number) =>
    ec2.send(
      new ModifyInstanceMetadataOptionsCommand({
        InstanceId: node.instanceId,
        HttpPutResponseHopLimit: hops,
      }),
    );
  const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [node.instanceId] }));
  assert.equal(Reservations![0]!.Instances![0]!.MetadataOptions!.HttpPutResponseHopLimit, 2);
  assertAnswer(await lab.askFrom(a.name, ...imds), node.instanceId);
  await limit(1);
  try {
    assertAnswer(await lab.ask(node.name, ...imds), node.instanceId);
    const { error } = await lab.askFrom(a.name, ...imds);
    assert.match(error ?? 'answered', /timed out|receive/i);
  } finally {
    await limit(2);
  }
  assertAnswer(await lab.askFrom(a.name, ...imds), node.instanceId);
});

/** A ping with don't-fragment of so many bytes in all. */
async function whole(
  from: Lab,
  pod: PodView,
  to: string,
  bytes: number,
): Promise<{ code: number; text: string }> {
  const ping = ['ping', '-c', '1', '-W', '2', '-M', 'do', '-s', String(bytes - HEADERS), to];
  const ran = await from.podway('pod', 'exec', pod.name, '--', ...ping);
  return { code: ran.code, text: ran.stdout + ran.stderr };
}

const linkOf = async (from: Lab, pod: PodView): Promise<number> => {
  const [link] = JSON.parse(
    await from.ok('pod', 'exec', pod.name, '--', 'ip', '-j', 'link', 'show', 'eth0'),
  ) as [{ mtu: number }];
  return link.mtu;
};

test('packets of 9001 bytes inside the VPC; beyond the gateway the path says 1500', { skip }, async () => {
  assert.equal(await linkOf(lab, a), 9001);
  for (const to of [b, far]) {
    const fits = await whole(lab, a, to.ips[0]!, 9001);
    assert.equal(fits.code, 0, fits.text);
  }
  assert.notEqual((await whole(lab, a, far.ips[0]!, 9002)).code, 0);
  const beyond = await whole(lab, a, INTERNET, 9001);
  assert.match(beyond.text, /mtu ?= ?1500/i);
  const fits = await whole(lab, a, INTERNET, 1500);
  assert.equal(fits.code, 0, fits.text);
  // A stream finds the size by itself.
  const stream = (await lab.askFrom(a.name, 'tcp', INTERNET, '8080', '1', '100')) as { streamBytes?: number };
  assert.ok((stream.streamBytes ?? 0) > 100_000, JSON.stringify(stream));
});

test('podMtu=1500: the pod keeps to it and whoever sends more is told', { skip }, async () => {
  await narrow.up();
  const [near, other] = await Promise.all([
    narrow.run('near', '--node', 'node-1'),
    narrow.run('other', '--node', 'node-2'),
  ]);
  assert.equal(await linkOf(narrow, near!), 1500);
  const fits = await whole(narrow, near!, other!.ips[0]!, 1500);
  assert.equal(fits.code, 0, fits.text);
  assert.match((await whole(narrow, near!, other!.ips[0]!, 1501)).text, /too long|mtu/i);
  const ping = ['ping', '-c', '1', '-W', '2', '-M', 'do', '-s', '5000', near!.ips[0]!];
  const told = await narrow.podway('lab', 'exec', 'node-2', '--', ...ping);
  assert.match(told.stdout + told.stderr, /mtu ?= ?1500/i);
  const question = ['tcp', near!.ips[0]!, '8080', '1', '100'];
  const stream = (await narrow.ask('node-2', ...question)) as { streamBytes?: number };
  assert.ok((stream.streamBytes ?? 0) > 100_000, JSON.stringify(stream));
});

/** Pods until one is on an ENI that is not the first; it and its ENI. */
async function podOnSecond(from: Lab): Promise<{ pod: PodView; eniId: string }> {
  for (let index = 1; index <= 6; index += 1) {
    const pod = await from.run(`p-${index}`);
    const { enis } = await from.ipam('node-1');
    const eni = enis.find((each) => each.addresses.some((address) => address.ip === pod.ips[0]));
    assert.ok(eni, `${pod.ips[0]} is on no ENI`);
    if (eni.deviceIndex > 0) return { pod, eniId: eni.id };
  }
  return assert.fail('no pod is on a second ENI');
}

for (const [from, snat] of [
  [shown, 'none'],
  [hidden, 'node'],
] as const) {
  test(`snat=${snat}: the internet reaches a pod on a second ENI by its Elastic IP`, { skip }, async () => {
    await from.up();
    const ec2 = await client(from);
    const { pod, eniId } = await podOnSecond(from);
    const outward = () => from.askFrom(pod.name, 'tcp', INTERNET, '8080');
    const nodePublic = (await from.status()).nodes[0]!.publicIps[0]!;
    if (snat === 'none') assert.match((await outward()).error ?? 'connected', /connect/);
    else assertAnswer(await outward(), `internet ${nodePublic}`);

    const { AllocationId, PublicIp } = await ec2.send(new AllocateAddressCommand({ Domain: 'vpc' }));
    await ec2.send(
      new AssociateAddressCommand({
        AllocationId: AllocationId!,
        NetworkInterfaceId: eniId,
        PrivateIpAddress: pod.ips[0]!,
      }),
    );
    assert.match((await from.ask('internet', 'tcp', PublicIp!, '8080')).error ?? 'connected', /connect/);
    const { Reservations } = await ec2.send(new DescribeInstancesCommand({}));
    await ec2.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: Reservations![0]!.Instances![0]!.SecurityGroups![0]!.GroupId!,
        IpPermissions: [{ IpProtocol: '-1', IpRanges: [{ CidrIp: `${INTERNET}/32` }] }],
      }),
    );
    for (const protocol of ['tcp', 'udp']) {
      assertAnswer(await from.ask('internet', protocol, PublicIp!, '8080'), `${pod.name} ${INTERNET}`);
    }
    const expected = snat === 'none' ? PublicIp : nodePublic;
    assertAnswer(await outward(), `internet ${expected}`);
  });
}

test('inside the VPC a pod on a second ENI is itself, whatever snat says', { skip }, async () => {
  for (const from of [shown, hidden]) {
    const { nodes, pods } = await from.status();
    const last = pods.at(-1)!;
    const first = pods[0]!;
    assertAnswer(await from.askFrom(last.name, 'tcp', first.ips[0]!, '8080'), `${first.name} ${last.ips[0]}`);
    assertAnswer(await from.ask('node-1', 'tcp', last.ips[0]!, '8080'), `${last.name} ${nodes[0]!.ips[0]}`);
    assertAnswer(await from.ask('vpc', 'ping', last.ips[0]!), `reply from ${last.ips[0]}`);
  }
});
