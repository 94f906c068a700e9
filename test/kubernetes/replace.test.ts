// Podway in another plugin's place on real nodes, node by node under traffic, and back for one of them, by the chart and
// labels alone. The other plugin is Debian's ptp with addresses that EC2 has on the node's primary ENI, as the AWS VPC
// CNI's pods have them. `npm run test:kubernetes-lab`; with agents started by hand it is test/e2e/replace-network.test.ts.
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AssignPrivateIpAddressesCommand, DescribeInstancesCommand } from '@aws-sdk/client-ec2';
import {
  addToIp,
  cidrContains,
  cidrSize,
  formatCidr,
  formatIp,
  parseCidr,
  parseIp,
} from '../../src/base/ip.ts';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { CONFLIST } from '../../src/lab/kubernetes/node.ts';
import { executeOk } from '../e2e/command.ts';
import { Cluster, NAMESPACE } from '../scenarios/cluster.ts';
import { PORT, podOf, server } from '../scenarios/objects.ts';
import { Asker } from '../support/asker.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { ChartLab, missing, RELEASE_NAMESPACE, STEP_MS } from './chart-lab.ts';

const OTHER = '/usr/lib/cni';
const LABEL = 'network';
/** Addresses that the other plugin gives out on a node. */
const ADDRESSES = 6;
const lack = existsSync(join(OTHER, 'ptp')) ? missing() : 'needs containernetworking-plugins';
const skip = process.env['PODWAY_KUBERNETES'] ? lack : 'takes minutes (npm run test:kubernetes-lab)';
const [ONE, TWO] = ['node-1', 'node-2'] as const;

const lab = new ChartLab(`e2e-other-${process.pid}`);
const streams = new Streams();
const askers: Asker[] = [];
let cluster: Cluster;
let given: Map<string, string[]>;

before(
  async () => {
    if (skip) return;
    await lab.up();
    const { kubectl } = findBinaries({}).programs;
    cluster = new Cluster({ lab: lab.name, kubectl, kubeconfig: lab.env['KUBECONFIG']! });
    await lab.kubectl('create', 'namespace', NAMESPACE);
    given = new Map(await Promise.all(lab.nodes.map(async (node) => [node, await putOther(node)] as const)));
    await lab.nodesReady();
  },
  { timeout: 2 * STEP_MS },
);
after(async () => {
  if (skip) return;
  streams.close();
  for (const asker of askers) asker.close();
  cluster?.close();
  await lab.down();
});

/** The other plugin's programs and config on a node; the addresses that it has for pods. */
async function putOther(node: string): Promise<string[]> {
  const { nodes, vpcs } = await lab.status();
  const { ips, instanceId } = nodes.find(({ name }) => name === node)!;
  const subnets = vpcs.flatMap((vpc) => vpc.subnets.map(({ cidr }) => parseCidr(cidr)));
  const subnet = subnets.find((each) => cidrContains(each, parseIp(ips[0]!)))!;
  const last = (back: number) => formatIp(addToIp(subnet.ip, cidrSize(subnet) - 2 - back));
  const addresses = Array.from({ length: ADDRESSES }, (_, index) => last(ADDRESSES - index));
  await assign(instanceId, addresses);
  const range = {
    subnet: formatCidr(subnet),
    rangeStart: addresses[0],
    rangeEnd: addresses.at(-1),
    // ptp gives it to the node's end: one that nobody has.
    gateway: last(0),
  };
  const ipam = { type: 'host-local', ranges: [[range]], routes: [{ dst: '0.0.0.0/0' }] };
  const list = { cniVersion: '1.0.0', name: 'other', plugins: [{ type: 'ptp', mtu: 1500, ipam }] };
  const paths = lab.paths(node);
  for (const program of ['ptp', 'host-local'])
    copyFileSync(join(OTHER, program), join(paths.cniBinDir, program));
  writeFileSync(join(paths.cniConfDir, '10-other.conflist'), JSON.stringify(list));
  return addresses;
}

async function assign(instanceId: string, addresses: string[]): Promise<void> {
  const env = lab.env;
  const ec2 = ec2ClientOf(env);
  try {
    const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
    const { NetworkInterfaceId } = Reservations![0]!.Instances![0]!.NetworkInterfaces![0]!;
    await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: addresses }),
    );
  } finally {
    ec2.destroy();
  }
}

type Running = { name: string; ip: string; netnsPath: string; asker: Asker };

async function run(name: string, node: string): Promise<Running> {
  await cluster.apply(podOf(name, node, server()));
  await cluster.ready(name);
  const [{ ip }] = (await cluster.pods(`app=${name}`)) as [{ ip: string }, ...unknown[]];
  const id = (
    await cluster.kubectl('get', 'pod', name, '-o', 'jsonpath={.status.containerStatuses[0].containerID}')
  ).replace('containerd://', '');
  // The lab knows only the sandboxes of our pods.
  const { ctr } = findBinaries({}).programs;
  const tasks = await executeOk([
    ctr,
    '--address',
    lab.paths(node).containerdSocket,
    '-n',
    'k8s.io',
    'tasks',
    'ls',
  ]);
  const pid = new RegExp(`^${id} +(\\d+) `, 'm').exec(tasks)?.[1];
  assert.ok(pid, tasks);
  const netnsPath = `/proc/${pid}/ns/net`;
  const asker = new Asker(netnsPath);
  askers.push(asker);
  return { name, ip, netnsPath, asker };
}

/** Each asks each, and is seen by its own address. */
async function reach(...pods: Running[]): Promise<void> {
  for (const from of pods) {
    const others = pods.filter((each) => each !== from);
    const answers = await from.asker.ask(others.map(({ ip }) => ({ host: ip, port: PORT })));
    assert.deepEqual(
      answers,
      others.map(({ name }) => `${name} ${from.ip}`),
      `${from.name} asks`,
    );
  }
}

const hasOurs = (node: string): boolean => existsSync(join(lab.paths(node).cniConfDir, CONFLIST));
const label = (node: string, value: string) =>
  lab.kubectl('label', 'node', node, '--overwrite', value === '' ? `${LABEL}-` : `${LABEL}=${value}`);

test('node by node in the other plugin’s place, and back, under traffic', {
  skip,
  timeout: 4 * STEP_MS,
}, async () => {
  const old1 = await run('old-1', ONE);
  const old2 = await run('old-2', TWO);
  assert.ok(given.get(ONE)!.includes(old1.ip) && given.get(TWO)!.includes(old2.ip));
  await reach(old1, old2);
  await streams.open(old1.netnsPath, [`${old2.ip}:${PORT}`]);
  await streams.open(old2.netnsPath, [`${old1.ip}:${PORT}`]);

  await lab.install([`agent.nodeSelector.${LABEL}=podway`, 'settings.idleRelease=1h']);
  assert.deepEqual([hasOurs(ONE), hasOurs(TWO)], [false, false], 'no node was chosen yet');
  await label(ONE, 'podway');
  await eventually('the first node’s conflist is ours', () => hasOurs(ONE), STEP_MS);
  const new1 = await run('new-1', ONE);
  assert.notEqual(new1.ip, old1.ip);
  await reach(old1, old2, new1);
  await streams.alive();

  await label(TWO, 'podway');
  await eventually('the second node’s conflist is ours', () => hasOurs(TWO), STEP_MS);
  const new2 = await run('new-2', TWO);
  await reach(old1, old2, new1, new2);
  await streams.alive();
  // Their DEL comes to our plugin.
  streams.close();
  await cluster.kubectl('delete', 'pod', 'old-1', 'old-2', '--wait');
  await reach(new1, new2);

  // Back, on the first node: drained, without an agent, then cleaned.
  const more = await run('new-3', TWO);
  const going = new Streams();
  try {
    await going.open(more.netnsPath, [`${new2.ip}:${PORT}`]);
    await lab.kubectl(
      ...['drain', ONE, '--ignore-daemonsets', '--delete-emptydir-data', '--force', '--timeout=120s'],
    );
    await label(ONE, 'old');
    const agents = async () =>
      (
        await lab.kubectl(
          ...RELEASE_NAMESPACE,
          'get',
          'pods',
          '-l',
          'app.kubernetes.io/component=agent',
          '-o',
          'wide',
        )
      ).includes(` ${ONE} `);
    await eventually('the agent has left the node', async () => !(await agents()), STEP_MS);
    assert.ok(hasOurs(ONE), 'a stopped agent leaves the conflist');
    await lab.upgrade(['uninstall.enabled=true', `uninstall.nodeSelector.${LABEL}=old`]);
    await eventually('our conflist is gone', () => !hasOurs(ONE), STEP_MS);
    await lab.kubectl('uncordon', ONE);
    const back = await run('back', ONE);
    assert.ok(given.get(ONE)!.includes(back.ip), `${back.ip} is none of ${given.get(ONE)}`);
    await reach(back, new2, more);
    await going.alive();
  } finally {
    going.close();
  }
});
