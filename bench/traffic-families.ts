// traffic-families: what `traffic` measures, by the family of the addresses: pods of IPv4, of IPv6 and of both (each of their
// two), against IPv4 and IPv6 made by hand on bare instances. One lab for each setting of `families`, all up at once, rounds
// interleaved. By hand: veths, host routes, connection tracking; masquerade of IPv4 alone, as pods' IPv6 is not translated.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  AssignIpv6AddressesCommand,
  AssignPrivateIpAddressesCommand,
  DescribeInstancesCommand,
  EC2Client,
} from '@aws-sdk/client-ec2';
import { podway, root, run, scratch, twoSubnets } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';
import { CLIENT_CPU, type End, inside, ip, SERVER_CPU, sandboxByHand } from './traffic.ts';

const FAMILIES = ['ipv4', 'dual', 'ipv6'] as const;
type Families = (typeof FAMILIES)[number];
const PORT = 7777;
const ROUNDS = Number(process.env['PODWAY_BENCH_ROUNDS'] ?? 11);
const SECONDS = '0.5';
const PREFIX = 'podway-bench-f';
const labOf = (families: Families): string => `bench-${families}`;

type Family = 4 | 6;
type Place = { name: string; netnsPath: string; ips: Record<Family, string> };
type Path = { name: string; who: string; family: Family; from: End; to: End };

const shape = (families: Families): string =>
  twoSubnets(
    '{ name: node-1, type: m5.4xlarge, subnet: a, securityGroups: [nodes] }',
    '{ name: node-2, type: m5.4xlarge, subnet: b, securityGroups: [nodes] }',
    // What is made by hand has both families, in the lab that has both.
    ...(families === 'dual'
      ? [
          '{ name: bare-1, type: m5.large, subnet: a, agent: none, securityGroups: [nodes] }',
          '{ name: bare-2, type: m5.large, subnet: b, agent: none, securityGroups: [nodes] }',
        ]
      : []),
  ).concat(`settings: { cooldown: 0s, warm: 5, repair: report, families: ${families} }\n`);

const byFamily = (ips: string[]): Record<Family, string> => ({
  4: ips.find((one) => !one.includes(':')) ?? '',
  6: ips.find((one) => one.includes(':')) ?? '',
});
const end = (place: Place, family: Family): End => ({ netnsPath: place.netnsPath, ip: place.ips[family] });

function pod(families: Families, name: string, node: string): Place {
  const made = JSON.parse(
    podway('pod', 'run', name, '--node', node, '--lab', labOf(families), '-o', 'json', '--quiet'),
  );
  return { name, netnsPath: made.netnsPath, ips: byFamily(made.ips) };
}

/** IPv6 for a sandbox by hand: a /128, the host's end as its router, and the host's route to it. */
function addIpv6(instance: string, name: string, address: string): void {
  const host = `h${name.slice(-8)}`;
  const enable = (namespace: string, link: string) =>
    run('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv6.conf.${link}.disable_ipv6=0`]);
  enable(instance, host);
  enable(name, 'eth0');
  ip('-n', instance, '-6', 'addr', 'add', 'fe80::1/64', 'dev', host, 'nodad');
  ip('-n', name, '-6', 'addr', 'add', `${address}/128`, 'dev', 'eth0', 'nodad');
  const mac = JSON.parse(ip('-n', instance, '-j', 'link', 'show', host))[0].address;
  ip('-n', name, '-6', 'neigh', 'add', 'fe80::1', 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
  ip('-n', name, '-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0');
  ip('-n', instance, '-6', 'route', 'add', `${address}/128`, 'dev', host);
}

/** Two sandboxes on bare-1 and one on bare-2. */
async function byHand(): Promise<Place[]> {
  const status = JSON.parse(podway('lab', 'status', '--lab', labOf('dual'), '-o', 'json'));
  const env = Object.fromEntries(
    [...podway('lab', 'env', '--lab', labOf('dual')).matchAll(/^export (\w+)='(.*)'$/gm)].map((m) => [
      m[1]!,
      m[2]!,
    ]),
  );
  const ec2 = new EC2Client({
    endpoint: status.ec2Endpoint,
    region: env['AWS_REGION']!,
    credentials: { accessKeyId: env['AWS_ACCESS_KEY_ID']!, secretAccessKey: env['AWS_SECRET_ACCESS_KEY']! },
  });
  const places: Place[] = [];
  for (const [name, count] of [
    ['bare-1', 2],
    ['bare-2', 1],
  ] as const) {
    const instance = status.instances.find((one: { name: string }) => one.name === name)!;
    const described = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instance.instanceId] }));
    const NetworkInterfaceId =
      described.Reservations![0]!.Instances![0]!.NetworkInterfaces![0]!.NetworkInterfaceId!;
    const four = await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId, SecondaryPrivateIpAddressCount: count }),
    );
    const six = await ec2.send(
      new AssignIpv6AddressesCommand({ NetworkInterfaceId, Ipv6AddressCount: count }),
    );
    const onHost = (...args: string[]) => run('nsenter', [`--net=/run/netns/${instance.netns}`, ...args]);
    onHost('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    onHost(
      'nft',
      'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname eth0 ip daddr != 10.0.0.0/16 masquerade; add table ip6 track; add chain ip6 track forward { type filter hook forward priority 0; }; add rule ip6 track forward ct state invalid drop',
    );
    for (let i = 0; i < count; i++) {
      const ips = byFamily([
        four.AssignedPrivateIpAddresses![i]!.PrivateIpAddress!,
        six.AssignedIpv6Addresses![i]!,
      ]);
      const sandbox = `${PREFIX}${places.length}`;
      const { netnsPath } = sandboxByHand(instance.netns, sandbox, ips[4]);
      addIpv6(instance.netns, sandbox, ips[6]);
      places.push({ name: sandbox, netnsPath, ips });
    }
  }
  ec2.destroy();
  return places;
}

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  const tool = join(dir, 'traffic');
  const servers: ChildProcess[] = [];
  try {
    run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', tool, join(root, 'bench/traffic.c')]);
    for (const families of FAMILIES) {
      const file = join(dir, `${families}.yaml`);
      writeFileSync(file, shape(families));
      podway('lab', 'up', '--lab', labOf(families), '-f', file, '--quiet');
    }
    const sets = [
      ...FAMILIES.map((families) => ({
        who: `podway, ${families}`,
        places: [pod(families, 'a1', 'node-1'), pod(families, 'a2', 'node-1'), pod(families, 'b1', 'node-2')],
      })),
      { who: 'by hand', places: await byHand() },
    ];
    const paths: Path[] = sets.flatMap(({ who, places: [a1, a2, b1] }) =>
      ([4, 6] as const)
        .filter((family) => a1!.ips[family] !== '')
        .flatMap((family) => [
          { name: 'same node', who, family, from: end(a1!, family), to: end(a2!, family) },
          { name: 'two nodes', who, family, from: end(a1!, family), to: end(b1!, family) },
        ]),
    );
    for (const { to, family } of paths)
      servers.push(
        spawn('taskset', [...inside(SERVER_CPU, to), tool, family === 4 ? 'serve' : 'serve6', String(PORT)], {
          stdio: 'ignore',
        }),
      );
    const measure = (path: Path, kind: 'stream' | 'rr'): string => {
      const deadline = performance.now() + 5_000;
      for (;;) {
        try {
          return run('taskset', [
            ...inside(CLIENT_CPU, path.from),
            ...[tool, kind, path.to.ip, String(PORT), SECONDS],
          ]);
        } catch (error) {
          // Its server may not be listening yet.
          if (performance.now() > deadline) throw error;
        }
      }
    };
    return [compare(paths, measure)];
  } finally {
    for (const server of servers) server.kill('SIGKILL');
    for (const families of FAMILIES) podway('lab', 'down', '--lab', labOf(families), '--quiet');
    for (const i of [0, 1, 2])
      if (existsSync(`/run/netns/${PREFIX}${i}`)) ip('netns', 'del', `${PREFIX}${i}`);
    remove();
  }
}

type Sample = { bits: number[]; perSecond: number[]; p50: number[]; p99: number[] };

function compare(paths: Path[], measure: (path: Path, kind: 'stream' | 'rr') => string): BenchResult {
  const samples = new Map(
    paths.map((path): [Path, Sample] => [path, { bits: [], perSecond: [], p50: [], p99: [] }]),
  );
  for (let i = 0; i < ROUNDS; i++)
    for (const path of i % 2 === 0 ? paths : [...paths].reverse()) {
      const into = samples.get(path)!;
      into.bits.push(Number(measure(path, 'stream')));
      const [perSecond = 0, p50 = 0, , p99 = 0] = measure(path, 'rr').trim().split(' ').map(Number);
      into.perSecond.push(perSecond);
      into.p50.push(p50 / 1000);
      into.p99.push(p99 / 1000);
    }
  const median = (values: number[]) => summarise(values).p50;
  const numbers: Record<string, unknown> = {};
  const ordered = [...samples].sort(
    ([a], [b]) => a.name.localeCompare(b.name) || a.family - b.family || a.who.localeCompare(b.who) * -1,
  );
  const rows = ordered.map(([path, sample]) => {
    const isPeer = (other: Path) =>
      other.name === path.name && other.family === path.family && other.who === 'by hand';
    const to = [...samples].find(([other]) => isPeer(other))![1];
    const stream = median(sample.bits.map((bits, i) => bits / to.bits[i]!));
    const rr = median(sample.perSecond.map((count, i) => count / to.perSecond[i]!));
    const figures = {
      gbitPerSecond: median(sample.bits) / 1e9,
      requestsPerSecond: median(sample.perSecond),
      p50us: median(sample.p50),
      p99us: median(sample.p99),
      ratioToByHand: { stream, rr },
    };
    numbers[`${path.name}, IPv${path.family}, ${path.who}`] = figures;
    return [
      path.name,
      `IPv${path.family}`,
      path.who,
      round(figures.gbitPerSecond),
      round(stream),
      Math.round(figures.requestsPerSecond),
      round(rr),
      round(figures.p50us, 1),
      round(figures.p99us, 1),
    ];
  });
  return {
    title: `traffic-families: TCP stream and one-byte request/response by family, medians of ${ROUNDS} interleaved rounds of ${SECONDS} s; ratios to the same family made by hand`,
    head: ['path', 'family', 'who', 'Gbit/s', 'ratio', 'requests/s', 'ratio', 'p50 µs', 'p99 µs'],
    rows,
    numbers,
  };
}
