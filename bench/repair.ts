// repair: how long a pod has no network after somebody else changed its node, and what a stream of it loses. A node with
// many pods in a lab; the pod that is looked at has its address on a secondary ENI and asks an instance of the VPC, which
// answers each packet. Two streams at once: a packet each millisecond finds the moment, 100 a second are the user's.
// The time runs from the command's return to the first packet after which none is lost; what the kernel itself needs to
// find its neighbours again is in it. Kinds are interleaved, so that no object is put back three times in ten seconds.
// PODWAY_BENCH_PODS, PODWAY_BENCH_ROUNDS and PODWAY_BENCH_KIND (a part of a kind's name) make a shorter run.
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { podway, root, run, runAsync, scratch } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const LAB = 'bench-repair';
const PODS = Number(process.env['PODWAY_BENCH_PODS'] ?? 200);
const ROUNDS = Number(process.env['PODWAY_BENCH_ROUNDS'] ?? 20);
const FOREIGN_CHAINS = 10_000;
const PORT = 7778;
const FINE_US = 1_000;
const STREAM_US = 10_000;
/** Packets without a loss after which the path counts as whole again (ms of the fine stream). */
const WHOLE_MS = 300;
const BOUND_MS = 60_000;
/** Two repairs of one object lie this far apart: the third within 10 s would back off. */
const APART_MS = 5_200;
const STARTS_AT_ONCE = 4;
const POD_TIMEOUT_MS = 180_000;

const shape = `
vpcs:
  - name: vpc
    cidrs: [10.0.0.0/16]
    subnets: [{ name: a, cidr: 10.0.0.0/19, zone: us-west-2a }]
    securityGroups:
      - name: nodes
        ingress: [{ from: nodes }]
instances:
  - { name: node-1, type: m5.4xlarge, subnet: a, securityGroups: [nodes] }
  - { name: peer, type: m5.large, subnet: a, agent: none, securityGroups: [nodes] }
settings: { cooldown: 0s, warm: 5 }
`;

type Answer = { sent: number; came: number; number: number };

/** One stream of the pod; what was answered since the last `forget`. Times are ms of CLOCK_MONOTONIC. */
class Stream {
  readonly #child: ChildProcess;
  answers: Answer[] = [];

  constructor(tool: string, netnsPath: string, to: string, microseconds: number) {
    this.#child = spawn(
      'nsenter',
      [`--net=${netnsPath}`, tool, 'send', to, String(PORT), String(microseconds)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    createInterface(this.#child.stdout!).on('line', (line) => {
      const [sent = 0, came = 0, number = 0] = line.split(' ').map(Number);
      this.answers.push({ sent: sent / 1e6, came: came / 1e6, number });
    });
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

type Kind = { name: string; touches: string[]; command(node: Target): string[] };
type Target = { link: string; ip: string; eni: string };

const nft = (script: string) => ['nft', script];
const allKinds: Kind[] = [
  { name: 'ip rule flush', touches: ['rules'], command: () => ['ip', 'rule', 'flush'] },
  {
    name: "the pods' routes flushed",
    touches: ['routes'],
    command: () => ['ip', 'route', 'flush', 'table', '20480'],
  },
  {
    name: 'nft delete table inet podway',
    touches: ['table', 'elements'],
    command: () => nft('delete table inet podway'),
  },
  { name: 'nft flush ruleset', touches: ['table', 'elements'], command: () => nft('flush ruleset') },
  {
    name: "the pod's element deleted",
    touches: ['elements'],
    command: ({ link, ip }) => nft(`delete element inet podway pods4 { "${link}" . ${ip} }`),
  },
  {
    name: "the pod's host link set down",
    touches: ['routes', 'link'],
    command: ({ link }) => ['ip', 'link', 'set', link, 'down'],
  },
  {
    name: "the pod's ENI set down",
    touches: ['eni'],
    command: ({ eni }) => ['ip', 'link', 'set', eni, 'down'],
  },
  {
    name: 'net.ipv4.ip_forward=0',
    touches: ['forwarding'],
    command: () => ['sysctl', '-q', '-w', 'net.ipv4.ip_forward=0'],
  },
];

const kinds = allKinds.filter((kind) => kind.name.includes(process.env['PODWAY_BENCH_KIND'] ?? ''));

const foreignRules = (): string =>
  [
    'table ip foreign {',
    ...Array.from({ length: FOREIGN_CHAINS }, (_, i) => `  chain c${i} { ip daddr 192.0.2.1 accept; }`),
    '}',
    '',
  ].join('\n');

async function until(what: string, holds: () => boolean, boundMs: number): Promise<void> {
  for (const end = performance.now() + boundMs; !holds(); await sleep(10)) {
    if (performance.now() > end) throw new Error(`${what}: not within ${boundMs / 1000} s`);
  }
}

/** Numbers of a stream that were never answered, between two answered ones. */
function missing(answers: readonly Answer[]): number {
  const numbers = answers.map((answer) => answer.number);
  return Math.max(...numbers) - Math.min(...numbers) + 1 - numbers.length;
}

/** True when the last answers are without a gap for long enough. */
function isWhole(answers: readonly Answer[], since: number): boolean {
  const last = answers.slice(-WHOLE_MS);
  return last.length === WHOLE_MS && missing(last) === 0 && last[0]!.sent >= since;
}

/** When the path was whole again: the answer after the last gap, counted from the command's return (ms). */
function wholeAt(answers: readonly Answer[], returned: number): number {
  const sorted = [...answers].sort((a, b) => a.number - b.number);
  let at = sorted.find((answer) => answer.sent >= returned)!.came;
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i]!.number !== sorted[i - 1]!.number + 1) at = sorted[i]!.came;
  return Math.max(0, at - returned);
}

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  const tool = join(dir, 'repair');
  const children: ChildProcess[] = [];
  const streams: Stream[] = [];
  try {
    run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', tool, join(root, 'bench/repair.c')]);
    const file = join(dir, 'lab.yaml');
    writeFileSync(file, shape);
    podway('lab', 'up', '--lab', LAB, '-f', file, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const node = status.nodes.find((one: { name: string }) => one.name === 'node-1') as { netnsPath: string };
    const peer = status.instances.find((one: { name: string }) => one.name === 'peer') as {
      netnsPath: string;
      ips: string[];
    };
    const onNode = (command: string[], input?: string) =>
      run('nsenter', [`--net=${node.netnsPath}`, ...command], input === undefined ? {} : { input });
    const names = Array.from({ length: PODS }, (_, i) => `pod-${i}`);
    for (let i = 0; i < names.length; i += STARTS_AT_ONCE) {
      await Promise.all(
        names
          .slice(i, i + STARTS_AT_ONCE)
          .map((name) =>
            runAsync(join(root, 'bin/podway'), [
              ...['pod', 'run', name, '--node', 'node-1', '--lab', LAB, '--no-wait', '--quiet'],
            ]),
          ),
      );
    }
    type Pod = { name: string; phase: string; ips: string[]; netnsPath: string };
    const listed = (): Pod[] => JSON.parse(podway('pod', 'list', '--lab', LAB, '-o', 'json'));
    await until(
      `${PODS} pods run`,
      () => listed().filter((pod) => pod.phase === 'Running').length >= PODS,
      POD_TIMEOUT_MS,
    );
    const [shown] = JSON.parse(podway('ipam', 'show', '--lab', LAB, '-o', 'json')) as {
      enis: { ifname: string; deviceIndex: number; addresses: { ip: string; state: string }[] }[];
    }[];
    const eni = shown!.enis.find(
      (one) => one.deviceIndex > 0 && one.addresses.some((a) => a.state === 'held'),
    )!;
    const ip = eni.addresses.find((address) => address.state === 'held')!.ip;
    const pod = listed().find((one) => one.ips.includes(ip))!;
    const link = /dev (pw\w+)/.exec(onNode(['ip', 'route', 'show', 'table', '20480', `${ip}/32`]))![1]!;
    const target: Target = { link, ip, eni: eni.ifname };
    children.push(
      spawn('nsenter', [`--net=${peer.netnsPath}`, tool, 'echo', String(PORT)], { stdio: 'inherit' }),
    );
    const [fine, user] = [FINE_US, STREAM_US].map(
      (microseconds) => new Stream(tool, pod.netnsPath, peer.ips[0]!, microseconds),
    ) as [Stream, Stream];
    streams.push(fine, user);
    await until('the pod is answered', () => isWhole(fine.answers, 0), BOUND_MS);

    const lastTouch = new Map<string, number>();
    const measure = async (kind: Kind): Promise<{ ms: number; lost: number }> => {
      const free = Math.max(
        0,
        ...kind.touches.map((object) => (lastTouch.get(object) ?? -APART_MS) + APART_MS),
      );
      await sleep(Math.max(0, free - performance.now()));
      fine.answers = [];
      user.answers = [];
      await until('the pod is answered before', () => isWhole(fine.answers, 0), BOUND_MS);
      const returned = Number(onNode([tool, 'run', ...kind.command(target)]).trim()) / 1e6;
      await until(
        `${kind.name}: the pod has its network again`,
        () => isWhole(fine.answers, returned),
        BOUND_MS,
      );
      const wholeSince = fine.answers.at(-WHOLE_MS)!.sent;
      await until('the stream as well', () => (user.answers.at(-1)?.sent ?? 0) > wholeSince, BOUND_MS);
      for (const object of kind.touches) lastTouch.set(object, performance.now());
      return { ms: wholeAt(fine.answers, returned), lost: missing(user.answers) };
    };

    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const beside of ['alone', `${FOREIGN_CHAINS} foreign chains`]) {
      const samples = new Map(kinds.map((kind) => [kind, [] as { ms: number; lost: number }[]]));
      for (let i = 0; i < ROUNDS; i++) {
        for (const kind of kinds) {
          const hasForeign = () => onNode(['nft', 'list', 'tables']).includes('foreign');
          if (beside !== 'alone' && !hasForeign()) onNode(['nft', '-f', '-'], foreignRules());
          samples.get(kind)!.push(await measure(kind));
        }
      }
      for (const [kind, all] of samples) {
        const ms = summarise(all.map((sample) => sample.ms));
        const lost = summarise(all.map((sample) => sample.lost));
        rows.push([kind.name, beside, round(ms.p50, 1), round(ms.max, 1), lost.p50, lost.max]);
        numbers[`${kind.name}, ${beside}`] = { ms, lost };
      }
    }
    return [
      {
        title: `repair: ${PODS} pods on the node, ${ROUNDS} rounds; ms from the other's command returning to the pod's next passed packet, and packets lost by a stream of 100 a second`,
        head: ['what others do', 'beside', 'median ms', 'worst ms', 'lost, median', 'lost, worst'],
        rows,
        numbers,
      },
    ];
  } finally {
    for (const stream of streams) stream.stop();
    for (const child of children) child.kill('SIGKILL');
    podway('lab', 'down', '--lab', LAB, '--quiet');
    remove();
  }
}
