// traffic: one TCP stream, and TCP request and response, pod to pod on one node and across two. The baseline is made by
// hand on two bare instances of the same fabric: veths, /32 routes, masquerade and connection tracking, nothing else.
// Beside them stands a bare veth between two namespaces, without routing or tracking. Rounds are interleaved and short,
// and a ratio is the median of the rounds' own ratios, so that what slows the machine for a while slows both. Client and
// server each have a CPU of their own: left to the scheduler they share one in some rounds and not in others, which
// changes a round's figures by more than anything measured here. Both run at real-time priority, so that whoever else is on
// the machine takes part through its caches alone. The nodes' own row is what the datapath costs a process of the node.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { AssignPrivateIpAddressesCommand, DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { podway, root, run, scratch, twoSubnets } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const LAB = 'bench-traffic';
const PORT = 7777;
const ROUNDS = 15;
const SECONDS = '0.5';
const MANY = 100;
const PREFIX = 'podway-bench-t';

const shape = `${twoSubnets(
  '{ name: node-1, type: m5.4xlarge, subnet: a, securityGroups: [nodes] }',
  '{ name: node-2, type: m5.4xlarge, subnet: b, securityGroups: [nodes] }',
  '{ name: bare-1, type: m5.large, subnet: a, agent: none, securityGroups: [nodes] }',
  '{ name: bare-2, type: m5.large, subnet: b, agent: none, securityGroups: [nodes] }',
)}settings: { cooldown: 0s, warm: 5, repair: report }
`;

export type End = { netnsPath: string; ip: string };
export type Path = { name: string; who: 'podway' | 'by hand' | 'bare veth'; from: End; to: End };
type Sample = { bits: number[]; perSecond: number[]; p50: number[]; p99: number[] };

export const ip = (...args: string[]) => run('ip', args);

export const CLIENT_CPU = '0';
export const SERVER_CPU = String(Math.min(1, availableParallelism() - 1));
/** Arguments of taskset(1) that start a program on one CPU in a namespace, before all that is not of real time. */
export const inside = (cpu: string, end: End) => [
  '-c',
  cpu,
  'chrt',
  '-f',
  '1',
  'nsenter',
  `--net=${end.netnsPath}`,
];

/** A pair of links, `link` in one namespace and `eth0` in the other, with the VPC's MTU. */
export const veth = (namespace: string, link: string, other: string) =>
  run(
    'ip',
    `-n ${namespace} link add ${link} mtu 9001 type veth peer name eth0 mtu 9001 netns ${other}`.split(' '),
  );

/** A sandbox by hand in a bare instance: what ptp or any other routed plugin leaves in the kernel. */
export function sandboxByHand(instance: string, name: string, address: string): End {
  const host = `h${name.slice(-8)}`;
  ip('netns', 'add', name);
  veth(instance, host, name);
  ip('-n', instance, 'link', 'set', host, 'up');
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('-n', name, 'link', 'set', 'eth0', 'up');
  ip('-n', name, 'addr', 'add', `${address}/32`, 'dev', 'eth0');
  const mac = JSON.parse(ip('-n', instance, '-j', 'link', 'show', host))[0].address;
  ip('-n', name, 'route', 'add', '169.254.1.1/32', 'dev', 'eth0', 'scope', 'link');
  ip('-n', name, 'route', 'add', 'default', 'via', '169.254.1.1');
  ip('-n', name, 'neigh', 'add', '169.254.1.1', 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
  ip('-n', instance, 'route', 'add', `${address}/32`, 'dev', host, 'scope', 'link');
  return { netnsPath: `/run/netns/${name}`, ip: address };
}

async function byHand(
  status: { ec2Endpoint: string; instances: { name: string; netns: string; instanceId: string }[] },
  env: NodeJS.ProcessEnv,
): Promise<[End, End, End]> {
  const ec2 = new EC2Client({
    endpoint: status.ec2Endpoint,
    region: env['AWS_REGION']!,
    credentials: { accessKeyId: env['AWS_ACCESS_KEY_ID']!, secretAccessKey: env['AWS_SECRET_ACCESS_KEY']! },
  });
  const ends: End[] = [];
  for (const [name, count] of [
    ['bare-1', 2],
    ['bare-2', 1],
  ] as const) {
    const instance = status.instances.find((one) => one.name === name)!;
    const described = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instance.instanceId] }));
    const eni = described.Reservations![0]!.Instances![0]!.NetworkInterfaces![0]!.NetworkInterfaceId!;
    const assigned = await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eni, SecondaryPrivateIpAddressCount: count }),
    );
    const onHost = (...args: string[]) => run('nsenter', [`--net=/run/netns/${instance.netns}`, ...args]);
    onHost('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    onHost(
      'nft',
      'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname eth0 ip daddr != 10.0.0.0/16 masquerade',
    );
    for (const address of assigned.AssignedPrivateIpAddresses!)
      ends.push(sandboxByHand(instance.netns, `${PREFIX}${ends.length}`, address.PrivateIpAddress!));
  }
  ec2.destroy();
  return ends as [End, End, End];
}

function bareVeth(): [End, End] {
  const [a, b] = [`${PREFIX}va`, `${PREFIX}vb`];
  ip('netns', 'add', a);
  ip('netns', 'add', b);
  veth(a, 'eth0', b);
  for (const [name, address] of [
    [a, '10.200.0.1'],
    [b, '10.200.0.2'],
  ] as const) {
    ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
  }
  return [
    { netnsPath: `/run/netns/${a}`, ip: '10.200.0.1' },
    { netnsPath: `/run/netns/${b}`, ip: '10.200.0.2' },
  ];
}

/** What a benchmark of traffic has while its lab is up; `measure` answers the tool's line. */
export type Ground = {
  paths: Path[];
  nodes: string[];
  measure: (path: Path, kind: 'stream' | 'rr') => string;
};

/** Runs `work` in a lab with pods, the same by hand, and a bare veth. */
export async function onGround<T>(work: (ground: Ground) => Promise<T>): Promise<T> {
  const { dir, remove } = scratch();
  const tool = join(dir, 'traffic');
  const servers: ChildProcess[] = [];
  try {
    run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', tool, join(root, 'bench/traffic.c')]);
    const file = join(dir, 'lab.yaml');
    writeFileSync(file, shape);
    podway('lab', 'up', '--lab', LAB, '-f', file, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const env = Object.fromEntries(
      [...podway('lab', 'env', '--lab', LAB).matchAll(/^export (\w+)='(.*)'$/gm)].map((m) => [m[1]!, m[2]!]),
    );
    const pod = (name: string, node: string): End => {
      const made = JSON.parse(
        podway('pod', 'run', name, '--node', node, '--lab', LAB, '-o', 'json', '--quiet'),
      );
      return { netnsPath: made.netnsPath, ip: made.ips[0] };
    };
    const [a1, a2, b1] = [pod('a1', 'node-1'), pod('a2', 'node-1'), pod('b1', 'node-2')];
    const [h1, h2, h3] = await byHand(status, env);
    const [v1, v2] = bareVeth();
    const own = (name: string): End => {
      const netns = [...status.nodes, ...status.instances].find(
        (one) => one.name === name && one.netns,
      )!.netns;
      const [{ addr_info }] = JSON.parse(ip('-n', netns, '-4', '-j', 'addr', 'show', 'dev', 'eth0'));
      return { netnsPath: `/run/netns/${netns}`, ip: addr_info[0].local };
    };
    const paths: Path[] = [
      { name: 'same node', who: 'podway', from: a1, to: a2 },
      { name: 'same node', who: 'by hand', from: h1, to: h2 },
      { name: 'same node', who: 'bare veth', from: v1, to: v2 },
      { name: 'two nodes', who: 'podway', from: a1, to: b1 },
      { name: 'two nodes', who: 'by hand', from: h1, to: h3 },
      { name: 'nodes themselves', who: 'podway', from: own('node-1'), to: own('node-2') },
      { name: 'nodes themselves', who: 'by hand', from: own('bare-1'), to: own('bare-2') },
    ];
    for (const path of paths) {
      if (paths.findIndex((other) => other.to === path.to) !== paths.indexOf(path)) continue;
      servers.push(
        spawn('taskset', [...inside(SERVER_CPU, path.to), tool, 'serve', String(PORT)], { stdio: 'ignore' }),
      );
    }
    const measure = (path: Path, kind: 'stream' | 'rr'): string => {
      const deadline = performance.now() + 5_000;
      for (;;) {
        try {
          const args = [kind, path.to.ip, String(PORT), SECONDS];
          return run('taskset', [...inside(CLIENT_CPU, path.from), tool, ...args]);
        } catch (error) {
          // Its server may not be listening yet.
          if (performance.now() > deadline) throw error;
        }
      }
    };
    const nodes = ['node-1', 'node-2'].map((name) => own(name).netnsPath);
    return await work({ paths, nodes, measure });
  } finally {
    for (const server of servers) server.kill('SIGKILL');
    podway('lab', 'down', '--lab', LAB, '--quiet');
    for (const name of ['0', '1', '2', 'va', 'vb'])
      if (existsSync(`/run/netns/${PREFIX}${name}`)) ip('netns', 'del', `${PREFIX}${name}`);
    remove();
  }
}

export const bench = (): Promise<BenchResult[]> => onGround(compare);

async function compare({ paths, measure }: Ground): Promise<BenchResult[]> {
  const rounds = (which: Path[]): Map<Path, Sample> => {
    const samples = new Map(
      which.map((path): [Path, Sample] => [path, { bits: [], perSecond: [], p50: [], p99: [] }]),
    );
    for (let i = 0; i < ROUNDS; i++) {
      for (const path of i % 2 === 0 ? which : [...which].reverse()) {
        const into = samples.get(path)!;
        into.bits.push(Number(measure(path, 'stream')));
        const [perSecond = 0, p50 = 0, , p99 = 0] = measure(path, 'rr').trim().split(' ').map(Number);
        into.perSecond.push(perSecond);
        into.p50.push(p50 / 1000);
        into.p99.push(p99 / 1000);
      }
    }
    return samples;
  };
  const median = (values: number[]) => summarise(values).p50;
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  const show = (label: string, samples: Map<Path, Sample>) => {
    const base = (path: Path) =>
      [...samples].find(([other]) => other.name === path.name && other.who === 'by hand')![1];
    for (const [path, sample] of samples) {
      const gbit = median(sample.bits) / 1e9;
      const rate = median(sample.perSecond);
      const to = base(path);
      const ratios = {
        stream: median(sample.bits.map((bits, i) => bits / to.bits[i]!)),
        rr: median(sample.perSecond.map((count, i) => count / to.perSecond[i]!)),
      };
      rows.push([
        label,
        path.name,
        path.who,
        round(gbit),
        round(ratios.stream),
        Math.round(rate),
        round(ratios.rr),
        round(median(sample.p50), 1),
        round(median(sample.p99), 1),
      ]);
      numbers[`${label}, ${path.name}, ${path.who}`] = {
        gbitPerSecond: gbit,
        requestsPerSecond: rate,
        p50us: median(sample.p50),
        p99us: median(sample.p99),
        ratioToByHand: ratios,
      };
    }
  };
  show('few', rounds(paths));
  for (let i = 2; i < MANY; i++)
    podway('pod', 'run', `more-${i}`, '--node', 'node-1', '--lab', LAB, '--no-wait', '--quiet');
  const deadline = performance.now() + 120_000;
  for (;;) {
    const pods = JSON.parse(podway('pod', 'list', '--lab', LAB, '-o', 'json')) as {
      node: string;
      phase: string;
    }[];
    if (pods.filter((one) => one.node === 'node-1' && one.phase === 'Running').length >= MANY) break;
    if (performance.now() > deadline) throw new Error(`${MANY} pods do not run on node-1 after 120 s`);
  }
  show(`${MANY}`, rounds(paths.filter((path) => path.who !== 'bare veth')));
  return [
    {
      title: `traffic: TCP stream and one-byte request/response, client and server on a CPU each, medians of ${ROUNDS} interleaved rounds of ${SECONDS} s; ratios to the same made by hand`,
      head: ['pods on the node', 'path', 'who', 'Gbit/s', 'ratio', 'requests/s', 'ratio', 'p50 µs', 'p99 µs'],
      rows,
      numbers,
    },
  ];
}
