// scale: what 1,000 nodes cost the Kubernetes API and EC2: at rest, while their agents are updated a tenth at a time as by the
// chart's DaemonSet, and after all of them were restarted together. The API server, etcd and Podway's controller are the real
// ones, EC2 is the lab's with AWS's request limits and times; the agents are simulated, 250 in a process: all of their code that
// asks API or EC2, without the kernel (bench/scale/). Kubelets are not simulated: of nodes and pods there are the objects alone,
// and the node lifecycle controller is halted. What the cluster asks of the API without them is subtracted.
// PODWAY_SCALE=N: so many nodes, for a try. Not run, with the reason, where Kubernetes' programs are missing.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  KubeClient,
  namespaces,
  nodes as nodeKind,
  pods as podKind,
  readKubeConfig,
} from '../src/kube/index.ts';
import { labPaths, netnsPath } from '../src/lab/daemon/paths.ts';
import type { LabStatus } from '../src/lab/daemon/protocol.ts';
import { CONTROL_PLANE, controlPlanePaths, realNodePaths } from '../src/lab/kubernetes/layout.ts';
import { missingKubernetes } from '../test/support/kubernetes.ts';
import { podway, root } from './run.ts';
import { type CloudCount, type CloudOpened, type NodesLook, Peer } from './scale/protocol.ts';
import { type BenchResult, round } from './stats.ts';

const LAB = 'bench-scale';
const NODES = Number(process.env['PODWAY_SCALE'] || 1_000);
const PODS_EACH = 10;
const PROCESSES = Math.min(4, NODES);
const NAMESPACE = 'scale';
const REST_S = Number(process.env['PODWAY_SCALE_REST'] || 150);
/** Until watches and conditions of the last change are told. */
const SETTLE_S = 15;
/**
 * Until each agent has compared its pool with EC2 after its last change (src/ipam/ec2/reconcile.ts), and has written
 * its PodwayNode.
 */
const AFTER_CHANGE_S = 95;
/** Of all nodes, at once (maxUnavailable of the chart). */
const TENTH = 0.1;
/** A DaemonSet's pod takes so long until the next may go, beside its own start. */
const STEP_MS = 3_000;
/** The first start is spread over this. */
const FIRST_MS = 60 * NODES;
const RESTART_S = 40;
/** Requests of the benchmark itself at once. */
const AT_ONCE = 50;

type Api = {
  /** By verb, resource and, of those that were refused, status. */
  requests: Record<string, number>;
  watchEvents: number;
  watchBytes: number;
  watches: number;
  serverMb: number;
  /** Of CPU. */
  serverSeconds: number;
  etcdMb: number;
  controllerMb: number;
  controllerSeconds: number;
};
type Phase = { seconds: number; api: Api; ec2: CloudCount };

export async function bench(): Promise<BenchResult[]> {
  const lack = missingKubernetes();
  if (lack) return [{ title: `scale: not run: ${lack}`, head: [], rows: [], numbers: {} }];
  const dir = mkdtempSync(join(tmpdir(), 'podway-scale-'));
  const ended: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })];
  try {
    return await run(dir, ended);
  } finally {
    for (const end of ended.reverse()) await end();
  }
}

const say = (text: string): void => void process.stderr.write(`scale: ${text}\n`);

async function run(dir: string, ended: (() => unknown)[]): Promise<BenchResult[]> {
  ended.push(() => podway('lab', 'down', '--lab', LAB, '--quiet'));
  podway('lab', 'up', '--lab', LAB, '--kubernetes', '--nodes', '1', '--set', 'controller=none', '--quiet');
  const paths = labPaths(LAB);
  const inside = netnsPath(paths.netns(CONTROL_PLANE));
  const { kubeconfig } = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json')) as LabStatus;
  const api = new KubeClient(await readKubeConfig(kubeconfig));
  ended.push(() => api.close());
  const agents = join(realNodePaths(paths, 'node-1').podway, 'kubeconfig');
  await makeNodes(api);
  ended.push(halt(controlPlanePaths(paths).pid('kube-controller-manager')));

  const cloud = new Peer('cloud.ts', inside);
  ended.push(() => cloud.end());
  const { endpoint, instances, keys } = await cloud.ask<CloudOpened>({ kind: 'open', nodes: NODES });
  ended.push(() => cloud.ask({ kind: 'close' }).catch(() => {}));
  const controller = controllerOf(inside, controlPlanePaths(paths).superAdmin, endpoint, keys);
  ended.push(() => controller.kill('SIGTERM'));
  await sleep(5_000);

  const look = () => lookAt(api, controlPlanePaths(paths).pid('etcd'), controller.pid!);
  const measure = async (work: () => Promise<unknown>): Promise<Phase> => {
    const before = await look();
    await cloud.ask({ kind: 'count' });
    const began = performance.now();
    await work();
    const seconds = (performance.now() - began) / 1000;
    const ec2 = await cloud.ask<CloudCount>({ kind: 'count' });
    const asked = since(before, await look());
    say(
      `${round(seconds, 0)} s: ${total(asked.requests)} requests, ${total(ec2.byAction)} calls, ${ec2.throttled} throttled`,
    );
    return { seconds, ec2, api: asked };
  };
  say('what the cluster asks without agents');
  const idle = await measure(() => sleep(10_000));

  const each = Math.ceil(NODES / PROCESSES);
  const workers = Array.from({ length: PROCESSES }, () => new Peer('nodes.ts', inside));
  ended.push(() => workers.map((worker) => worker.end()));
  await Promise.all(
    workers.map((worker, index) =>
      worker.ask({
        kind: 'open',
        ...{ dir, kubeconfig: agents, ec2Endpoint: endpoint, keys },
        instances: instances.slice(index * each, (index + 1) * each),
      }),
    ),
  );
  const all = <T>(question: Parameters<Peer['ask']>[0]) =>
    Promise.all(workers.map((worker) => worker.ask<T>(question)));
  const start = (from: number, to: number, overMs: number) =>
    all<number>({ kind: 'start', from: Math.floor(from * each), to: Math.floor(to * each), overMs });
  say(`${NODES} agents start for the first time, and pods come, without limits of EC2: it would be minutes`);
  await cloud.ask({ kind: 'throttle', on: false });
  const first = await measure(() => start(0, 1, FIRST_MS));
  await Promise.all([all({ kind: 'pods', each: PODS_EACH }), runPods(api)]);
  await cloud.ask({ kind: 'throttle', on: true });
  await sleep(SETTLE_S * 1000);
  await serving(all);
  const after = await measure(() => sleep(AFTER_CHANGE_S * 1000));
  say(`at rest for ${REST_S} s`);
  const rest = await measure(() => sleep(REST_S * 1000));
  say('a rolling update');
  const rolling = await measure(async () => {
    for (let from = 0; from < 1 - TENTH / 2; from += TENTH) {
      await start(from, Math.min(1, from + TENTH), 0);
      await sleep(STEP_MS);
    }
  });
  await sleep(SETTLE_S * 1000);
  say('all are restarted together');
  let readyAfter = 0;
  const restart = await measure(async () => {
    const began = performance.now();
    await start(0, 1, 0);
    readyAfter = (performance.now() - began) / 1000;
    await sleep(Math.max(0, RESTART_S - readyAfter) * 1000);
  });
  const looks = await serving(all);
  return result({ first, after, rest, rolling, restart }, idle, readyAfter, looks);
}

async function serving(all: <T>(question: { kind: 'look' }) => Promise<T[]>): Promise<NodesLook[]> {
  const looks = await all<NodesLook>({ kind: 'look' });
  const sum = (of: (look: NodesLook) => number) => looks.reduce((total, one) => total + of(one), 0);
  if (sum((one) => one.serving) !== NODES || sum((one) => one.held) !== NODES * PODS_EACH)
    throw new Error(`${sum((one) => one.serving)} nodes serve ${sum((one) => one.held)} pods`);
  return looks;
}

/** Halts one of the lab's own processes; the answer lets it go on. */
function halt(pidFile: string): () => void {
  const { pid } = JSON.parse(readFileSync(pidFile, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGSTOP');
  return () => process.kill(pid, 'SIGCONT');
}

function controllerOf(
  netns: string,
  kubeconfig: string,
  endpoint: string,
  keys: CloudOpened['keys'],
): ChildProcess {
  const flags = ['--kubeconfig', kubeconfig, '--region', 'us-west-2'];
  const env = { AWS_ACCESS_KEY_ID: keys.accessKeyId, AWS_SECRET_ACCESS_KEY: keys.secretAccessKey };
  const main = join(root, 'src/controller/main.ts');
  return spawn('nsenter', [`--net=${netns}`, process.execPath, main, ...flags, '--ec2-endpoint', endpoint], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) await work(items[at]!);
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
}

const names = Array.from({ length: NODES }, (_, index) => `sim-${index + 1}`);

async function makeNodes(api: KubeClient): Promise<void> {
  await api.create(namespaces, { metadata: { name: NAMESPACE } });
  await each(names, async (name) => {
    await api.create(nodeKind, { metadata: { name, labels: { 'kubernetes.io/hostname': name } } });
    const ready = { type: 'Ready', status: 'True', reason: 'KubeletReady', message: '' };
    const status = { capacity: { pods: '29' }, allocatable: { pods: '29' }, conditions: [ready] };
    await api.patch(nodeKind, name, undefined, { status }, { type: 'strategic', subresource: 'status' });
  });
}

/** Bound and Running, as scheduler and kubelet would have left them. */
async function runPods(api: KubeClient): Promise<void> {
  const pods = names.flatMap((node) => Array.from({ length: PODS_EACH }, (_, index) => ({ node, index })));
  await each(pods, async ({ node, index }) => {
    const name = `${node}-${index}`;
    await api.create(podKind, {
      metadata: { name, namespace: NAMESPACE },
      spec: { nodeName: node, containers: [{ name: 'main', image: 'none' }] },
    });
    const status = { phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] };
    await api.patch(podKind, name, NAMESPACE, { status }, { type: 'merge', subresource: 'status' });
  });
}

/** The API server's own metrics, and what its neighbours have. */
async function lookAt(api: KubeClient, etcdPid: string, controllerPid: number): Promise<Api> {
  const page = await api.getPath<string>('/metrics');
  const series = (name: string) =>
    [...page.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))].map(
      ([, labels = '', value]) => [labels, Number(value)] as const,
    );
  const sum = (name: string, having = '') =>
    series(name).reduce((total, [labels, value]) => total + (labels.includes(having) ? value : 0), 0);
  const requests: Record<string, number> = {};
  for (const [labels, count] of series('apiserver_request_total')) {
    const of = (label: string) => new RegExp(`[{,]${label}="([^"]*)"`).exec(labels)?.[1] ?? '';
    // A watch is counted among the requests when it ends.
    if (of('verb') === 'WATCH') continue;
    const resource = [of('resource'), of('subresource')].filter((one) => one !== '').join('/');
    const code = of('code').startsWith('2') ? '' : ` ${of('code')}`;
    const key = `${of('verb')} ${resource || 'others'}${code}`;
    requests[key] = (requests[key] ?? 0) + count;
  }
  const { pid } = JSON.parse(readFileSync(etcdPid, 'utf8')) as { pid: number };
  return {
    requests,
    watchEvents: sum('apiserver_watch_events_total'),
    watchBytes: sum('apiserver_watch_events_sizes_sum'),
    watches: sum('apiserver_longrunning_requests', 'verb="WATCH"'),
    serverMb: sum('process_resident_memory_bytes') / 1e6,
    serverSeconds: sum('process_cpu_seconds_total'),
    etcdMb: rssMb(pid),
    controllerMb: rssMb(controllerPid),
    controllerSeconds: cpuSeconds(controllerPid),
  };
}

function rssMb(pid: number): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return (Number(kb) * 1024) / 1e6;
}

/** Of CPU, in hundredths as the kernel counts them. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const since = (before: Api, after: Api): Api => ({
  ...after,
  requests: Object.fromEntries(
    Object.entries(after.requests)
      .map(([key, count]) => [key, count - (before.requests[key] ?? 0)] as const)
      .filter(([, count]) => count > 0),
  ),
  watchEvents: after.watchEvents - before.watchEvents,
  watchBytes: after.watchBytes - before.watchBytes,
  serverSeconds: after.serverSeconds - before.serverSeconds,
  controllerSeconds: after.controllerSeconds - before.controllerSeconds,
});

type Phases = Record<'first' | 'after' | 'rest' | 'rolling' | 'restart', Phase>;

const total = (counts: Record<string, number>) => Object.values(counts).reduce((sum, one) => sum + one, 0);

function result(phases: Phases, idle: Phase, readyAfter: number, looks: NodesLook[]): BenchResult[] {
  const own = (phase: Phase, of: (api: Api) => number) =>
    Math.max(0, of(phase.api) / phase.seconds - of(idle.api) / idle.seconds);
  const row = (what: string, phase: Phase) => [
    what,
    round(phase.seconds, 0),
    round(
      own(phase, (api) => total(api.requests)),
      1,
    ),
    round(
      own(phase, (api) => api.watchEvents),
      1,
    ),
    round(own(phase, (api) => api.watchBytes) / 1000, 1),
    phase.api.watches - idle.api.watches,
    round(phase.api.serverMb, 0),
    round(phase.api.serverSeconds / phase.seconds),
    round(phase.api.etcdMb, 0),
    round(phase.api.controllerMb, 0),
    round(phase.api.controllerSeconds / phase.seconds),
    round(total(phase.ec2.byAction) / phase.seconds),
    round(phase.ec2.peak, 1),
    phase.ec2.throttled,
  ];
  const named = [
    [`first start, over ${FIRST_MS / 1000} s, EC2 without limits`, phases.first],
    [`${AFTER_CHANGE_S} s after pods came`, phases.after],
    ['at rest', phases.rest],
    ['agents updated, a tenth at a time', phases.rolling],
    ['all restarted together', phases.restart],
  ] as const;
  const title = `scale: ${NODES} nodes with ${PODS_EACH} pods each; all have compared their addresses with EC2 ${round(readyAfter, 0)} s after they were restarted together; ${round(looks.reduce((sum, one) => sum + one.rssMb, 0) / NODES, 1)} MB of the benchmark a node; before the agents the API server had ${round(idle.api.serverMb, 0)} MB`;
  return [
    {
      title,
      head: [
        ...['phase', 'seconds', 'API requests/s', 'watch events/s', 'watch kB/s', 'watches'],
        ...['API server, MB', 'its CPUs', 'etcd, MB', 'controller, MB', 'its CPUs'],
        ...['EC2 calls/s', 'busiest 10 s', 'throttled'],
      ],
      rows: named.map(([what, phase]) => row(what, phase)),
      numbers: { phases, idle, readyAfter },
    },
    asked(
      named,
      (phase) => phase.api.requests,
      'requests to the API by node, with the status of what was refused',
    ),
    asked(named, (phase) => phase.ec2.byAction, 'calls to EC2 by node'),
  ];
}

/** What counts for each node, by kind; what is under one in twenty nodes in each phase is left out. */
function asked(
  named: readonly (readonly [string, Phase])[],
  of: (phase: Phase) => Record<string, number>,
  title: string,
): BenchResult {
  const least = NODES / 20;
  const kinds = [...new Set(named.flatMap(([, phase]) => Object.keys(of(phase))))]
    .filter((kind) => named.some(([, phase]) => (of(phase)[kind] ?? 0) >= least))
    .sort();
  return {
    title: `scale: ${title}`,
    head: ['', ...named.map(([what]) => what)],
    rows: kinds.map((kind) => [kind, ...named.map(([, phase]) => round((of(phase)[kind] ?? 0) / NODES))]),
    numbers: {},
  };
}
