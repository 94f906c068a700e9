// agent: resident memory of the agent's process tree, and the time from its start to its first ADD, for a cold compile
// cache, a warm one, and built JavaScript. The agent runs on a bare m5.4xlarge of a lab of its own; its journal and pool
// are warm at each timed start, as after an upgrade.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_NODE_FLAGS } from '../src/base/node-flags.ts';
import { oneSubnet, podway, root, run, runAsync, scratch } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const LAB = 'bench-agent';
const NODE = 'bare';
const STARTS = 5;
const CHURN = 5_000;
const MEMORY_AT = [1, 50, 200];

/** Resident bytes of a process and its descendants. */
export function treeRss(pid: number): number {
  const children = new Map<number, number[]>();
  for (const file of globSync('/proc/[0-9]*/stat')) {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      continue; // The process ended between the listing and the look.
    }
    const [, id = '0', rest = ''] = /^(\d+) \(.*\) (.*)$/s.exec(text) ?? [];
    const parent = Number(rest.split(' ')[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(id)]);
  }
  const own = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  return own + (children.get(pid) ?? []).reduce((sum, child) => sum + treeRss(child), 0);
}

const shapeText = oneSubnet(`{ name: ${NODE}, type: m5.4xlarge, subnet: a, agent: none }`);

type Form = { name: string; entry: string; cache: 'cold' | 'warm' | 'none' };

export async function bench(): Promise<BenchResult[]> {
  const { dir, launcher, remove } = scratch();
  const sandboxes = Array.from({ length: Math.max(...MEMORY_AT) }, (_, i) => `podway-bench-a${i}`);
  let agent: ChildProcess | null = null;
  const stopAgent = async () => {
    const running = agent;
    agent = null;
    if (!running || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGTERM');
    await ended;
  };
  try {
    const shape = join(dir, 'lab.yaml');
    writeFileSync(shape, shapeText);
    podway('lab', 'up', '--lab', LAB, '-f', shape, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const instance = [...status.nodes, ...status.instances].find(
      (one: { name: string }) => one.name === NODE,
    );
    const runDir = join(dir, 'run');
    const config = join(dir, 'agent.json');
    writeFileSync(
      config,
      JSON.stringify({
        nodeName: NODE,
        runDir,
        ec2Endpoint: 'http://169.254.169.10',
        logLevel: 'warn',
        settings: { warm: 210, cooldownMs: 0 },
      }),
    );
    const cni = join(dir, 'cni.json');
    writeFileSync(
      cni,
      JSON.stringify({
        cniVersion: '1.0.0',
        name: 'podway',
        type: 'podway-cni',
        agentSocket: join(runDir, 'agent.sock'),
      }),
    );
    const plugin = join(root, 'build/podway-cni');
    for (const name of sandboxes) run('ip', ['netns', 'add', name]);

    const built = join(root, 'dist/src/agent/main.js');
    if (!existsSync(built)) run(process.execPath, [join(root, 'tools/build.ts')]);
    const cacheDir = join(dir, 'cache');
    const start = (form: Form) => {
      if (form.cache === 'cold') rmSync(cacheDir, { recursive: true, force: true });
      mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
      const env = {
        ...process.env,
        ...(form.cache === 'none' ? { NODE_DISABLE_COMPILE_CACHE: '1' } : { NODE_COMPILE_CACHE: cacheDir }),
      };
      agent = spawn(
        'nsenter',
        [
          `--net=${instance.netnsPath}`,
          process.execPath,
          ...AGENT_NODE_FLAGS,
          form.entry,
          '--config',
          config,
        ],
        { stdio: ['ignore', 'ignore', 'inherit'], env },
      );
      return agent;
    };
    const call = (verb: string, id: string, netns: string) =>
      spawnSync(plugin, [], {
        input: readFileSync(cni),
        env: {
          CNI_COMMAND: verb,
          CNI_CONTAINERID: id,
          CNI_NETNS: `/run/netns/${netns}`,
          CNI_IFNAME: 'eth0',
          CNI_PATH: join(root, 'build'),
        },
        encoding: 'utf8',
      });
    const untilAdd = (id: string): void => {
      const deadline = performance.now() + 60_000;
      let last = '';
      while (performance.now() < deadline) {
        const done = call('ADD', id, sandboxes[0]!);
        if (done.status === 0) return;
        last = done.stdout;
      }
      throw new Error(`no ADD was served in 60 s: ${last}`);
    };
    const batch = (verb: string, from: number, to: number, tag: string) =>
      runAsync(
        launcher,
        [plugin, verb, '8', cni, 'eth0', join(dir, 'out')],
        sandboxes
          .slice(from, to)
          .map((name) => `${tag}-${name} /run/netns/${name}`)
          .join('\n'),
      ).then((text) => {
        if (text.split('\n').some((line) => /^\S+ [1-9]/.test(line) && !line.startsWith('total')))
          throw new Error(`${verb}: ${readFileSync(join(dir, 'out'), 'utf8').slice(-1000)}`);
      });

    const forms: Form[] = [
      { name: 'TypeScript, cold compile cache', entry: join(root, 'src/agent/main.ts'), cache: 'cold' },
      { name: 'TypeScript, warm compile cache', entry: join(root, 'src/agent/main.ts'), cache: 'warm' },
      { name: 'built JavaScript', entry: built, cache: 'warm' },
    ];
    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const form of forms) {
      // One start that is not counted: it makes the pool, and fills the cache where one is kept.
      start(form);
      untilAdd('warmup');
      call('DEL', 'warmup', sandboxes[0]!);
      await stopAgent();
      const starts: number[] = [];
      for (let i = 0; i < STARTS; i++) {
        const began = performance.now();
        start(form);
        untilAdd(`s${i}`);
        starts.push(performance.now() - began);
        call('DEL', `s${i}`, sandboxes[0]!);
        if (i < STARTS - 1) await stopAgent();
      }
      // nsenter becomes the agent: it executes it in place.
      const pid = agent!.pid!;
      const rss: number[] = [];
      let pods = 0;
      for (const wanted of MEMORY_AT) {
        await batch('ADD', pods, wanted, 'm');
        pods = wanted;
        rss.push(treeRss(pid) / 2 ** 20);
      }
      await batch('DEL', 0, pods, 'm');
      for (let done = 0; done < CHURN; done += pods) {
        await batch('ADD', 0, pods, `k${done}`);
        await batch('DEL', 0, pods, `k${done}`);
      }
      const after = treeRss(pid) / 2 ** 20;
      await stopAgent();
      const s = summarise(starts);
      rows.push([
        form.name,
        Math.round(s.p50),
        Math.round(s.max),
        ...rss.map((mib) => round(mib, 1)),
        round(after, 1),
      ]);
      numbers[form.name] = {
        startToFirstAddMs: s,
        rssMiB: Object.fromEntries(MEMORY_AT.map((at, i) => [at, rss[i]])),
        rssAfterChurnMiB: after,
      };
    }
    return [
      {
        title: `agent: start to first ADD (ms, ${STARTS} starts, journal and pool warm) and resident memory of its process tree (MiB), m5.4xlarge, cooldown 0`,
        head: [
          'form',
          'first ADD p50',
          'max',
          ...MEMORY_AT.map((at) => `${at} pods`),
          `after ${CHURN} ADD/DEL`,
        ],
        rows,
        numbers,
      },
    ];
  } finally {
    await stopAgent();
    spawnSync(join(root, 'bin/podway'), ['lab', 'down', '--lab', LAB, '--quiet']);
    for (const name of sandboxes) if (existsSync(`/run/netns/${name}`)) run('ip', ['netns', 'del', name]);
    remove();
  }
}
