// One network plugin in place of another, node by node under traffic, and back. The other one is Debian's ptp with
// addresses that EC2 has on the node's primary ENI, as the AWS VPC CNI's pods have them. The runtime is the first config
// of the node's folder, as containerd takes it, also for the DEL of pods that the other plugin made.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import {
  AssignPrivateIpAddressesCommand,
  DescribeInstancesCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import type { HostView } from '../../src/agent/install/keep.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { execute, executeOk, skip as notRoot, PODWAY, PROBE, ROOT } from './command.ts';
import { Lab } from './lab.ts';

const OTHER = '/usr/lib/cni';
const skip = notRoot || (existsSync(join(OTHER, 'ptp')) ? false : 'needs containernetworking-plugins');
const lab = new Lab('repl', ['-f', join(ROOT, 'examples/bare-nodes.yaml')]);
const dir = mkdtempSync(join(tmpdir(), 'podway-replace-'));
const streams = new Streams();
const servers: ChildProcess[] = [];
const spaces: string[] = [];
let ec2: EC2Client;

type Pod = { name: string; netnsPath: string; ip: string };

/** A node as its runtime sees it: folders of its own, plugins run in its namespace. */
class Host {
  readonly name: string;
  readonly netnsPath: string;
  readonly eni: string;
  /** Addresses of the primary ENI that the other plugin gives out. */
  readonly addresses: string[];
  #agent: ChildProcess | null = null;
  log = '';

  constructor(name: string, netnsPath: string, eni: string, addresses: string[]) {
    this.name = name;
    this.netnsPath = netnsPath;
    this.eni = eni;
    this.addresses = addresses;
    for (const folder of ['net.d', 'cache']) mkdirSync(this.path(folder), { recursive: true });
    cpSync(OTHER, this.path('bin'), { recursive: true, dereference: true });
  }

  path = (...parts: string[]): string => join(dir, this.name, ...parts);
  inside = (...command: string[]): string[] => ['nsenter', `--net=${this.netnsPath}`, '--', ...command];
  get conflist(): string {
    return this.path('net.d', '05-podway.conflist');
  }

  /** The other plugin's config, with the address that its next pod gets. */
  writeOther(address: string): void {
    const ipam = {
      type: 'static',
      // ptp wants a gateway of the subnet, which it gives to the node's end: one that nobody has.
      addresses: [{ address: `${address}/20`, gateway: '172.31.15.254' }],
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const list = { cniVersion: '1.0.0', name: 'other', plugins: [{ type: 'ptp', mtu: 1500, ipam }] };
    writeFileSync(this.path('net.d', '10-other.conflist'), JSON.stringify(list));
  }

  async cni(verb: 'add' | 'del', pod: string): Promise<string> {
    const where = [
      '--conf',
      this.path('net.d'),
      '--bin-dir',
      this.path('bin'),
      '--cache-dir',
      this.path('cache'),
    ];
    const of = ['--netns', `/run/netns/${space(pod)}`, '--container-id', pod];
    return executeOk(this.inside(PODWAY, 'cni', verb, ...where, ...of));
  }

  async add(pod: string): Promise<Pod> {
    execFileSync('ip', ['netns', 'add', space(pod)]);
    spaces.push(space(pod));
    execFileSync('ip', ['-n', space(pod), 'link', 'set', 'lo', 'up']);
    const result = JSON.parse(await this.cni('add', pod)) as { ips: { address: string }[] };
    const netnsPath = `/run/netns/${space(pod)}`;
    const server = spawn('nsenter', [`--net=${netnsPath}`, join(ROOT, 'build/pod-server'), '--name', pod], {
      stdio: 'ignore',
    });
    servers.push(server);
    return { name: pod, netnsPath, ip: result.ips[0]!.address.split('/')[0]! };
  }

  /** As a runtime ends a sandbox: DEL by the config that counts now, then the namespace. */
  async remove(pod: string): Promise<void> {
    await this.cni('del', pod);
    execFileSync('ip', ['netns', 'del', space(pod)]);
  }

  start(): void {
    const flags = [
      ...['--node-name', this.name, '--run-dir', this.path('run'), '--ec2-endpoint', 'http://169.254.169.10'],
      ...['--install', '--host-bin-dir', this.path('bin'), '--host-conf-dir', this.path('net.d')],
      ...['--chain', 'none', '--cooldown', '0s', '--listen', ':9464'],
    ];
    const [program, ...args] = this.inside(PODWAY, 'agent', ...flags);
    this.#agent = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#agent.stdout!, this.#agent.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
  }

  async stop(): Promise<void> {
    const agent = this.#agent;
    this.#agent = null;
    if (!agent || agent.exitCode !== null) return;
    const ended = new Promise((resolve) => agent.once('exit', resolve));
    agent.kill('SIGTERM');
    await ended;
  }

  async local<T>(...words: string[]): Promise<T> {
    const ran = await execute([PODWAY, ...words, '--local', '-o', 'json'], {
      PODWAY_RUN_DIR: this.path('run'),
    });
    return JSON.parse(ran.stdout) as T;
  }

  uninstall = () =>
    execute(
      this.inside(
        ...[PODWAY, 'agent', 'uninstall', '--run-dir', this.path('run')],
        ...['--host-bin-dir', this.path('bin'), '--host-conf-dir', this.path('net.d')],
      ),
    );
}

const space = (pod: string): string => `pwt-repl-${process.pid}-${pod}`;

async function asks(from: Pod, to: Pod): Promise<void> {
  await eventually(`${from.name} reaches ${to.name} with its own address`, async () => {
    const ran = await execute(['nsenter', `--net=${from.netnsPath}`, PROBE, 'tcp', to.ip, '8080']);
    const { answer } = JSON.parse(ran.stdout) as { answer?: string };
    return answer === `${to.name} ${from.ip}`;
  });
}

async function hostOf(name: string): Promise<Host> {
  const { instances } = await lab.status();
  const { netnsPath, instanceId } = instances.find((one) => one.name === name)!;
  const described = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  const eni = described.Reservations![0]!.Instances![0]!.NetworkInterfaces![0]!.NetworkInterfaceId!;
  const assign = { NetworkInterfaceId: eni, SecondaryPrivateIpAddressCount: 2 };
  const assigned = await ec2.send(new AssignPrivateIpAddressesCommand(assign));
  return new Host(
    name,
    netnsPath,
    eni,
    assigned.AssignedPrivateIpAddresses!.map((one) => one.PrivateIpAddress!),
  );
}

const hosts: Host[] = [];
before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  hosts.push(await hostOf('bare-1'), await hostOf('bare-2'));
});
afterEach((t) => {
  if (!skip && !(t as TestContext).passed) for (const host of hosts) console.error(host.name, host.log);
});
after(async () => {
  streams.close();
  for (const server of servers) server.kill('SIGKILL');
  await Promise.all(hosts.map((host) => host.stop()));
  for (const name of spaces) if (existsSync(`/run/netns/${name}`)) execFileSync('ip', ['netns', 'del', name]);
  ec2?.destroy();
  if (!skip) await lab.down();
  rmSync(dir, { recursive: true, force: true });
});

test('node by node in the other plugin’s place, and back, under traffic', {
  skip,
  timeout: 240_000,
}, async () => {
  const [one, two] = hosts as [Host, Host];
  one.writeOther(one.addresses[0]!);
  const old1 = await one.add('old1');
  two.writeOther(two.addresses[0]!);
  const old2 = await two.add('old2');
  await asks(old1, old2);
  await asks(old2, old1);
  await streams.open(old2.netnsPath, [`${old1.ip}:8080`]);
  await streams.open(old1.netnsPath, [`${old2.ip}:8080`]);

  one.start();
  await eventually('the conflist is there', () => existsSync(one.conflist), 60_000);
  await eventually('it tells of the other', async () => {
    const { host } = (await one.local<{ host: HostView }[]>('status'))[0]!;
    return host.others.map(({ file, wins }) => `${file} ${wins}`).join() === '10-other.conflist false';
  });
  await streams.alive();
  // New pods are ours; the address of the other plugin's pod is nobody else's, though EC2 says that it is the ENI's.
  const new1 = await one.add('new1');
  const more = [await one.add('new2'), await one.add('new3')];
  for (const pod of [new1, ...more]) assert.notEqual(pod.ip, old1.ip);
  for (const [from, to] of [
    [new1, old1],
    [old1, new1],
    [old2, new1],
    [new1, old2],
  ] as const)
    await asks(from, to);
  await streams.alive();

  // The second node, and the end of the other plugin's pods: their DEL comes to our plugin.
  two.start();
  await eventually('the conflist is there', () => existsSync(two.conflist), 60_000);
  const new4 = await two.add('new4');
  await asks(new4, new1);
  await asks(old1, new4);
  await streams.alive();
  streams.close();
  await one.remove('old1');
  await two.remove('old2');
  await asks(new1, new4);

  // Back. A node with pods of ours is left alone; drained and without an agent it is as it was.
  await one.stop();
  const refused = await one.uninstall();
  assert.match(refused.stderr, /NODE_IN_USE: the node has 3 pods of Podway/);
  assert.ok(existsSync(one.conflist), 'a stopped agent leaves the conflist');
  await asks(new1, new4);
  one.start();
  await eventually(
    'it serves again',
    async () => (await one.local<{ cause: unknown }[]>('status'))[0]?.cause === null,
    60_000,
  );
  for (const pod of ['new1', 'new2', 'new3']) await one.remove(pod);
  await one.stop();
  const done = await one.uninstall();
  assert.equal(done.code, 0, done.stderr);
  assert.deepEqual([existsSync(one.conflist), existsSync(one.path('bin', 'podway-cni'))], [false, false]);
  assert.ok(readFileSync(one.path('net.d', '10-other.conflist'), 'utf8').includes('ptp'));
  one.writeOther(one.addresses[1]!);
  const back = await one.add('back');
  assert.equal(back.ip, one.addresses[1]);
  await asks(back, new4);
  await asks(new4, back);
});
