// branch-traffic: one TCP stream, and TCP request and response, between pods of two nodes, through branches against
// plain pods (both ways round: branch to branch, plain to plain), with few and with 100 branches on the client's node;
// then, with 120 branches beside 15 ENIs (m5.metal), what the rules of the branches cost a packet of a plain pod and of
// a branch. All in one lab, in interleaved rounds; client and server have a CPU each, at real-time priority, as in
// traffic.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pods } from '../src/kube/index.ts';
import type { IpamNode, PodView } from '../src/lab/daemon/protocol.ts';
import { BranchLab, branchShape } from './branch-world.ts';
import { podway, root, run, scratch } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';
import { CLIENT_CPU, type End, inside, SERVER_CPU } from './traffic.ts';

const LAB = 'bench-branch-t';
const PORT = 7777;
const ROUNDS = Number(process.env['PODWAY_BENCH_ROUNDS'] ?? 15);
const SECONDS = process.env['PODWAY_BENCH_SECONDS'] ?? '0.4';
const MANY = [1, 100, 120];
/** Of an m5.metal, its trunk among them. */
const ENIS = 15;
const ENIS_MS = 120_000;
/** Free addresses: so many that an m5.metal needs all of its ENIs. */
const WARM = 640;
const CLIENT_NODE = 'node-1';
const SERVER_NODE = 'node-2';

type Path = { who: 'branch' | 'plain'; from: End; to: End };
type Sample = { bits: number[]; perSecond: number[]; p50: number[] };

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  const tool = join(dir, 'traffic');
  const servers: ChildProcess[] = [];
  let lab: BranchLab | undefined;
  try {
    run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', tool, join(root, 'bench/traffic.c')]);
    const file = join(dir, 'lab.yaml');
    const instances = [
      `{ name: ${CLIENT_NODE}, type: m5.metal, subnet: a, securityGroups: [nodes] }`,
      `{ name: ${SERVER_NODE}, type: m5.metal, subnet: b, securityGroups: [nodes] }`,
    ];
    writeFileSync(file, branchShape(instances, `{ warm: ${WARM}, repair: report }`));
    podway('lab', 'up', '--lab', LAB, '-f', file, '--quiet');
    lab = await BranchLab.open(LAB);
    const made = [
      ['bc', 'branch', CLIENT_NODE],
      ['pc', 'plain', CLIENT_NODE],
      ['bs', 'branch', SERVER_NODE],
      ['ps', 'plain', SERVER_NODE],
    ] as const;
    for (const [name, app, node] of made) await lab.make(name, app, node);
    await lab.running(made.map(([name]) => name));
    await enisAttached();
    const ends = endsOf();
    const paths: Path[] = [
      { who: 'branch', from: ends('bc'), to: ends('bs') },
      { who: 'plain', from: ends('pc'), to: ends('ps') },
    ];
    for (const { to } of paths)
      servers.push(
        spawn('taskset', [...inside(SERVER_CPU, to), tool, 'serve', String(PORT)], { stdio: 'ignore' }),
      );
    return [await compare(lab, paths, tool)];
  } finally {
    for (const server of servers) server.kill('SIGKILL');
    lab?.close();
    podway('lab', 'down', '--lab', LAB, '--quiet');
    remove();
  }
}

const enisOf = (): number => {
  const [node] = JSON.parse(
    podway('ipam', 'show', '--node', CLIENT_NODE, '--lab', LAB, '-o', 'json'),
  ) as IpamNode[];
  return node!.enis.length;
};

async function enisAttached(): Promise<void> {
  const end = performance.now() + ENIS_MS;
  while (enisOf() < ENIS)
    if (performance.now() > end) throw new Error(`${CLIENT_NODE} has ${enisOf()} of ${ENIS} ENIs`);
    else await sleep(1_000);
}

function endsOf(): (name: string) => End {
  const views = JSON.parse(podway('pod', 'list', '--lab', LAB, '-o', 'json')) as PodView[];
  return (name) => {
    const { netnsPath, ips } = views.find((one) => one.name === name)!;
    return { netnsPath, ip: ips[0]! };
  };
}

async function compare(lab: BranchLab, paths: readonly Path[], tool: string): Promise<BenchResult> {
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  let branches = 1;
  for (const many of MANY) {
    const names = Array.from({ length: many - branches }, (_, at) => `more-${branches + at}`);
    // The branches that matter are the client's node's; ten at a time, as a kubelet starts them.
    for (let at = 0; at < names.length; at += 10) {
      const some = names.slice(at, at + 10);
      await Promise.all(some.map((name) => lab.make(name, 'branch', CLIENT_NODE)));
      await lab.running(some);
    }
    branches = many;
    const samples = rounds(paths, tool);
    const [branch, plain] = ['branch', 'plain'].map((who) => samples.get(who as Path['who'])!) as [
      Sample,
      Sample,
    ];
    for (const [who, sample] of [
      ['branch', branch],
      ['plain', plain],
    ] as const) {
      const ratio = (pick: (one: Sample) => number[]) =>
        median(pick(sample).map((value, at) => value / pick(plain)[at]!));
      const longer = median(sample.perSecond.map((rate, at) => 1e9 / rate - 1e9 / plain.perSecond[at]!));
      const row = {
        gbit: median(sample.bits) / 1e9,
        stream: ratio(({ bits }) => bits),
        rate: median(sample.perSecond),
        rr: ratio(({ perSecond }) => perSecond),
        p50: median(sample.p50),
        // A request and its answer are a packet each.
        moreNs: longer / 2,
      };
      numbers[`${many} ${who}`] = row;
      rows.push([
        many,
        who,
        ...[round(row.gbit), round(row.stream, 3), Math.round(row.rate), round(row.rr, 3), round(row.p50, 1)],
        Math.round(row.moreNs),
      ]);
    }
  }
  // Before the lab goes, so that its end is not a hundred pods long.
  const { items } = await lab.api.list(pods, { namespace: 'default' });
  for (const { metadata } of items)
    await lab.api.delete(pods, metadata.name!, 'default', { gracePeriodSeconds: 0 });
  return {
    title: `branch-traffic: pods of two nodes (m5.metal, ${ENIS} ENIs), TCP stream and one-byte request/response, client and server on a CPU each, medians of ${ROUNDS} interleaved rounds of ${SECONDS} s; ratios to plain pods of the same rounds, the goal is 0.97; ns: what a packet took longer than one of plain pods`,
    head: [
      ...['branches on the node', 'pods', 'Gbit/s', 'ratio', 'requests/s', 'ratio', 'p50, µs'],
      'ns longer a packet',
    ],
    rows,
    numbers,
  };
}

const median = (values: number[]) => summarise(values).p50;

function rounds(paths: readonly Path[], tool: string): Map<Path['who'], Sample> {
  const samples = new Map(
    paths.map(({ who }): [Path['who'], Sample] => [who, { bits: [], perSecond: [], p50: [] }]),
  );
  for (let i = 0; i < ROUNDS; i++)
    for (const path of i % 2 === 0 ? paths : [...paths].reverse()) {
      const into = samples.get(path.who)!;
      into.bits.push(Number(ask(tool, path, 'stream')));
      const [perSecond = 0, p50 = 0] = ask(tool, path, 'rr').trim().split(' ').map(Number);
      into.perSecond.push(perSecond);
      into.p50.push(p50 / 1000);
    }
  return samples;
}

function ask(tool: string, { from, to }: Path, kind: 'stream' | 'rr'): string {
  const deadline = performance.now() + 5_000;
  for (;;) {
    try {
      return run('taskset', [...inside(CLIENT_CPU, from), tool, kind, to.ip, String(PORT), SECONDS]);
    } catch (error) {
      // Its server may not be listening yet.
      if (performance.now() > deadline) throw error;
    }
  }
}
