// branch-start: ms from a pod's binding to the answer of its ADD, of pods with security groups of their own beside
// plain pods of the same node and run, on the embedded cluster and on a real Kubernetes, with EC2's times
// (ec2Latency=realistic). EC2's own calls for the pod are in the lab's list of calls; the rest is Podway's: controller,
// watches, annotation, agent, kernel. The plugin is started by a shell that writes down when.
// PODWAY_BENCH_CLUSTER=embedded|kubernetes: one alone.
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { followEach, KubeClient, POD_ENI, pods, readKubeConfig } from '../src/kube/index.ts';
import type { CallsView } from '../src/lab/daemon/protocol.ts';
import { missingKubernetes } from '../test/support/kubernetes.ts';
import { BranchLab, branchShape } from './branch-world.ts';
import { podway, scratch } from './run.ts';
import { type BenchResult, round, type Summary, summarise } from './stats.ts';

const ONE_BY_ONE = 20;
const AT_ONCE = 10;
/** Branches on the node beside those of the last pods, and how many pods those are. The embedded cluster alone. */
const MANY = 100;
const BESIDE_MANY = 10;
const NODE = 'node-1';
/** EC2's calls for one pod's branch. */
const OWN = new Set(['CreateNetworkInterface', 'AssociateTrunkInterface']);
const ADD_MS = 60_000;
const GOAL_MS = 100;

type Cluster = 'embedded' | 'kubernetes';
type Kind = 'plain' | 'branch';
/** All in ms: from the binding to ADD's answer, EC2's own calls meanwhile, and from the annotation to ADD's answer. */
type Start = { total: number; ec2: number; node: number };

export async function bench(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  const only = process.env['PODWAY_BENCH_CLUSTER'];
  for (const cluster of ['embedded', 'kubernetes'] as const) {
    if (only && only !== cluster) continue;
    const lack = cluster === 'kubernetes' && missingKubernetes();
    if (lack) results.push({ title: `branch-start: not run: ${lack}`, head: [], rows: [], numbers: {} });
    else results.push(await measure(cluster));
  }
  return results;
}

async function measure(cluster: Cluster): Promise<BenchResult> {
  const name = `bench-start-${cluster === 'embedded' ? 'e' : 'k'}`;
  const { dir, remove } = scratch();
  let lab: BranchLab | undefined;
  const ending = new AbortController();
  try {
    const file = join(dir, 'lab.yaml');
    const node = `{ name: ${NODE}, type: m5.metal, subnet: a, securityGroups: [nodes] }`;
    const settings = `{ ec2Latency: realistic, warm: ${ONE_BY_ONE + AT_ONCE + BESIDE_MANY} }`;
    writeFileSync(file, branchShape([node], settings));
    const real = cluster === 'kubernetes' ? ['--kubernetes'] : [];
    podway('lab', 'up', '--lab', name, '-f', file, ...real, '--quiet');
    lab = await BranchLab.open(name);
    const log = watchPlugin(lab.status.nodes[0]!.cniBinDir);
    const told = new Map<string, number>();
    void watchAnnotations(lab, told, ending.signal);
    const one = await oneByOne(lab, log, told, ONE_BY_ONE);
    const many = await atOnce(lab, log);
    const full = cluster === 'embedded' ? await besideMany(lab, log, told) : null;
    return show(cluster, one, many, full);
  } finally {
    ending.abort();
    lab?.close();
    podway('lab', 'down', '--lab', name, '--quiet');
    remove();
  }
}

/** Puts a shell in the plugin's place; answers its log: per call the verb, CNI_ARGS, begin, end and exit code. */
function watchPlugin(dir: string): string {
  const [plugin, log] = [join(dir, 'podway-cni'), join(dir, 'calls.log')];
  const real = `${plugin}.real`;
  if (!existsSync(real)) renameSync(plugin, real);
  const script = [
    '#!/bin/bash',
    'own=$' + '{BASH_SOURCE[0]%/*}',
    'began=$EPOCHREALTIME',
    '"$own/podway-cni.real" "$@"; code=$?',
    'echo "$CNI_COMMAND $CNI_ARGS $began $EPOCHREALTIME $code" >> "$own/calls.log"',
    'exit $code',
  ];
  writeFileSync(plugin, `${script.join('\n')}\n`);
  chmodSync(plugin, 0o755);
  writeFileSync(log, '');
  return log;
}

/** When each pod's annotation was first seen here (ms since 1970), by a watch like the agent's. */
async function watchAnnotations(
  lab: BranchLab,
  told: Map<string, number>,
  signal: AbortSignal,
): Promise<void> {
  const client = new KubeClient(await readKubeConfig(lab.status.kubeconfig));
  const put = ({
    metadata: { name = '', annotations },
  }: {
    metadata: { name?: string; annotations?: Record<string, string> };
  }) => {
    if (annotations?.[POD_ENI] !== undefined && !told.has(name)) told.set(name, Date.now());
  };
  const sink = { replace: (all: Parameters<typeof put>[0][]) => all.forEach(put), put, remove: () => {} };
  await followEach(client, pods, { sink, onAway: () => {} }, signal).catch(() => {});
  client.close();
}

/** When the pod's ADD was answered (ms since 1970). */
async function added(log: string, pod: string): Promise<number> {
  const end = performance.now() + ADD_MS;
  for (;;) {
    for (const line of readFileSync(log, 'utf8').split('\n')) {
      const [verb, args = '', , ended, code] = line.split(' ');
      if (verb !== 'ADD' || code !== '0' || !args.split(';').includes(`K8S_POD_NAME=${pod}`)) continue;
      return Number(ended) * 1000;
    }
    if (performance.now() > end) throw new Error(`ADD of ${pod} is not answered after ${ADD_MS / 1000} s`);
    await sleep(20);
  }
}

const calls = (lab: string): CallsView =>
  JSON.parse(podway('lab', 'calls', '--lab', lab, '-o', 'json')) as CallsView;

async function oneByOne(
  lab: BranchLab,
  log: string,
  told: ReadonlyMap<string, number>,
  count: number,
  prefix = '',
): Promise<Record<Kind, Start[]>> {
  const starts: Record<Kind, Start[]> = { plain: [], branch: [] };
  const spans: { kind: Kind; pod: string; bound: number; ended: number }[] = [];
  for (let at = 0; at < count * 2; at++) {
    const kind = at % 2 === 0 ? 'branch' : 'plain';
    const pod = `${prefix}${kind}-${at}`;
    await lab.make(pod, kind, NODE);
    const bound = Date.now();
    spans.push({ kind, pod, bound, ended: await added(log, pod) });
    await lab.running([pod]);
  }
  const own = calls(lab.name).calls.filter(({ action }) => OWN.has(action));
  for (const { kind, pod, bound, ended } of spans) {
    // A call begins before the answer of the pod's creation is here.
    const ec2 = own.filter(({ at }) => Date.parse(at) >= bound - 50 && Date.parse(at) <= ended);
    const sum = kind === 'plain' ? 0 : ec2.reduce((ms, call) => ms + call.ms, 0);
    starts[kind].push({ total: ended - bound, ec2: sum, node: ended - (told.get(pod) ?? bound) });
  }
  return starts;
}

/** With so many branches on the node before the first. */
async function besideMany(
  lab: BranchLab,
  log: string,
  told: ReadonlyMap<string, number>,
): Promise<Record<Kind, Start[]>> {
  const names = Array.from({ length: MANY - ONE_BY_ONE - AT_ONCE }, (_, at) => `branch-more-${at}`);
  // As many at once as are measured above, so that EC2's allowance for calls lasts.
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const some = names.slice(at, at + AT_ONCE);
    await Promise.all(some.map((name) => lab.make(name, 'branch', NODE)));
    await lab.running(some);
  }
  return oneByOne(lab, log, told, BESIDE_MANY, 'full-');
}

async function atOnce(lab: BranchLab, log: string): Promise<Record<Kind, number[]>> {
  const totals: Record<Kind, number[]> = { plain: [], branch: [] };
  for (const kind of ['branch', 'plain'] as const) {
    const names = Array.from({ length: AT_ONCE }, (_, at) => `${kind}-at-once-${at}`);
    const bound = await Promise.all(names.map(async (name) => lab.make(name, kind, NODE).then(Date.now)));
    for (const [at, name] of names.entries()) totals[kind].push((await added(log, name)) - bound[at]!);
    await lab.running(names);
  }
  return totals;
}

function show(
  cluster: Cluster,
  one: Record<Kind, Start[]>,
  many: Record<Kind, number[]>,
  full: Record<Kind, Start[]> | null,
): BenchResult {
  const cells = ({ p50, p90, max }: Summary) => [round(p50, 1), round(p90, 1), round(max, 1)];
  const of = (kind: Kind, pick: (start: Start) => number) => summarise(one[kind].map(pick));
  const total = of('branch', ({ total: ms }) => ms);
  const ec2 = of('branch', ({ ec2: ms }) => ms);
  const rest = of('branch', ({ total: ms, ec2: own }) => ms - own);
  const node = of('branch', ({ node: ms }) => ms);
  const plain = of('plain', ({ total: ms }) => ms);
  const beside = full && {
    rest: summarise(full.branch.map(({ total: ms, ec2: own }) => ms - own)),
    node: summarise(full.branch.map(({ node: ms }) => ms)),
    plain: summarise(full.plain.map(({ total: ms }) => ms)),
  };
  const besideRow = (pods: string, what: string, summary: Summary) => [
    `${pods}, beside ${MANY} branches`,
    what,
    ...cells(summary),
  ];
  return {
    title: `branch-start on ${cluster === 'embedded' ? 'the embedded cluster' : 'a real Kubernetes'}: ms from a pod's binding to the answer of its ADD, ec2Latency=realistic, ${ONE_BY_ONE} pods of each kind in turn, then ${AT_ONCE} at once${full ? `, then ${BESIDE_MANY} of each kind in turn beside ${MANY} branches` : ''}; the goal is EC2's own calls plus ${GOAL_MS} ms at p50`,
    head: ['pods', 'what', 'p50', 'p90', 'max'],
    rows: [
      ['with groups, one by one', 'bound to ADD answered', ...cells(total)],
      ['with groups, one by one', "of it EC2's own calls", ...cells(ec2)],
      ['with groups, one by one', 'of it the rest', ...cells(rest)],
      ['with groups, one by one', 'of the rest, from the annotation on', ...cells(node)],
      ['plain, one by one', 'bound to ADD answered', ...cells(plain)],
      [`with groups, ${AT_ONCE} at once`, 'bound to ADD answered', ...cells(summarise(many.branch))],
      [`plain, ${AT_ONCE} at once`, 'bound to ADD answered', ...cells(summarise(many.plain))],
      ...(beside
        ? [
            besideRow('with groups', "the rest but EC2's own calls", beside.rest),
            besideRow('with groups', 'of it from the annotation on', beside.node),
            besideRow('plain', 'bound to ADD answered', beside.plain),
          ]
        : []),
    ],
    numbers: { total, ec2, rest, node, plain, atOnce: many, beside },
  };
}
