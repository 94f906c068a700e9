// The connectivity test: what to ask is planned from the lab's status as values, each question is put by pod-probe in the
// namespace that it comes from, and the answer tells whose address the other side saw. Pods that are lacking for a
// question are made for the test and removed after it.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addToIp, formatIp, parseCidr } from '../../base/ip.ts';
import { forwardDrops, legacyForwardDrops } from '../../datapath/foreign.ts';
import { openNetns } from '../../kernel/netns.ts';
import { NfNetlink } from '../../kernel/nfnetlink.ts';
import { BUILT_IN_IMAGE } from '../cluster/command.ts';
import { SERVER_PORT } from '../cluster/nodes/cluster.ts';
import { readSettings } from '../shape/settings.ts';
import { INTERNET_HOST, INTERNET_HOST6 } from '../shape/shape.ts';
import { LabError } from './errors.ts';
import { closedGate, type Flow } from './gates.ts';
import type { Emit } from './http.ts';
import type { OpenLab } from './lab.ts';
import { type LabPaths, netnsPath } from './paths.ts';
import { deletePods, runPod } from './pods.ts';
import type { Check, InstanceView, LabStatus, NodeView, PodView } from './protocol.ts';
import { type WaysOut, waysOut } from './ways-out.ts';

const PROBE_TIMEOUT_MS = 10_000;
const POD_TIMEOUT_MS = 30_000;
const ROUND_TRIPS = 200;
const STREAM_MS = 250;
const TEMPORARY = 'connectivity';

export type Question = {
  name: string;
  from: string;
  to: string;
  /** Path of the namespace that asks. */
  netnsPath: string;
  args: string[];
  /** The exact answer. */
  expected: string;
  flow?: Flow;
  /** Log of an instance that must tell of this address. */
  log?: { file: string; address: string };
};

type Places = WaysOut & {
  pods: PodView[];
  nodes: NodeView[];
  db: InstanceView | undefined;
  gatewayOf(node: NodeView, family: 4 | 6): string;
  instanceLog(name: string): string;
  internetNetns: string;
};

/** Every question that the lab's parts allow, family by family; pure. */
export const planQuestions = (places: Places): Question[] => [
  ...questionsOf(places, 4),
  ...questionsOf(places, 6).map((each) => ({ ...each, name: `${each.name}-ipv6` })),
];

/** With the addresses of one family alone; undefined for what has none. */
function inFamily<T extends { ips: string[] }>(place: T | undefined, family: 4 | 6): T | undefined {
  const ip = place?.ips.find((each) => each.includes(':') === (family === 6));
  return place && ip !== undefined ? { ...place, ips: [ip] } : undefined;
}

const IMDS = { 4: '169.254.169.254', 6: 'fd00:ec2::254' } as const;
const INTERNET = { 4: INTERNET_HOST, 6: INTERNET_HOST6 } as const;

function questionsOf(places: Places, family: 4 | 6): Question[] {
  const { gatewayOf, leadsOut6, seenOf, toIpv4, instanceLog } = places;
  const pods = places.pods.flatMap((pod) => inFamily(pod, family) ?? []);
  const nodes = places.nodes.flatMap((node) => inFamily(node, family) ?? []);
  const db = inFamily(places.db, family);
  const questions: Question[] = [];
  const on = (node: NodeView | undefined) => pods.filter((pod) => pod.node === node?.name);
  const [first, second] = nodes.filter((node) => on(node).length > 0);
  if (!first) return [];
  const [a, b] = on(first);
  const far = on(second)[0];
  const port = String(SERVER_PORT);
  const tcp = (
    name: string,
    from: PodView | InstanceView,
    to: PodView | InstanceView,
    more: string[] = [],
  ): Question => ({
    name,
    from: from.name,
    to: to.name,
    netnsPath: from.netnsPath,
    args: ['tcp', to.ips[0]!, port, ...more],
    expected: `${to.name} ${from.ips[0]}`,
    flow: { from: from.ips[0]!, to: to.ips[0]!, protocol: 'tcp', port: SERVER_PORT },
  });
  const measured = [String(ROUND_TRIPS), String(STREAM_MS)];
  if (a && b) questions.push(tcp('pod-to-pod-same-node', a, b, measured));
  if (a && far) questions.push(tcp('pod-to-pod-across-nodes', a, far, measured));
  if (a && far)
    questions.push({
      ...tcp('pod-to-pod-udp', a, far),
      args: ['udp', far.ips[0]!, port],
      flow: { from: a.ips[0]!, to: far.ips[0]!, protocol: 'udp', port: SERVER_PORT },
    });
  if (a) questions.push(tcp('node-to-own-pod', first, a));
  if (a && second) questions.push(tcp('node-to-pod-across-nodes', second, a));
  if (a && b && far) questions.push(tcp('two-pods-same-port', far, a), tcp('two-pods-same-port', far, b));
  if (a && db) {
    const file = instanceLog(db.name);
    questions.push({
      ...tcp('pod-to-instance', a, db, [String(ROUND_TRIPS)]),
      log: { file, address: a.ips[0]! },
    });
    if (far) questions.push({ ...tcp('pod-to-instance', far, db), log: { file, address: far.ips[0]! } });
    questions.push(tcp('instance-to-pod', db, a));
  }
  if (a) {
    const gateway = gatewayOf(first, family);
    questions.push({
      name: 'pod-to-router',
      from: a.name,
      to: `router ${gateway}`,
      netnsPath: a.netnsPath,
      args: ['ping', gateway, '10'],
      expected: `reply from ${gateway}`,
    });
    // Nothing translates IPv6: the internet sees the pod itself.
    const seen = family === 4 ? seenOf(first) : leadsOut6(first) ? a.ips[0] : undefined;
    if (seen) {
      questions.push({
        name: 'pod-to-internet',
        from: a.name,
        to: `internet ${INTERNET[family]}`,
        netnsPath: a.netnsPath,
        args: ['tcp', INTERNET[family], port, String(ROUND_TRIPS)],
        expected: `internet ${seen}`,
      });
    }
    const ipv4 = family === 6 && places.pods.every((pod) => pod.ips.length === 1) ? toIpv4(first) : undefined;
    if (ipv4)
      questions.push({
        name: 'pod-to-ipv4-internet',
        from: a.name,
        to: `internet ${ipv4.address}`,
        netnsPath: a.netnsPath,
        args: ['tcp', ipv4.address, port, String(ROUND_TRIPS)],
        expected: `internet ${ipv4.seen}`,
      });
    const imds = (from: PodView | NodeView) => ({
      name: from === first ? 'node-to-imds' : 'pod-to-imds',
      from: from.name,
      to: 'IMDS',
      netnsPath: from.netnsPath,
      args: ['imds', IMDS[family], '/latest/meta-data/instance-id'],
      expected: first.instanceId,
    });
    questions.push(imds(first), imds(a));
  }
  return questions;
}

export async function testConnectivity(
  lab: OpenLab,
  status: LabStatus,
  paths: LabPaths,
  signal: AbortSignal,
  emit: Emit,
): Promise<{ checks: Check[] }> {
  const nodes = status.nodes.filter((node) => node.ready);
  if (nodes.length === 0) throw new LabError('NO_READY_NODE', 'no node is ready', 'podway node list');
  const { pods, temporary } = await enoughPods(lab, nodes, signal, (text) =>
    emit({ kind: 'progress', text }),
  );
  try {
    const db = status.instances.find((each) => each.name === 'db' && each.state === 'running');
    const questions = planQuestions({
      pods,
      nodes,
      db,
      gatewayOf: (node, family) => gatewayOf(status, lab, node, family),
      ...waysOut(lab.vpc.state(), readSettings(lab.record.shape.settings).egress4),
      instanceLog: (name) => join(paths.instance(name), 'log'),
      internetNetns: netnsPath(paths.netns('internet')),
    });
    const checks: Check[] = [];
    for (const question of questions) {
      if (signal.aborted) break;
      emit({ kind: 'progress', text: `${question.name}: ${question.from} -> ${question.to}` });
      const check = await ask(lab, question, () => obstacleOn(nodes));
      emit({ kind: 'item', item: check });
      checks.push(check);
    }
    return { checks };
  } finally {
    if (temporary.length > 0)
      await deletePods(
        lab,
        { namespace: 'default', names: temporary, timeoutMs: POD_TIMEOUT_MS },
        new AbortController().signal,
      );
  }
}

function gatewayOf(status: LabStatus, lab: OpenLab, node: NodeView, family: 4 | 6): string {
  const subnetId = lab.vpc.state().instances[node.instanceId]?.subnetId;
  const subnet = status.vpcs.flatMap((vpc) => vpc.subnets).find((each) => each.id === subnetId)!;
  return formatIp(addToIp(parseCidr(family === 4 ? subnet.cidr : subnet.ipv6Cidr!).ip, 1));
}

/** Two servers on the first node, one on the second: running pods are used, missing ones are made. */
async function enoughPods(
  lab: OpenLab,
  nodes: NodeView[],
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<{ pods: PodView[]; temporary: string[] }> {
  const servers = (): PodView[] =>
    lab.store.pods().flatMap((pod) => {
      const sandbox = lab.cluster.sandboxOf(pod);
      const serves =
        pod.spec.containers[0]?.image === BUILT_IN_IMAGE &&
        pod.status?.phase === 'Running' &&
        !pod.spec.hostNetwork;
      if (!serves || sandbox?.state !== 'made' || pod.metadata.deletionTimestamp) return [];
      return [
        {
          namespace: pod.metadata.namespace!,
          name: pod.metadata.name!,
          node: sandbox.node,
          ips: sandbox.ips,
          phase: 'Running',
          netns: sandbox.netns,
          netnsPath: sandbox.netnsPath ?? netnsPath(sandbox.netns),
        },
      ];
    });
  const present = servers();
  const count = (node: NodeView) => present.filter((pod) => pod.node === node.name).length;
  // The node with most pods asks, so that as few as possible are made.
  const [first, second] = [...nodes].sort((x, y) => count(y) - count(x));
  const lacking = [
    ...Array.from({ length: Math.max(0, 2 - count(first!)) }, () => first!.name),
    ...(second && count(second) === 0 ? [second.name] : []),
  ];
  const temporary = lacking.map((_, index) => `${TEMPORARY}-${index + 1}`);
  await deletePods(lab, { namespace: 'default', names: temporary, timeoutMs: POD_TIMEOUT_MS }, signal);
  await Promise.all(
    lacking.map((node, index) =>
      runPod(
        lab,
        {
          namespace: 'default',
          name: temporary[index]!,
          node,
          labels: { app: TEMPORARY },
          command: [],
          timeoutMs: POD_TIMEOUT_MS,
          wait: true,
        },
        signal,
        (text) => say(`pod ${temporary[index]}: ${text}`),
      ),
    ),
  );
  const pods = servers();
  nodes.sort(
    (x, y) =>
      pods.filter((pod) => pod.node === y.name).length - pods.filter((pod) => pod.node === x.name).length,
  );
  return { pods, temporary };
}

type Answer = {
  answer?: string;
  error?: string;
  connectUs?: number;
  rttUs?: { min: number; p50: number; p99: number };
  streamBytes?: number;
  streamUs?: number;
};

/** A sentence for a foreign chain that drops packets that a node forwards. */
async function obstacleOn(nodes: NodeView[]): Promise<string | undefined> {
  for (const node of nodes) {
    using netns = openNetns(node.netnsPath);
    using nf = NfNetlink.open(netns);
    const [drop] = [...(await forwardDrops(nf)), ...legacyForwardDrops(netns)];
    if (drop) return `on ${node.name}, ${drop}`;
  }
  return undefined;
}

async function ask(
  lab: OpenLab,
  question: Question,
  obstacle: () => Promise<string | undefined>,
): Promise<Check> {
  const began = performance.now();
  let answer = await probe(lab.programs.probe, question);
  // A server that has just been started may not listen yet.
  for (let tries = 0; tries < 20 && answer.error?.includes('refused'); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    answer = await probe(lab.programs.probe, question);
  }
  const ms = Math.round((performance.now() - began) * 10) / 10;
  const answered = answer.answer === question.expected;
  const logged = !question.log || logTells(question.log);
  const gate = answer.error && question.flow ? closedGate(lab.vpc.state(), question.flow) : undefined;
  const why = answer.error ? (gate ?? (await obstacle())) : undefined;
  const observed = answer.error ? `${answer.error}${why ? `; ${why}` : ''}` : (answer.answer ?? 'nothing');
  return {
    name: question.name,
    from: question.from,
    to: question.to,
    expected: question.expected,
    observed:
      answered && !logged
        ? `${observed}, and its log does not tell of ${question.log!.address}`
        : answered
          ? `${observed}${figuresText(answer)}`
          : observed,
    ok: answered && logged,
    ms,
    figures: figuresOf(answer),
  };
}

/** One question, put in the namespace `netnsPath`. */
export function probe(
  program: string,
  { netnsPath, args }: Pick<Question, 'netnsPath' | 'args'>,
): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(
      'nsenter',
      [`--net=${netnsPath}`, '--', program, ...args],
      { timeout: PROBE_TIMEOUT_MS },
      (error, stdout) => {
        try {
          resolve(JSON.parse(stdout) as Answer);
        } catch {
          resolve({ error: error?.message ?? 'no answer' });
        }
      },
    );
  });
}

function logTells({ file, address }: { file: string; address: string }): boolean {
  try {
    const written = address.includes(':') ? `[${address}]` : address;
    return readFileSync(file, 'utf8').includes(` ${written}:`);
  } catch {
    return false;
  }
}

function figuresOf(answer: Answer): Record<string, number> {
  const { rttUs, streamBytes, streamUs, connectUs } = answer;
  return {
    ...(connectUs === undefined ? {} : { connectMicroseconds: connectUs }),
    ...(rttUs ? { rttP50Microseconds: rttUs.p50, rttP99Microseconds: rttUs.p99 } : {}),
    ...(streamBytes && streamUs ? { echoedMegabitsPerSecond: Math.round((streamBytes * 8) / streamUs) } : {}),
  };
}

function figuresText(answer: Answer): string {
  const figures = figuresOf(answer);
  const parts: string[] = [];
  if (figures['rttP50Microseconds'] !== undefined)
    parts.push(`round trip ${figures['rttP50Microseconds']} µs`);
  if (figures['echoedMegabitsPerSecond'] !== undefined)
    parts.push(`${(figures['echoedMegabitsPerSecond'] / 1000).toFixed(1)} Gbit/s each way`);
  return parts.length > 0 ? ` (${parts.join(', ')})` : '';
}
