// The sides of a benchmark of attachments: a plugin, its config, the namespace it runs in; sandboxes; and their calls by the
// launcher, timed from spawn to exit. Every call of a batch must succeed.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, runAsync } from './run.ts';

/** Debian's containernetworking-plugins. */
const PEER_DIR = '/usr/lib/cni';
const HOST = 'podway-bench-host';
const LINKS_GONE_MS = 30_000;

/** `endedAt`: ms since 1970. */
export type Call = { id: string; exit: number; ms: number; endedAt: number };
export type Batch = { calls: Call[]; totalMs: number };
/**
 * `args`: CNI_ARGS of its calls, with `@` for the container's id. `leavesLinks`: its DEL leaves the pod's link to whoever
 * removes the namespace; here they go behind the batch, which is not counted.
 */
export type Side = {
  name: string;
  plugin: string;
  config: string;
  linksIn: string;
  netns?: string;
  args?: string;
  leavesLinks?: true;
};

const ms = (nanoseconds: string) => Number(nanoseconds) / 1e6;

function parseLaunch(text: string): Batch {
  const calls: Call[] = [];
  let totalMs = 0;
  for (const line of text.trim().split('\n')) {
    const [id = '', a = '0', b = '0', c = '0'] = line.split(' ');
    if (id === 'total') totalMs = ms(a);
    else calls.push({ id, exit: Number(a), ms: ms(b), endedAt: ms(c) });
  }
  return { calls, totalMs };
}

/** Waits until no host link of a pod is left in the side's namespace, in milliseconds from now. */
export async function untilLinksGone(side: Side): Promise<number> {
  const started = performance.now();
  const deadline = started + LINKS_GONE_MS;
  while (
    /^(pw|veth|eni)/m.test(await runAsync('ip', ['-n', side.linksIn, '-br', 'link', 'show', 'type', 'veth']))
  ) {
    if (performance.now() > deadline)
      throw new Error(`links of ${side.name} are left after ${LINKS_GONE_MS} ms`);
  }
  return performance.now() - started;
}

/** Pods' namespaces, and the one that the peer's host ends go to. */
export class Sandboxes {
  readonly names: string[];
  readonly #dir: string;
  readonly #launcher: string;
  #outputs = 0;

  constructor(count: number, dir: string, launcher: string) {
    this.names = Array.from({ length: count }, (_, i) => `podway-bench-${i}`);
    this.#dir = dir;
    this.#launcher = launcher;
    for (const name of [HOST, ...this.names]) run('ip', ['netns', 'add', name]);
    run('ip', ['-n', HOST, 'link', 'set', 'lo', 'up']);
  }

  remove(): void {
    for (const name of [HOST, ...this.names])
      if (existsSync(`/run/netns/${name}`)) run('ip', ['netns', 'del', name]);
  }

  /** One call for each of these sandboxes, `atOnce` at a time. Throws the plugin's words when one fails. */
  async call(
    side: Side,
    verb: string,
    tag: string,
    { atOnce = 1, from = 0, to = this.names.length } = {},
  ): Promise<Batch> {
    const out = join(this.#dir, `${side.name}-${this.#outputs++}.out`);
    const args = [side.plugin, verb, String(atOnce), side.config, 'eth0', out];
    const [command, all] = side.netns
      ? ['nsenter', [`--net=/run/netns/${side.netns}`, this.#launcher, ...args]]
      : [this.#launcher, args];
    const env = side.args === undefined ? {} : { CNI_ARGS: side.args };
    const of = this.names.slice(from, to);
    const lines = of.map((name) => `${tag}-${name} /run/netns/${name}`);
    const batch = parseLaunch(await runAsync(command, all, lines.join('\n'), env));
    const failed = batch.calls.find((call) => call.exit !== 0);
    if (failed)
      throw new Error(
        `${side.name} ${verb} of ${failed.id} failed: ${readFileSync(out, 'utf8').slice(-2000)}`,
      );
    if (side.leavesLinks && verb === 'DEL')
      for (const name of of) await runAsync('ip', ['-n', name, 'link', 'del', 'eth0']).catch(() => undefined);
    return batch;
  }
}

/** Debian's ptp with host-local; `dir` gets its config and its addresses. */
export function ptpSide(dir: string): Side {
  if (!existsSync(join(PEER_DIR, 'ptp')))
    throw new Error('the peer is missing: apt-get install containernetworking-plugins');
  const config = join(dir, 'ptp.json');
  const dataDir = join(dir, 'host-local');
  mkdirSync(dataDir, { recursive: true });
  const ranges = [[{ subnet: '10.99.0.0/22' }]];
  const ipam = { type: 'host-local', dataDir, ranges, routes: [{ dst: '0.0.0.0/0' }] };
  writeFileSync(config, JSON.stringify({ cniVersion: '1.0.0', name: 'peer', type: 'ptp', mtu: 1500, ipam }));
  process.env['CNI_PATH'] = PEER_DIR;
  return { name: 'ptp', plugin: join(PEER_DIR, 'ptp'), config, linksIn: HOST, netns: HOST };
}

/** The plugin of a lab's first node, alone; `status` is of `lab status`, `dir` gets its config. */
export function labSide(
  status: { nodes: { cniConfDir: string; cniBinDir: string; netns: string }[] },
  name: string,
  dir: string,
): Side {
  const node = status.nodes[0]!;
  const list = JSON.parse(readFileSync(join(node.cniConfDir, '10-podway.conflist'), 'utf8'));
  const config = join(dir, `${name}.json`);
  writeFileSync(config, JSON.stringify({ ...list.plugins[0], name: list.name, cniVersion: '1.0.0' }));
  return { name, plugin: join(node.cniBinDir, 'podway-cni'), config, linksIn: node.netns };
}
