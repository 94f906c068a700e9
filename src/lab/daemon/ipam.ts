// `ipam show` and `ipam check`: asks each node's agent over its introspection socket, and compares here what only the
// lab sees (an address on two nodes, a sandbox without pod, a pod without sandbox).

import { existsSync } from 'node:fs';
import http from 'node:http';
import type { Explanation } from '../../ipam/views/explain.ts';
import type { Pod } from '../../kube/types.ts';
import { readSettings } from '../shape/settings.ts';
import { LabError } from './errors.ts';
import type { OpenLab } from './lab.ts';
import type { ClusterNode, PodSandbox } from './lab-cluster.ts';
import { netnsPath } from './paths.ts';
import type { Difference, IpamAddress, IpamCheck, IpamNode } from './protocol.ts';
import { podMessage } from './view.ts';

const TIMEOUT_MS = 15_000;

/** A request to a node's introspection socket. Throws LabError AGENT_UNREACHABLE, or what the agent answers. */
function askAgent<T>(node: ClusterNode, path: string, method: 'GET' | 'POST' = 'GET'): Promise<T> {
  return new Promise((resolve, reject) => {
    const unreachable = (cause: Error) =>
      reject(
        new LabError(
          'AGENT_UNREACHABLE',
          `the agent of ${node.name} does not answer: ${cause.message}`,
          `podway lab logs ${node.name}`,
          { cause },
        ),
      );
    const options = { socketPath: node.paths.apiSocket, path, method, timeout: TIMEOUT_MS, agent: false };
    const request = http.request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', unreachable);
      response.once('end', () => {
        try {
          const value = JSON.parse(Buffer.concat(chunks).toString()) as T & {
            error?: { code: string; message: string; next: string };
          };
          if (response.statusCode === 200) return resolve(value);
          const {
            code = 'AGENT_UNREACHABLE',
            message = `HTTP ${response.statusCode}`,
            next = `podway lab logs ${node.name}`,
          } = value.error ?? {};
          reject(new LabError(code, `${node.name}: ${message}`, next));
        } catch (error) {
          unreachable(error as Error);
        }
      });
    });
    request.once('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    request.once('error', unreachable);
    request.end();
  });
}

function nodesOf(lab: OpenLab, name?: string): ClusterNode[] {
  const nodes = lab.cluster.nodes().sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  if (name === undefined) return nodes;
  const node = nodes.find((each) => each.name === name);
  if (!node) throw new LabError('NO_SUCH_NODE', `there is no running node ${name}`, 'podway node list');
  return [node];
}

/** Where somebody else brings the agents (`agent=none`), a node that nobody is asked for has none yet. */
function withAgent(lab: OpenLab, name?: string): ClusterNode[] {
  const nodes = nodesOf(lab, name);
  if (name !== undefined || readSettings(lab.record.shape.settings).agent !== 'none') return nodes;
  return nodes.filter((node) => existsSync(node.paths.apiSocket));
}

export async function showIpam(lab: OpenLab, name?: string): Promise<IpamNode[]> {
  const shown = await Promise.all(withAgent(lab, name).map((node) => askAgent<IpamNode>(node, '/v1/ipam')));
  return shown.map((node) => ({
    ...node,
    enis: node.enis.map((eni) => ({ ...eni, addresses: eni.addresses.map((each) => withPod(lab, each)) })),
  }));
}

/** What a node's pool decides now, or why one pod has no address; `subject` is a node, a pod, or namespace/pod. */
export async function explainIpam(lab: OpenLab, subject: string, namespace: string): Promise<Explanation> {
  const node = lab.cluster.nodes().find((each) => each.name === subject);
  if (node) return askAgent<Explanation>(node, '/v1/explain');
  const [own, name] = subject.includes('/')
    ? (subject.split('/', 2) as [string, string])
    : [namespace, subject];
  const pod = lab.store.pod(own, name);
  if (!pod)
    throw new LabError(
      'NO_SUCH_POD',
      `no node is called ${subject}, and no pod of namespace ${own} is called ${name}`,
      'podway node list and podway pod list show what there is',
    );
  if (pod.spec.hostNetwork)
    throw new LabError('NO_ADDRESS_NEEDED', `pod ${own}/${name} uses the node's network`, 'podway node list');
  const of = lab.cluster.nodes().find((each) => each.name === pod.spec.nodeName);
  if (!of) {
    const bound = lab.store.nodes().find((each) => each.metadata.name === pod.spec.nodeName);
    const message = podMessage(pod, bound);
    throw new LabError(
      message?.code ?? 'UNSCHEDULABLE',
      `pod ${own}/${name} is on no running node: ${message?.text ?? 'it is not bound yet'}`,
      'podway pod list; podway node list',
    );
  }
  return askAgent<Explanation>(of, `/v1/explain?pod=${encodeURIComponent(`${own}/${name}`)}`);
}

/** Ends an address's quarantine on a node. Throws the agent's refusal. */
export async function releaseAddress(
  lab: OpenLab,
  node: string,
  address: string,
): Promise<{ address: string; released: true }> {
  const [only] = nodesOf(lab, node) as [ClusterNode];
  return askAgent(only, `/v1/ipam/release?address=${encodeURIComponent(address)}`, 'POST');
}

/** Returns idle addresses of a node to EC2. Throws the agent's refusal, by which nothing is returned. */
export async function releaseIdle(
  lab: OpenLab,
  node: string,
  addresses: string[],
): Promise<{ addresses: string[] }> {
  const [only] = nodesOf(lab, node) as [ClusterNode];
  const query = new URLSearchParams(addresses.map((address) => ['address', address]));
  return askAgent(only, `/v1/ipam/release-idle?${query}`, 'POST');
}

/** Why a pod that is in the middle of its ADD waits for an address, in the words of its node's pool. */
export async function waitingCause(
  lab: OpenLab,
  pod: Pod,
): Promise<{ code: string; text: string } | undefined> {
  const node = lab.cluster.nodes().find((each) => each.name === pod.spec.nodeName);
  if (!node) return undefined;
  const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
  try {
    const { waiting } = await askAgent<{ waiting: Waiting[] }>(node, '/v1/ipam');
    const cause = waiting.find((each) => each.pod === name)?.cause;
    return cause && { code: cause.code, text: cause.message };
  } catch (error) {
    if (error instanceof LabError) return { code: error.code, text: error.message };
    throw error;
  }
}

type Waiting = { pod?: string; cause: { code: string; message: string } };

/** Adds the pod's name where the agent knows only the container, because it was killed before it learned the name. */
function withPod(lab: OpenLab, address: IpamNode['enis'][number]['addresses'][number]) {
  if (address.pod || !address.containerId) return address;
  const pod = lab.store
    .pods()
    .find((each) => lab.cluster.sandboxOf(each)?.containerId === address.containerId);
  return pod ? { ...address, pod: `${pod.metadata.namespace}/${pod.metadata.name}` } : address;
}

export async function checkIpam(lab: OpenLab): Promise<IpamCheck> {
  const nodes = nodesOf(lab);
  const told = await Promise.all(
    nodes.map((node) => askAgent<{ differences: Difference[] } | Difference[]>(node, '/v1/check')),
  );
  const differences = told.flatMap((each, index) =>
    (Array.isArray(each) ? each : each.differences).map((one) => ({
      ...one,
      object: `${nodes[index]!.name}: ${one.object}`,
    })),
  );
  const shown = await Promise.all(nodes.map((node) => askAgent<IpamNode>(node, '/v1/ipam')));
  const sandboxes = lab.store.pods().map((pod) => ({ pod, sandbox: lab.cluster.sandboxOf(pod) }));
  differences.push(...compareWithApi(shown, sandboxes), ...heldTwice(shown), ...lostNamespaces(sandboxes));
  return { ok: differences.length === 0, differences };
}

/** A pod keeps its address until its DEL even when EC2 has taken it; the agent reports that case. */
const heldOf = (node: IpamNode): IpamAddress[] =>
  [
    ...node.enis.flatMap((eni) => eni.addresses),
    ...node.enis.flatMap(({ branches = [] }) =>
      branches.flatMap(({ ips, containerId }) =>
        ips.map((ip): IpamAddress => ({ ip, state: 'held', containerId })),
      ),
    ),
    ...(node.astray ?? []),
  ].filter((each) => each.state === 'held' || each.containerId !== undefined);

type Sandboxes = { pod: Pod; sandbox: PodSandbox | undefined }[];

/** What agents hold against what the API's running pods say that they have. Pods in the middle of a change are left out. */
export function compareWithApi(shown: IpamNode[], sandboxes: Sandboxes): Difference[] {
  const differences: Difference[] = [];
  const held = new Map<string, { node: string; containerId: string | undefined }>();
  for (const node of shown) {
    for (const address of heldOf(node))
      held.set(address.ip, { node: node.node, containerId: address.containerId });
  }
  const settled = sandboxes.filter(
    ({ pod, sandbox }) => sandbox?.state === 'made' && !sandbox.hostNetwork && pod.status?.podIP,
  );
  for (const { pod, sandbox } of settled) {
    const object = `pod ${pod.metadata.namespace}/${pod.metadata.name}`;
    for (const { ip } of pod.status?.podIPs ?? []) {
      const holder = held.get(ip);
      if (!holder) differences.push({ kind: 'not-held', object, journal: 'not held', api: ip });
      else if (holder.containerId !== sandbox!.containerId)
        differences.push({
          kind: 'held-by-other',
          object,
          journal: holder.containerId ?? '?',
          api: sandbox!.containerId,
        });
    }
  }
  const known = new Set(sandboxes.flatMap(({ sandbox }) => sandbox?.containerId ?? []));
  const busy = new Set(
    sandboxes
      .filter(({ sandbox }) => sandbox && sandbox.state !== 'made')
      .map(({ sandbox }) => sandbox!.containerId),
  );
  for (const [ip, { node, containerId }] of held) {
    // Attachments made without the API (cnitool, `podway cni add`) have no pod and are no leak.
    const pod = shown
      .flatMap((each) => each.enis.flatMap((eni) => eni.addresses))
      .find((each) => each.ip === ip)?.pod;
    if (pod && containerId && !known.has(containerId) && !busy.has(containerId)) {
      differences.push({
        kind: 'no-pod',
        object: `${node}: ${ip}`,
        journal: containerId,
        api: `no pod ${pod} with it`,
      });
    }
  }
  return differences;
}

function heldTwice(shown: IpamNode[]): Difference[] {
  const owners = new Map<string, string[]>();
  for (const node of shown) {
    for (const { ip, containerId } of heldOf(node))
      owners.set(ip, [...(owners.get(ip) ?? []), `${node.node} ${containerId}`]);
  }
  return [...owners]
    .filter(([, by]) => by.length > 1)
    .map(([ip, by]) => ({ kind: 'held-twice', object: ip, journal: by }));
}

function lostNamespaces(sandboxes: Sandboxes): Difference[] {
  return sandboxes
    .filter(
      ({ sandbox }) =>
        sandbox?.state === 'made' && !existsSync(sandbox.netnsPath ?? netnsPath(sandbox.netns)),
    )
    .map(({ pod, sandbox }) => ({
      kind: 'no-namespace',
      object: `pod ${pod.metadata.namespace}/${pod.metadata.name}`,
      kernel: `no ${sandbox!.netns}`,
      api: pod.status?.podIP ?? '',
    }));
}
