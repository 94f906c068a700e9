// upgrade: what pods notice of a rolling update of the agent. Two nodes, one after the other: SIGTERM, GONE_MS without an
// agent, a new one, as a DaemonSet's rolling update does it; then the same with agents that take over from each other.
// Meanwhile one pod asks another 1,000 times a second on its node and on the other node, and the plugin ADDs and DELs a
// pod over and over on the node that is updated, asking again as a runtime does. Goal: nothing lost.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENT_NODE_FLAGS } from '../src/base/node-flags.ts';
import { ask, RATE } from './asked.ts';
import { podway, root, run, scratch, twoSubnets } from './run.ts';
import { type BenchResult, round } from './stats.ts';

const LAB = 'bench-upgrade';
/** Without an agent on a node: the new one's image is there, its container is made. */
const GONE_MS = 3_000;
const SETTLE_MS = 1_000;
/** A runtime asks again after a failed sandbox; kubelet at once and then ever more seldom. */
const AGAIN_MS = 200;
/** Before all that is not of real time: whoever else is on the machine must not look like a lost packet. */
const REAL_TIME = ['-f', '1'];
const PREFIX = 'podway-bench-u';

const shape = twoSubnets(
  '{ name: one, type: m5.large, subnet: a, agent: none, securityGroups: [nodes] }',
  '{ name: two, type: m5.large, subnet: b, agent: none, securityGroups: [nodes] }',
);

type Pod = { netns: string; ip: string };

/** A node whose agents are started and ended here. */
class BenchNode {
  readonly name: string;
  readonly #netnsPath: string;
  readonly #config: string;
  readonly #cni: string;
  readonly #log: string;
  readonly #apiSocket: string;
  readonly #cache: string;
  readonly #agents: ChildProcess[] = [];

  constructor(dir: string, name: string, netnsPath: string) {
    this.name = name;
    this.#netnsPath = netnsPath;
    this.#config = join(dir, `${name}.json`);
    this.#cni = join(dir, `${name}.cni.json`);
    this.#log = join(dir, `${name}.log`);
    const runDir = join(dir, `run-${name}`);
    const settings = { warm: 4, cooldownMs: 0 };
    const config = {
      nodeName: name,
      runDir,
      ec2Endpoint: 'http://169.254.169.10',
      logLevel: 'warn',
      settings,
    };
    writeFileSync(this.#config, JSON.stringify(config));
    const agentSocket = join(runDir, 'agent.sock');
    this.#apiSocket = join(runDir, 'api.sock');
    this.#cache = join(dir, 'compile');
    writeFileSync(
      this.#cni,
      JSON.stringify({ cniVersion: '1.0.0', name: 'podway', type: 'podway-cni', agentSocket }),
    );
  }

  start(): ChildProcess {
    const program = [process.execPath, ...AGENT_NODE_FLAGS, join(root, 'src/agent/main.ts')];
    const command = [`--net=${this.#netnsPath}`, ...program, '--config', this.#config];
    const agent = spawn('sh', ['-c', `exec nsenter "$@" >>${this.#log} 2>&1`, 'sh', ...command], {
      stdio: 'ignore',
      env: { ...process.env, NODE_COMPILE_CACHE: this.#cache },
    });
    this.#agents.push(agent);
    return agent;
  }

  /** The one that was started last. */
  get current(): ChildProcess {
    return this.#agents.at(-1)!;
  }

  /** Waits until this agent is the one that serves. */
  async serves({ pid }: ChildProcess): Promise<void> {
    for (const end = performance.now() + 60_000; performance.now() < end; await sleep(50))
      if ((await pidOf(this.#apiSocket)) === pid) return;
    throw new Error(`the new agent of ${this.name} does not serve`);
  }

  async endAll(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => this.end(agent)));
  }

  async end(agent: ChildProcess): Promise<void> {
    if (agent.exitCode !== null || agent.signalCode !== null) return;
    const ended = new Promise((resolve) => agent.once('exit', resolve));
    agent.kill('SIGTERM');
    await ended;
  }

  /** The address of an ADD, or the plugin's refusal. */
  call(verb: 'ADD' | 'DEL', id: string, netns: string): { ip?: string; refusal?: string } {
    const done = spawnSync(join(root, 'build/podway-cni'), [], {
      input: readFileSync(this.#cni),
      env: {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: id,
        CNI_NETNS: `/run/netns/${netns}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/',
      },
      encoding: 'utf8',
    });
    const said = done.stdout
      ? (JSON.parse(done.stdout) as { msg?: string; ips?: { address: string }[] })
      : {};
    if (done.status === 0) return said.ips ? { ip: said.ips[0]!.address.split('/')[0]! } : {};
    return { refusal: said.msg?.split(':')[0] ?? `exit ${done.status}` };
  }

  async add(id: string, netns: string): Promise<{ ip: string; refusals: string[]; ms: number }> {
    const began = performance.now();
    const refusals: string[] = [];
    while (performance.now() - began < 60_000) {
      const { ip, refusal } = this.call('ADD', id, netns);
      if (ip) return { ip, refusals, ms: performance.now() - began };
      refusals.push(refusal!);
      await sleep(AGAIN_MS);
    }
    throw new Error(`no ADD on ${this.name} in 60 s: ${readFileSync(this.#log, 'utf8').slice(-2_000)}`);
  }
}

/** The process that answers on an introspection socket as the one that serves; null when none does. */
function pidOf(socketPath: string): Promise<number | null> {
  return new Promise((resolve) => {
    const asked = get({ socketPath, path: '/v1/node', agent: false }, async (answer) => {
      const pieces = await answer.toArray().catch(() => []);
      try {
        const { pid, cause } = JSON.parse(Buffer.concat(pieces).toString()) as {
          pid: number;
          cause: unknown;
        };
        resolve(cause === null ? pid : null);
      } catch {
        resolve(null);
      }
    });
    asked.once('error', () => resolve(null));
  });
}

type Churned = { adds: number; refusals: string[]; longestMs: number; failedDels: number };

/** ADDs and DELs one pod over and over until told to stop. */
function churn(node: BenchNode, netns: string): { stop: () => Promise<Churned> } {
  const told: Churned = { adds: 0, refusals: [], longestMs: 0, failedDels: 0 };
  let isOver = false;
  const going = (async () => {
    for (let n = 0; !isOver; n++) {
      const { refusals, ms } = await node.add(`churn${n}`, netns);
      told.adds++;
      told.refusals.push(...refusals);
      told.longestMs = Math.max(told.longestMs, ms);
      // Without an agent a DEL is queued by the plugin, and is done for the runtime.
      if (node.call('DEL', `churn${n}`, netns).refusal !== undefined) told.failedDels++;
      // The same namespace is used again: its link goes in a batch, a moment after the answer.
      await sleep(150);
    }
  })();
  return {
    async stop() {
      isOver = true;
      await going;
      return told;
    },
  };
}

/** `none` is the same time with the agents left alone. */
type Way = 'none' | 'stop and start' | 'take over';

/** One update of both nodes under traffic. */
async function update(nodes: BenchNode[], paths: Record<string, [Pod, Pod]>, way: Way, spare: string) {
  const seconds = 2 * Math.ceil((GONE_MS + 3 * SETTLE_MS + 4_000) / 1_000);
  const asking = Object.entries(paths).map(([name, [from, to]]) => ({
    name,
    ...ask(`/run/netns/${from.netns}`, to.ip, seconds),
  }));
  await Promise.all(asking.map(({ ready }) => ready));
  const churned: Churned[] = [];
  for (const node of nodes) {
    const churning = churn(node, spare);
    await sleep(SETTLE_MS);
    const before = node.current;
    if (way === 'stop and start') {
      await node.end(before);
      await sleep(GONE_MS);
      node.start();
    } else if (way === 'none') await sleep(GONE_MS);
    else {
      await node.serves(node.start());
      await node.end(before);
    }
    await sleep(2 * SETTLE_MS);
    churned.push(await churning.stop());
  }
  const asked = await Promise.all(asking.map(async ({ name, done }) => ({ name, ...(await done) })));
  return { asked, churned };
}

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  const names = ['a', 'b', 'c', 'spare'].map((name) => `${PREFIX}${name}`);
  const servers: ChildProcess[] = [];
  let nodes: BenchNode[] = [];
  try {
    const file = join(dir, 'lab.yaml');
    writeFileSync(file, shape);
    podway('lab', 'up', '--lab', LAB, '-f', file, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json')) as {
      instances: { name: string; netnsPath: string }[];
    };
    nodes = ['one', 'two'].map((name) => {
      const { netnsPath } = status.instances.find((one) => one.name === name)!;
      return new BenchNode(dir, name, netnsPath);
    });
    for (const name of names) run('ip', ['netns', 'add', name]);
    for (const name of names) run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    for (const node of nodes) node.start();
    const [one, two] = nodes as [BenchNode, BenchNode];
    const pod = async (node: BenchNode, netns: string): Promise<Pod> => {
      const { ip } = await node.add(netns, netns);
      const server = [
        'chrt',
        ...REAL_TIME,
        'nsenter',
        `--net=/run/netns/${netns}`,
        join(root, 'build/pod-server'),
      ];
      servers.push(spawn(server[0]!, server.slice(1), { stdio: 'ignore' }));
      return { netns, ip };
    };
    const [a, b, c] = [await pod(one, names[0]!), await pod(one, names[1]!), await pod(two, names[2]!)];
    await sleep(SETTLE_MS);
    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const way of ['none', 'stop and start', 'take over'] as const) {
      const { asked, churned } = await update(
        nodes,
        { 'same node': [a, b], 'two nodes': [a, c] },
        way,
        names[3]!,
      );
      numbers[way] = { asked, churned };
      const refusals = churned.flatMap((one) => one.refusals);
      const refused =
        [...new Set(refusals)]
          .map((why) => `${refusals.filter((one) => one === why).length} ${why}`)
          .join(', ') || 'none';
      const longest = Math.round(Math.max(...churned.map((one) => one.longestMs)));
      const failedDels = churned.reduce((sum, one) => sum + one.failedDels, 0);
      for (const { name, udp, tcp } of asked)
        rows.push([
          ...[way, name, udp.sent, udp.sent - udp.answered, round(udp.longestGapMs, 0)],
          ...[tcp.sent - tcp.answered, tcp.broken ?? 'none', round(tcp.longestGapMs, 0)],
          ...[churned.reduce((sum, one) => sum + one.adds, 0), refused, longest, failedDels],
        ]);
    }
    return [
      {
        title: `upgrade: a rolling update of two nodes' agents (${GONE_MS / 1000} s without an agent on each) at ${RATE} requests a second by UDP and by one TCP connection, pod to pod; ADD and DEL of a pod over and over on the node that is updated, asked again every ${AGAIN_MS} ms`,
        head: [
          ...['update', 'path', 'sent', 'UDP lost', 'UDP longest gap (ms)'],
          ...['TCP unanswered', 'TCP broken', 'TCP longest gap (ms)'],
          ...['ADDs', 'ADD refused', 'ADD longest (ms)', 'DEL failed'],
        ],
        rows,
        numbers,
      },
    ];
  } finally {
    for (const server of servers) server.kill('SIGKILL');
    await Promise.all(nodes.map((node) => node.endAll()));
    spawnSync(join(root, 'bin/podway'), ['lab', 'down', '--lab', LAB, '--quiet']);
    for (const name of names) if (existsSync(`/run/netns/${name}`)) run('ip', ['netns', 'del', name]);
    remove();
  }
}
