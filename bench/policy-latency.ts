// What judging costs a connection: TCP request and answer on one connection, and new connections one after the other, through
// a router with 0 to 1,000 policies and 10 to 10,000 peers. Peers in the same run, taken in turns: the bare path without
// connection tracking, the same with it (Podway without policy), and the same policies as linear rules, one for each
// peer, as iptables-nft holds them. The client is the last peer of the last policy.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatIp, parseIp } from '../src/base/ip.ts';
import { openNetns } from '../src/kernel/netns.ts';
import { Nft } from '../src/kernel/nftables.ts';
import { bring } from '../src/policy/bring.ts';
import { compile } from '../src/policy/compile.ts';
import { decodeNetworkPolicy } from '../src/policy/decode.ts';
import { PolicyKernel } from '../src/policy/kernel.ts';
import type { PodView, Policy } from '../src/policy/model.ts';
import { Numbers } from '../src/policy/numbers.ts';
import { Renderer } from '../src/policy/render.ts';
import { root, run } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const SHAPES = [
  { policies: 10, peers: 10 },
  { policies: 10, peers: 1_000 },
  { policies: 100, peers: 1_000 },
  { policies: 100, peers: 10_000 },
  { policies: 1_000, peers: 10_000 },
];
const ROUNDS = 5;
const SLICE_MS = Number(process.env['PODWAY_SLICE_MS'] ?? 400);
const PORT = 5_201;
const CLIENT = '10.0.255.2';
const SERVER = '10.1.0.2';

const podAt = (name: string, ip: string, labels: Record<string, string>): PodView => ({
  ...{ namespace: 'x', name, uid: name, labels, node: 'here', ports: [] },
  ...{ hostNetwork: false, ended: false, ips: [parseIp(ip)] },
});

/** Peers in turn belong to the policies; the last one is the client. */
function worldOf({ policies, peers }: { policies: number; peers: number }): {
  policies: Policy[];
  pods: PodView[];
} {
  const pods = Array.from({ length: peers }, (_, at) =>
    podAt(`peer${at}`, at === peers - 1 ? CLIENT : formatIp(((10 << 24) + 256 + at) as never), {
      peer: `${at % policies}`,
    }),
  );
  return {
    pods: [podAt('server', SERVER, { app: 'server' }), ...pods],
    policies: Array.from(
      { length: policies },
      (_, at) =>
        decodeNetworkPolicy({
          metadata: { namespace: 'x', name: `p${at}` },
          spec: {
            podSelector: { matchLabels: { app: 'server' } },
            policyTypes: ['Ingress'],
            ingress: [
              { from: [{ podSelector: { matchLabels: { peer: `${at}` } } }], ports: [{ port: PORT }] },
            ],
          },
        }).policy!,
    ),
  };
}

const linearText = (pods: readonly PodView[]): string => `table ip linear {
  chain to-server {
${pods
  .filter(({ name }) => name !== 'server')
  .map(({ ips }) => `    ip saddr ${formatIp(ips[0]!)} tcp dport ${PORT} counter accept`)
  .join('\n')}
    counter drop
  }
  chain forward {
    type filter hook forward priority 0;
    ct state established,related accept
    ip daddr ${SERVER} jump to-server
  }
}
`;
const TRACKED =
  'table ip tracked { chain c { type filter hook prerouting priority -150; ct state established accept; }; }\n';

/** Client, router, server, and what stands between. */
class Path implements Disposable {
  readonly router: string;
  readonly #names: string[];
  readonly #server: ChildProcess;
  readonly #tool: string;

  constructor(tool: string, id: string) {
    this.#tool = tool;
    const name = (end: string) => `pwb-${process.pid}-${id}-${end}`;
    const [client, router, server] = [name('c'), name('r'), name('s')];
    this.#names = [client, router, server];
    this.router = router;
    const ip = (line: string) => run('ip', line.split(' '));
    for (const each of this.#names) ip(`netns add ${each}`);
    for (const [side, far, own, other] of [
      ['c', client, '10.0.255.1', CLIENT],
      ['s', server, '10.1.0.1', SERVER],
    ] as const) {
      ip(`link add ${side}0 netns ${router} type veth peer name eth0 netns ${far}`);
      ip(`-n ${router} addr add ${own}/24 dev ${side}0`);
      ip(`-n ${router} link set ${side}0 up`);
      ip(`-n ${far} addr add ${other}/24 dev eth0`);
      ip(`-n ${far} link set eth0 up`);
      ip(`-n ${far} route add default via ${own}`);
    }
    run('ip', ['netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    this.#server = spawn('ip', ['netns', 'exec', server, tool, 'serve', `${PORT}`], { stdio: 'ignore' });
  }

  nft(script: string): void {
    execFileSync('ip', ['netns', 'exec', this.router, 'nft', '-f', '-'], { input: script });
  }

  /** ns at the median. */
  measure(kind: 'rr' | 'new', ms = SLICE_MS): number {
    const told = run('ip', ['netns', 'exec', this.#names[0]!, this.#tool, kind, SERVER, `${PORT}`, `${ms}`]);
    return Number(told.split(' ')[1]);
  }

  [Symbol.dispose](): void {
    this.#server.kill('SIGKILL');
    for (const name of this.#names) run('ip', ['netns', 'del', name]);
  }
}

async function measureShape(tool: string, shape: (typeof SHAPES)[number]) {
  const world = worldOf(shape);
  using bare = new Path(tool, 'bare');
  using tracked = new Path(tool, 'none');
  using podway = new Path(tool, 'podway');
  using linear = new Path(tool, 'linear');
  tracked.nft(TRACKED);
  const text = linearText(world.pods);
  using linearNs = openNetns(`/run/netns/${linear.router}`);
  await using nft = Nft.open(linearNs);
  await nft.run(text);
  using ns = openNetns(`/run/netns/${podway.router}`);
  const kernel = new PolicyKernel(ns);
  try {
    const program = compile({ node: 'here', ...world, namespaces: new Map([['x', {}]]), held: new Map() });
    await bring(kernel, new Renderer(new Numbers()).render(program));
    const sides = { bare, 'no policy': tracked, podway, linear };
    const found = Object.fromEntries(
      Object.keys(sides).map((name) => [name, { rr: [] as number[], new: [] as number[] }]),
    );
    for (const path of Object.values(sides)) path.measure('new', 100);
    for (let time = 0; time < ROUNDS; time++)
      for (const kind of ['rr', 'new'] as const)
        for (const [name, path] of Object.entries(sides)) found[name]![kind].push(path.measure(kind) / 1_000);
    return found;
  } finally {
    await kernel.close();
  }
}

export async function bench(): Promise<BenchResult[]> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-latency-'));
  const tool = join(dir, 'policy-latency');
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  try {
    run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', tool, join(root, 'bench/policy-latency.c')]);
    for (const shape of SHAPES) {
      const found = await measureShape(tool, shape);
      const title = `${shape.policies} policies, ${shape.peers} peers`;
      numbers[title] = found;
      for (const [kind, what] of [
        ['rr', 'request and answer'],
        ['new', 'new connection'],
      ] as const) {
        const of = (name: string) => summarise(found[name]![kind]).p50;
        rows.push([
          ...[title, what],
          ...['bare', 'no policy', 'podway', 'linear'].map((name) => round(of(name), 1)),
          ...[round(of('podway') / of('no policy')), round(of('linear') / of('no policy'))],
        ]);
      }
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
  return [
    {
      title: `us at the median of ${ROUNDS} slices of ${SLICE_MS} ms through one router`,
      head: [
        'in force',
        'what',
        'bare path',
        'no policy',
        'Podway',
        'linear rules',
        'Podway / none',
        'linear / none',
      ],
      rows,
      numbers,
    },
  ];
}
