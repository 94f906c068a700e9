// The connectivity test of a cluster: short-lived pods on two nodes, of the pod network and of the node's, ask each other
// over TCP and UDP; each answer says whose address the server saw. The pods run the built-in server of this program's
// image; they are removed whatever happens. What to ask is planned from values.
import { randomBytes } from 'node:crypto';
import type { KubeClient, Pod } from '../../kube/index.ts';
import { pods } from '../../kube/index.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Check } from '../../lab/daemon/protocol.ts';
import type { Agent, Cluster } from './agents.ts';
import { execInPod } from './exec.ts';

const CONTAINER = 'probe';
const LABEL = 'podway.dev/connectivity-test';
const READY_MS = 180_000;
const LOOK_MS = 500;
/** A command in a pod: its start on a busy node, and the probe's own limit of 5 s. */
const ASK_MS = 60_000;
/** Questions at once: each starts a program in a container, and a test must not look like a load. */
const AT_ONCE = 2;

export type Member = { name: string; node: string; hostNetwork: boolean };
export type Question = { name: string; from: Member; to: Member; protocol: 'tcp' | 'udp' };

/** Two pods and the node itself on the first node, one pod and the node on the second. */
export function planMembers(nodes: readonly string[]): Member[] {
  const [first, second] = nodes;
  if (first === undefined) return [];
  return [
    { name: 'pod-a', node: first, hostNetwork: false },
    { name: 'pod-b', node: first, hostNetwork: false },
    { name: 'node-a', node: first, hostNetwork: true },
    ...(second === undefined
      ? []
      : [
          { name: 'pod-c', node: second, hostNetwork: false },
          { name: 'node-c', node: second, hostNetwork: true },
        ]),
  ];
}

const kind = ({ hostNetwork }: Member): string => (hostNetwork ? 'node' : 'pod');

/** Every ordered pair of members, by TCP; pods among themselves by UDP too. */
export function planQuestions(members: readonly Member[]): Question[] {
  return members.flatMap((from) =>
    members
      .filter((to) => to !== from)
      .flatMap((to): Question[] => {
        const where = from.node === to.node ? 'same-node' : 'across-nodes';
        const name = `${kind(from)}-to-${kind(to)}-${where}`;
        const tcp: Question = { name, from, to, protocol: 'tcp' };
        return from.hostNetwork || to.hostNetwork
          ? [tcp]
          : [tcp, { ...tcp, name: `${name}-udp`, protocol: 'udp' }];
      }),
  );
}

export function podOf(member: Member, run: string, port: number, image: string): Pod {
  // As strict as Pod Security knows, for whoever looks at it; the pods of the node's network need a namespace that allows that.
  const securityContext = {
    runAsNonRoot: true,
    runAsUser: 65534,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  };
  const container = {
    name: CONTAINER,
    image,
    command: ['podway', 'probe', 'serve', '--name', member.name, '--port', String(port)],
    resources: { requests: { cpu: '10m', memory: '32Mi' } },
    // Ready when the kubelet reaches the server: then it listens.
    readinessProbe: { tcpSocket: { port }, periodSeconds: 1, timeoutSeconds: 5 },
    securityContext,
  };
  const spec = {
    nodeName: member.node,
    hostNetwork: member.hostNetwork,
    restartPolicy: 'Never' as const,
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    tolerations: [{ operator: 'Exists' }],
    containers: [container],
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `podway-${run}-${member.name}`, labels: { [LABEL]: run } },
    spec,
  };
}

export type ConnectivityOptions = { image?: string; say: (text: string) => void; signal: AbortSignal };

export async function testCluster(cluster: Cluster, options: ConnectivityOptions): Promise<Check[]> {
  const agents = (await cluster.agents()).filter((agent) => agent.running);
  const image = options.image ?? cluster.image;
  if (image === undefined) throw new LabError('NO_IMAGE', 'the agents tell no image', 'name one by --image');
  const members = planMembers([...new Set(agents.map((agent: Agent) => agent.node))]);
  if (members.length === 0) throw new LabError('NO_READY_NODE', 'no agent runs', 'kubectl podway status');
  const run = randomBytes(3).toString('hex');
  // Of the node's own ports too: one that is rarely taken.
  const port = 20_000 + (randomBytes(2).readUInt16BE() % 10_000);
  const { client, namespace } = cluster;
  try {
    options.say(`starting ${members.length} pods in namespace ${namespace}`);
    for (const member of members)
      await client.create(pods, podOf(member, run, port, image), namespace, options.signal);
    const addresses = await addressesOf(client, namespace, run, members, options.signal);
    const questions = planQuestions(members);
    const checks: Check[] = [];
    let next = 0;
    const worker = async () => {
      for (let at = next++; at < questions.length; at = next++) {
        options.signal.throwIfAborted();
        const { name, from, to } = questions[at]!;
        options.say(`${name}: ${from.name} to ${to.name}`);
        checks[at] = await ask(cluster, questions[at]!, run, port, addresses);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return checks;
  } finally {
    options.say('removing the pods');
    await remove(client, namespace, run, members);
  }
}

async function remove(client: KubeClient, namespace: string, run: string, members: Member[]): Promise<void> {
  const names = members.map((member) => `podway-${run}-${member.name}`);
  const ends = await Promise.allSettled(
    names.map((name) => client.delete(pods, name, namespace, { gracePeriodSeconds: 0 })),
  );
  const left = names.filter((_, at) => {
    const end = ends[at]!;
    return end.status === 'rejected' && (end.reason as { code?: number }).code !== 404;
  });
  if (left.length > 0)
    throw new LabError(
      'PODS_LEFT',
      `pods ${left.join(', ')} could not be removed`,
      `kubectl -n ${namespace} delete pod -l ${LABEL}=${run}`,
    );
}

/** Address of each member, when all run. Throws NOT_RUNNING, which says of one what keeps it. */
async function addressesOf(
  client: KubeClient,
  namespace: string,
  run: string,
  members: readonly Member[],
  signal: AbortSignal,
): Promise<Map<string, string>> {
  for (const end = performance.now() + READY_MS; ; ) {
    const { items } = await client.list(pods, { namespace, labelSelector: `${LABEL}=${run}` }, signal);
    const running = items.filter((pod) => isReady(pod) && pod.status?.podIP);
    if (running.length === members.length)
      return new Map(
        running.map((pod) => [pod.metadata.name!.replace(`podway-${run}-`, ''), pod.status!.podIP!]),
      );
    if (performance.now() > end || items.some((pod) => pod.status?.phase === 'Failed')) {
      const late = items.find((pod) => !isReady(pod)) ?? items[0];
      const waiting = late?.status?.containerStatuses?.[0]?.state?.waiting;
      const why = waiting
        ? `${waiting.reason ?? ''} ${waiting.message ?? ''}`.trim()
        : (late?.status?.phase ?? 'not seen');
      throw new LabError(
        'NOT_RUNNING',
        `pod ${late?.metadata.name} on ${late?.spec.nodeName} is not ready: ${why}`,
        'kubectl describe tells its Events; --image names another image',
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;

async function ask(
  cluster: Cluster,
  { name, from, to, protocol }: Question,
  run: string,
  port: number,
  addresses: ReadonlyMap<string, string>,
): Promise<Check> {
  const target = { namespace: cluster.namespace, pod: `podway-${run}-${from.name}`, container: CONTAINER };
  const address = addresses.get(to.name)!;
  const expected = `${to.name} ${addresses.get(from.name)}`;
  const began = performance.now();
  const answer = await probe(cluster, target, [protocol, address, String(port)]);
  const ms = answer.ms ?? Math.round(performance.now() - began);
  const observed = answer.answer ?? answer.error ?? 'nothing';
  return {
    name,
    from: `${from.name} (${from.node})`,
    to: `${to.name} (${to.node})`,
    expected,
    observed,
    ok: observed === expected,
    ms,
  };
}

type Probed = { answer?: string; error?: string; ms?: number };

async function probe(
  cluster: Cluster,
  target: Parameters<typeof execInPod>[1],
  words: string[],
): Promise<Probed> {
  try {
    const { stdout, stderr } = await execInPod(cluster.config, target, ['podway', 'probe', 'ask', ...words], {
      timeoutMs: ASK_MS,
    });
    return stdout.trim() === '' ? { error: stderr.trim() } : (JSON.parse(stdout) as Probed);
  } catch (error) {
    return { error: (error as Error).message };
  }
}
