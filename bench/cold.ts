// cold: what users meet is an agent that has served few pods. Its first ADD and its first thirty, and an ADD that waited for
// the start, against the same of Debian's ptp; how soon it is ready; and its memory when it had to learn from the API which
// pods there are. The agent runs on a bare m5.4xlarge; journal, pool and compile cache are warm, as after an upgrade.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENT_NODE_FLAGS } from '../src/base/node-flags.ts';
import { events, KubeClient, readKubeConfig } from '../src/kube/index.ts';
import { oneSubnet, podway, root, scratch } from './run.ts';
import { ptpSide, Sandboxes, type Side, untilLinksGone } from './sides.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const LAB = 'bench-cold';
const NODE = 'bare';
const KNOWN = 'known';
const STARTS = 20;
const FIRST = 30;
/** From ready to the first ADD: a node is rarely asked in the moment in which its agent has started. */
const REST_MS = 1_000;
/** An agent writes its compile cache when it has come to rest, which takes it two looks. */
const KEPT_MS = 5_000;
const READY_WITHIN_MS = 60_000;

const shapeText = oneSubnet(
  `{ name: ${KNOWN}, type: m5.4xlarge, subnet: a }`,
  `{ name: ${NODE}, type: m5.4xlarge, subnet: a, agent: none }`,
);

/** 0 while no process listens. */
function ask(socketPath: string, path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path }, (answer) => {
      let text = '';
      answer.on('data', (piece) => {
        text += piece;
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    asked.on('error', () => resolve({ status: 0, text: '' }));
    asked.end();
  });
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + READY_WITHIN_MS; performance.now() < end; await sleep(1))
    if (await isSo()) return;
  throw new Error(`${what}: not within ${READY_WITHIN_MS} ms`);
}

/** An agent of our own on the bare instance. */
class Agent {
  readonly side: Side;
  readonly #socket: string;
  readonly #api: string;
  readonly #command: string[];
  readonly #cache: string;
  #process: ChildProcess | undefined;

  constructor(dir: string, netns: string, netnsPath: string) {
    const runDir = join(dir, 'run');
    this.#socket = join(runDir, 'agent.sock');
    this.#api = join(runDir, 'api.sock');
    this.#cache = join(dir, 'cache');
    mkdirSync(this.#cache, { mode: 0o700 });
    const config = join(dir, 'agent.json');
    const settings = { warm: FIRST + 10, cooldownMs: 0 };
    const node = { nodeName: NODE, runDir, ec2Endpoint: 'http://169.254.169.10', logLevel: 'warn', settings };
    writeFileSync(config, JSON.stringify(node));
    const main = join(root, 'src/agent/main.ts');
    this.#command = [`--net=${netnsPath}`, process.execPath, ...AGENT_NODE_FLAGS, main, '--config', config];
    const cni = join(dir, 'podway.json');
    const conf = { cniVersion: '1.0.0', name: 'podway', type: 'podway-cni', agentSocket: this.#socket };
    writeFileSync(cni, JSON.stringify(conf));
    this.side = { name: 'podway', plugin: join(root, 'build/podway-cni'), config: cni, linksIn: netns };
  }

  /** Resolves when its socket is there, well before it serves. */
  async start(): Promise<void> {
    rmSync(this.#socket, { force: true });
    const env = { ...process.env, NODE_COMPILE_CACHE: this.#cache };
    this.#process = spawn('nsenter', this.#command, { stdio: ['ignore', 'ignore', 'inherit'], env });
    await until('the socket', () => existsSync(this.#socket));
  }

  ready(): Promise<void> {
    return until('ready', async () => (await ask(this.#api, '/readyz')).status === 200);
  }

  /** Milliseconds since 1970. */
  async servingSince(): Promise<number> {
    const { text } = await ask(this.#api, '/metrics');
    return Number(/^podway_serving_since_seconds (\S+)$/m.exec(text)?.[1]) * 1000;
  }

  get rssMiB(): number {
    return rssMiB(this.#process!.pid!);
  }

  async stop(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (!running || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGTERM');
    await ended;
  }
}

const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

type Times = { first: number[]; thirty: number[] };

async function firstThirty(sandboxes: Sandboxes, side: Side, tag: string, into: Times): Promise<void> {
  const first = await sandboxes.call(side, 'ADD', tag, { to: 1 });
  const others = await sandboxes.call(side, 'ADD', tag, { from: 1 });
  const all = [...first.calls, ...others.calls].map((call) => call.ms);
  into.first.push(all[0]!);
  into.thirty.push(...all);
  await sandboxes.call(side, 'DEL', tag);
  await untilLinksGone(side);
}

/** Milliseconds from the moment from which the agent serves to the end of an ADD that waited for it; null: it came too late. */
async function waitingAdd(agent: Agent, sandboxes: Sandboxes, tag: string): Promise<number | null> {
  await agent.start();
  const { calls } = await sandboxes.call(agent.side, 'ADD', tag, { to: 1 });
  const { endedAt, ms } = calls[0]!;
  const since = await agent.servingSince();
  await sandboxes.call(agent.side, 'DEL', tag, { to: 1 });
  await untilLinksGone(agent.side);
  await agent.stop();
  return endedAt - ms < since ? endedAt - since : null;
}

/** Resident memory of a lab node's agent that is killed, finds its journal empty, asks the API, and tells it by an Event. */
async function memoryAfterAdoption(kubeconfig: string): Promise<number> {
  const api = new KubeClient(await readKubeConfig(kubeconfig));
  const home = `/run/podway/labs/${LAB}/nodes/${KNOWN}`;
  const pid = (): number => JSON.parse(readFileSync(join(home, 'agent.pid'), 'utf8')).pid;
  const told = async (): Promise<number> => {
    const { items } = await api.list(events);
    return items.reduce((sum, one) => sum + (one.reason === 'JournalLost' ? (one.count ?? 1) : 0), 0);
  };
  const before = pid();
  const toldBefore = await told();
  truncateSync(join(home, 'run/journal'));
  process.kill(before, 'SIGKILL');
  await until('another agent', () => pid() !== before && existsSync(`/proc/${pid()}`));
  await until('ready', async () => (await ask(join(home, 'run/api.sock'), '/readyz')).status === 200);
  await until('its Event', async () => (await told()) > toldBefore);
  api.close();
  await sleep(REST_MS);
  return rssMiB(pid());
}

export async function benchCold(): Promise<BenchResult> {
  const { dir, launcher, remove } = scratch();
  let sandboxes: Sandboxes | undefined;
  let agent: Agent | undefined;
  try {
    const peer = ptpSide(dir);
    const shape = join(dir, 'lab.yaml');
    writeFileSync(shape, shapeText);
    podway('lab', 'up', '--lab', LAB, '-f', shape, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const bare = status.instances.find((one: { name: string }) => one.name === NODE);
    sandboxes = new Sandboxes(FIRST, dir, launcher);
    agent = new Agent(dir, bare.netns, bare.netnsPath);
    const us: Times = { first: [], thirty: [] };
    const them: Times = { first: [], thirty: [] };
    const ready: number[] = [];
    const rss: number[] = [];
    for (let i = -1; i < STARTS; i++) {
      const ours = async () => {
        const began = performance.now();
        await agent!.start();
        await agent!.ready();
        ready.push(performance.now() - began);
        await sleep(REST_MS);
        await firstThirty(sandboxes!, agent!.side, `c${i}`, us);
        rss.push(agent!.rssMiB);
        await agent!.stop();
      };
      const theirs = async () => {
        await sleep(REST_MS);
        await firstThirty(sandboxes!, peer, `p${i}`, them);
      };
      for (const side of i % 2 === 0 ? [ours, theirs] : [theirs, ours]) await side();
      // The first start fills the pool and the cache.
      if (i < 0)
        for (const list of [us.first, us.thirty, them.first, them.thirty, ready, rss]) list.length = 0;
    }
    const waited: number[] = [];
    for (let i = 0; i < STARTS; i++) {
      const took = await waitingAdd(agent, sandboxes, `w${i}`);
      if (took !== null) waited.push(took);
    }
    // In a checkout the first one compiles the API client's TypeScript, in the agent; an installation has nothing to compile.
    const compiling = await memoryAfterAdoption(status.kubeconfig);
    await sleep(KEPT_MS);
    const adopted = await memoryAfterAdoption(status.kubeconfig);
    const p = (list: number[]) => summarise(list).p50;
    const against = (what: string, ours: number[], theirs: number[], goal: number) => [
      ...[what, round(p(ours)), round(p(theirs)), round(p(ours) / p(theirs), 3), goal],
    ];
    const alone = (what: string, value: number, goal: number | string) => [
      what,
      round(value, 1),
      '',
      '',
      goal,
    ];
    return {
      title: `cold: ms by exec of the plugin after an agent's start, medians of ${STARTS} starts (${waited.length} with an ADD that waited), ADD one at a time, a second after ready, ptp in turn; m5.4xlarge, cooldown 0`,
      head: ['what', 'podway', 'ptp', 'podway / ptp', 'goal'],
      rows: [
        against('first ADD', us.first, them.first, 0.5),
        against(`first ${FIRST} ADDs`, us.thirty, them.thirty, 0.33),
        against('ADD that waited for the start, from when the agent serves', waited, them.first, 0.5),
        alone('start to ready, ms', p(ready), 300),
        alone(`memory after ${FIRST} pods, MiB`, p(rss), 85.8),
        alone('memory after an empty journal, the API and one Event, MiB', adopted, 85.8),
        alone('the same the first time, which may compile the API client, MiB', compiling, ''),
      ],
      numbers: {
        first: { us: summarise(us.first), them: summarise(them.first) },
        thirty: { us: summarise(us.thirty), them: summarise(them.thirty) },
        waited: summarise(waited),
        readyMs: summarise(ready),
        rssMiB: summarise(rss),
        rssAfterAdoptionMiB: { adopted, compiling },
      },
    };
  } finally {
    await agent?.stop();
    podway('lab', 'down', '--lab', LAB, '--quiet');
    sandboxes?.remove();
    remove();
  }
}
