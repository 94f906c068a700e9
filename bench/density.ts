// density: pods through kubelet and containerd, 100 on each of two m5.4xlarge nodes at once, with Podway's agents and
// with Debian's ptp and host-local as the cluster's CNI, one cluster after the other in one run: pods a minute, from
// bound to Running, what of it was CNI by containerd's own metrics, and the memory of the agent's processes. Both lists
// have one plugin, and with PODWAY_DENSITY_PORTMAP=1 they are measured again with portmap behind it. Lab and agents run
// built code, as users do; the pool holds an address for each pod before. Goals: CNI's share at most a third of ptp's,
// the agent's processes under 90 MB. PODWAY_DENSITY=N: so many pods on each node, PODWAY_DENSITY_NODES=N: so many
// nodes, for a try. Not run, with the reason, where Kubernetes' programs are missing.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeClient, namespaces, type Pod, pods as podKind, readKubeConfig } from '../src/kube/index.ts';
import { labPaths } from '../src/lab/daemon/paths.ts';
import type { LabStatus } from '../src/lab/daemon/protocol.ts';
import { CONTAINERD_METRICS } from '../src/lab/kubernetes/configs.ts';
import { PAUSE_IMAGE } from '../src/lab/kubernetes/layout.ts';
import { missingKubernetes } from '../test/support/kubernetes.ts';
import { root, run, runAsync, scratch } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const PODS = Number(process.env['PODWAY_DENSITY'] || 100);
const NODES = Array.from(
  { length: Number(process.env['PODWAY_DENSITY_NODES'] || 2) },
  (_, index) => `node-${index + 1}`,
);
/** Of each node, before what is measured: images are unpacked and caches warm. */
const WARM_UP = 5;
const PTP_DIR = '/usr/lib/cni';
const WITHIN_MS = 400_000;
/** containerd watches its configuration lists. */
const RELOAD_MS = 2_000;
const NAMESPACE = 'density';
/** As Podway chains it, and kind behind its ptp. */
const PORTMAP = { type: 'portmap', capabilities: { portMappings: true }, snat: true };

type Side = 'podway' | 'ptp';
type ListName = 'alone' | 'portmap';
const LISTS: ListName[] = process.env['PODWAY_DENSITY_PORTMAP'] ? ['alone', 'portmap'] : ['alone'];
/** Operations and the seconds that they took together. */
type Timer = { count: number; seconds: number };
type Network = Record<'add' | 'withNamespace' | 'del', Timer>;
/**
 * MB of an agent and what it started: with all pods, at the most since before them, and now with shared pages divided
 * among their users.
 */
type Memory = { rss: number; peak: number; pss: number };
type Measured = {
  perMinute: number;
  running: { p50: number; p99: number; mean: number };
  /** Milliseconds a pod; the share of the mean from bound to Running. */
  cni: { add: number; withNamespace: number; del: number; share: number };
  /** Of each node; empty without an agent. */
  memory: Memory[];
};

export async function bench(): Promise<BenchResult[]> {
  const lack = existsSync(join(PTP_DIR, 'ptp')) ? missingKubernetes() : 'no containernetworking-plugins';
  if (lack) return [{ title: `density: not run: ${lack}`, head: [], rows: [], numbers: {} }];
  run(process.execPath, [join(root, 'tools/build.ts')]);
  const { dir, remove } = scratch();
  try {
    const podway = (...args: string[]): string =>
      run(process.execPath, [join(root, 'dist/src/cli/main.js'), ...args], {
        env: { NODE_COMPILE_CACHE: dir },
      });
    const told = { podway: await measure(podway, 'podway'), ptp: await measure(podway, 'ptp') };
    return [tableOf(told)];
  } finally {
    remove();
  }
}

function tableOf(told: Record<Side, Record<ListName, Measured>>): BenchResult {
  const row = (name: string, { perMinute, running, cni, memory }: Measured) => [
    name,
    round(perMinute, 0),
    round(running.p50, 1),
    round(running.p99, 1),
    round(cni.add, 1),
    `${round(cni.share * 100, 2)} %`,
    round(cni.withNamespace, 1),
    round(cni.del, 1),
    memory.map(({ rss, peak, pss }) => [rss, peak, pss].map((mb) => round(mb, 1)).join('/')).join(', '),
  ];
  const ratios = Object.fromEntries(
    LISTS.map((list) => [list, told.podway[list].cni.share / told.ptp[list].cni.share]),
  );
  const texts = LISTS.map(
    (list) =>
      `${round(ratios[list]!, 2)} of ptp's ${list === 'alone' ? '(goal: at most 0.33)' : 'with portmap behind both'}`,
  );
  return {
    title: `density: ${PODS} pods on each of ${NODES.length} m5.4xlarge nodes at once; CNI's share is ${texts.join(', ')}`,
    head: [
      'CNI',
      'pods a minute',
      'bound to Running, s: p50',
      'p99',
      'CNI ADD, ms a pod',
      'share',
      'with the namespace, ms',
      'CNI DEL, ms',
      'agent, MB: now/peak/PSS',
    ],
    rows: LISTS.flatMap((list) => {
      const more = list === 'portmap' ? ', portmap' : '';
      return [row(`podway${more}`, told.podway[list]), row(`ptp, host-local${more}`, told.ptp[list])];
    }),
    numbers: { ...told, ratios },
  };
}

async function measure(
  podway: (...args: string[]) => string,
  side: Side,
): Promise<Record<ListName, Measured>> {
  const lab = `bench-density-${side}`;
  const settings = side === 'podway' ? [`env=MINIMUM_IP_TARGET=${PODS + 10}`, 'cooldown=0s'] : ['agent=none'];
  try {
    const set = [...settings, 'controller=none'].flatMap((one) => ['--set', one]);
    const shape = ['--nodes', `${NODES.length}`, '--instance-type', 'm5.4xlarge'];
    podway('lab', 'up', '--lab', lab, '--kubernetes', ...shape, ...set, '--quiet');
    if (side === 'ptp') for (const [index, node] of NODES.entries()) putPtp(lab, node, index);
    const { kubeconfig } = JSON.parse(podway('lab', 'status', '--lab', lab, '-o', 'json')) as LabStatus;
    const api = new KubeClient(await readKubeConfig(kubeconfig));
    try {
      await api.create(namespaces, { metadata: { name: NAMESPACE } });
      await runPods(api, WARM_UP);
      await removePods(api);
      const told: Partial<Record<ListName, Measured>> = {};
      for (const list of LISTS) {
        for (const node of NODES) chain(lab, node, list);
        await sleep(RELOAD_MS);
        told[list] = await density(api, lab, side);
      }
      return told as Record<ListName, Measured>;
    } finally {
      api.close();
    }
  } finally {
    podway('lab', 'down', '--lab', lab, '--quiet');
  }
}

async function density(api: KubeClient, lab: string, side: Side): Promise<Measured> {
  if (side === 'podway') for (const node of NODES) forgetPeak(lab, node);
  const before = await networkOf(lab);
  const { seconds, running } = await runPods(api, PODS);
  const after = await networkOf(lab);
  const memory = side === 'podway' ? NODES.map((node) => agentMemory(lab, node)) : [];
  await removePods(api);
  const end = await networkOf(lab);
  const add = per(before.add, after.add);
  const mean = running.reduce((sum, one) => sum + one, 0) / running.length;
  const { p50, p99 } = summarise(running);
  return {
    perMinute: (running.length / seconds) * 60,
    running: { p50, p99, mean },
    cni: {
      add: add * 1000,
      withNamespace: per(before.withNamespace, after.withNamespace) * 1000,
      del: per(after.del, end.del) * 1000,
      share: add / mean,
    },
    memory,
  };
}

/** Seconds an operation between two looks. */
const per = (from: Timer, to: Timer): number => (to.seconds - from.seconds) / (to.count - from.count);

/** Its own range of addresses on each node, which nobody else routes: pods of a node reach each other. */
function putPtp(lab: string, node: string, index: number): void {
  const { cniBinDir, cniConfDir } = labPaths(lab).node(node);
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: `10.244.${index}.0/24` }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  for (const dir of [cniBinDir, cniConfDir]) mkdirSync(dir, { recursive: true });
  for (const program of ['ptp', 'host-local']) copyFileSync(join(PTP_DIR, program), join(cniBinDir, program));
  const list = { cniVersion: '1.0.0', name: 'ptp', plugins: [{ type: 'ptp', mtu: 1500, ipam }] };
  writeFileSync(join(cniConfDir, '10-ptp.conflist'), JSON.stringify(list));
}

/** The node's list with its first plugin alone, or with portmap behind it. */
function chain(lab: string, node: string, list: ListName): void {
  const { cniBinDir, cniConfDir } = labPaths(lab).node(node);
  const name = readdirSync(cniConfDir).find((file) => file.endsWith('.conflist'))!;
  const file = join(cniConfDir, name);
  const { plugins, ...rest } = JSON.parse(readFileSync(file, 'utf8')) as { plugins: object[] };
  if (list === 'portmap') {
    rmSync(join(cniBinDir, 'portmap'), { force: true });
    copyFileSync(join(PTP_DIR, 'portmap'), join(cniBinDir, 'portmap'));
  }
  writeFileSync(
    file,
    // 1.0.0 is the greatest version that Debian 12's portmap speaks.
    JSON.stringify({ ...rest, plugins: [plugins[0], ...(list === 'portmap' ? [PORTMAP] : [])] }),
  );
}

/** Creates them all at once and waits until the last one runs. Seconds from first bound to Running of each. */
async function runPods(api: KubeClient, each: number): Promise<{ seconds: number; running: number[] }> {
  const bound = new Map<string, number>();
  const running = new Map<string, number>();
  const wanted = each * NODES.length;
  const stop = new AbortController();
  const { metadata } = await api.list(podKind, { namespace: NAMESPACE });
  const watching = (async () => {
    const query = { namespace: NAMESPACE, resourceVersion: metadata.resourceVersion! };
    for await (const event of api.watch(podKind, query, stop.signal)) {
      const object = event.object as Pod;
      const name = object.metadata.name!;
      const now = performance.now();
      if (object.spec.nodeName && !bound.has(name)) bound.set(name, now);
      if (object.status?.phase === 'Running' && !running.has(name)) running.set(name, now);
      if (running.size === wanted) return;
    }
    throw new Error('the watch ended');
  })();
  const late = sleep(WITHIN_MS, undefined, { signal: stop.signal, ref: false }).then(() => {
    throw new Error(`${running.size} of ${wanted} pods run after ${WITHIN_MS / 1000} s`);
  });
  late.catch(() => {});
  const began = performance.now();
  const names = NODES.flatMap((node) => Array.from({ length: each }, (_, index) => podOf(node, index)));
  await Promise.all(names.map((pod) => api.create(podKind, pod)));
  try {
    await Promise.race([watching, late]);
  } finally {
    stop.abort();
    await watching.catch(() => {});
  }
  const seconds = (performance.now() - began) / 1000;
  return { seconds, running: [...running].map(([name, at]) => (at - bound.get(name)!) / 1000) };
}

const podOf = (node: string, index: number): Pod => ({
  metadata: { name: `${node}-${index}`, namespace: NAMESPACE },
  spec: {
    nodeSelector: { 'kubernetes.io/hostname': node },
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'main', image: PAUSE_IMAGE }],
  },
});

async function removePods(api: KubeClient): Promise<void> {
  const { items } = await api.list(podKind, { namespace: NAMESPACE });
  await Promise.all(
    items.map(({ metadata }) => api.delete(podKind, metadata.name!, NAMESPACE, { gracePeriodSeconds: 1 })),
  );
  for (const end = performance.now() + WITHIN_MS; performance.now() < end; await sleep(500))
    if ((await api.list(podKind, { namespace: NAMESPACE })).items.length === 0) return;
  throw new Error('pods are left');
}

/** What containerd of all nodes says of its CNI calls. */
async function networkOf(lab: string): Promise<Network> {
  const pages = await Promise.all(
    NODES.map((node) =>
      runAsync('nsenter', [
        `--net=/run/netns/${labPaths(lab).netns(node)}`,
        process.execPath,
        '-e',
        `fetch('http://${CONTAINERD_METRICS}/v1/metrics').then((a) => a.text()).then((t) => process.stdout.write(t))`,
      ]),
    ),
  );
  const sum = (name: string) =>
    pages.reduce(
      (all, page) =>
        all +
        Number(
          page
            .split('\n')
            .find((line) => line.startsWith(`${name} `))
            ?.split(' ')[1] ?? 0,
        ),
      0,
    );
  const of = (name: string, labels = '') => ({
    count: sum(`${name}_count${labels}`),
    seconds: sum(`${name}_sum${labels}`),
  });
  // The plugins alone; what makes a sandbox's namespace is counted beside them.
  const plugins = 'containerd_cri_network_plugin_operations_duration_seconds_seconds';
  return {
    add: of(plugins, '{operation_type="set_up_pod"}'),
    del: of(plugins, '{operation_type="tear_down_pod"}'),
    withNamespace: of('containerd_cri_sandbox_create_network_seconds'),
  };
}

const agentPid = (lab: string, node: string): number =>
  (JSON.parse(readFileSync(labPaths(lab).node(node).agentPid, 'utf8')) as { pid: number }).pid;

/** Its peak counts from now on (proc(5), clear_refs). */
const forgetPeak = (lab: string, node: string): void =>
  writeFileSync(`/proc/${agentPid(lab, node)}/clear_refs`, '5');

/** Of the agent's process tree. */
function agentMemory(lab: string, node: string): Memory {
  const pid = agentPid(lab, node);
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It has ended meanwhile.
    }
  const isOurs = (one: number): boolean => one === pid || (one > 1 && isOurs(parents.get(one) ?? 0));
  const ours = [...parents.keys()].filter(isOurs);
  const sum = (file: string, field: string) =>
    ours.reduce((all, one) => all + mb(`/proc/${one}/${file}`, field), 0);
  return { rss: sum('status', 'VmRSS'), peak: sum('status', 'VmHWM'), pss: sum('smaps_rollup', 'Pss') };
}

const mb = (file: string, field: string): number =>
  (Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? 0) * 1024) / 1e6;
