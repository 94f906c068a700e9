// Makes a dump of a lab, of a cluster, or of this node. One thing after another but for the nodes, a few of which are asked at
// once; a node that does not answer in time is in the manifest with its reason, and so is what is missing of a part. Only a
// place that is not there at all, and a file that cannot be written, end it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KubeClient, type KubeConfig, type Pod, readKubeConfig } from '../../kube/index.ts';
import type { ControlClient } from '../../lab/daemon/client.ts';
import { type ErrorBody, errorBody, LabError } from '../../lab/daemon/errors.ts';
import { packageRoot } from '../../lab/daemon/parts.ts';
import type { LabPaths } from '../../lab/daemon/paths.ts';
import type { IpamNode, LabStatus } from '../../lab/daemon/protocol.ts';
import { machineRows } from '../doctor/checks.ts';
import { ec2Of, type LabOptions, openLab } from '../labs.ts';
import { surveyed } from '../subnets.ts';
import { apiPart } from './api-part.ts';
import { subnetsJson } from './cloud-part.ts';
import { DUMP_VERSION, type DumpPlace, LAB_PATHS, type Manifest } from './dump.ts';
import { labNodePart, tailOf } from './lab-node.ts';
import { type NodePart, nodePart } from './node-part.ts';
import { DumpWriter } from './writer.ts';

/** Nodes that are asked at once. */
const AT_ONCE = 8;
/** For one node. */
const NODE_MS = 60_000;
/** Pods of a lab that are explained one by one. */
const MOST_EXPLAINED = 2_000;
/** Pods without an address that a node is asked about by name. */
const MOST_WAITING = 50;

export type Collecting = {
  file: string;
  /** For all nodes together; those that come later are named as not asked. */
  timeoutMs: number;
  say(text: string): void;
};
export type Collected = {
  file: string;
  nodes: Manifest['nodes'];
  files: number;
  bytes: number;
  cut: string[];
};

const version = (): string =>
  (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;

/** Runs `work` with a writer; its answer is the place and the nodes. The file is whole, or not there. */
async function writing(
  { file, say }: Collecting,
  known: string[],
  work: (out: DumpWriter) => Promise<{ place: DumpPlace; nodes: Manifest['nodes'] }>,
): Promise<Collected> {
  const out = new DumpWriter(file, known);
  try {
    const madeAt = new Date().toISOString();
    const { place, nodes } = await work(out);
    say(`writing ${file}`);
    const done = out.finish({ version: DUMP_VERSION, podway: version(), madeAt, place, nodes });
    return { file, nodes, ...done };
  } catch (error) {
    out.abandon();
    throw error;
  }
}

const orError = (error: unknown): { error: ErrorBody } => ({ error: errorBody(error) });

function putAll(out: DumpWriter, folder: string, files: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(files))
    if (name.endsWith('.txt')) out.text(`${folder}${name}`, String(value));
    else out.json(`${folder}${name}`, value);
}

/** Asks every node for its part, and writes each as it comes. */
async function putNodes(
  out: DumpWriter,
  { timeoutMs, say }: Collecting,
  names: readonly string[],
  ask: (node: string, ms: number) => Promise<NodePart & { log?: string }>,
): Promise<Manifest['nodes']> {
  const until = performance.now() + timeoutMs;
  const told: Manifest['nodes'] = names.map((name) => ({ name }));
  let next = 0;
  let done = 0;
  const worker = async () => {
    for (let at = next++; at < names.length; at = next++) {
      const name = names[at]!;
      const left = Math.min(NODE_MS, until - performance.now());
      const { files, log, error } = await within(left, name, (_signal, ms) => ask(name, ms)).catch(
        (caught: unknown): NodePart & { log?: string } => ({ node: null, files: {}, ...orError(caught) }),
      );
      if (error) told[at] = { name, error };
      done += 1;
      say(
        `${name}: ${error ? `${error.code}: ${error.message}` : `${Object.keys(files).length} parts`} (${done} of ${names.length})`,
      );
      putAll(out, `nodes/${name}/`, files);
      if (log !== undefined) out.text(`nodes/${name}/log.txt`, log);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, names.length) }, worker));
  return told;
}

async function within<T>(
  ms: number,
  what: string,
  work: (signal: AbortSignal, ms: number) => Promise<T>,
): Promise<T> {
  const late = new LabError(
    'TIMEOUT',
    ms <= 0
      ? `${what} was not asked: the time was over`
      : `${what} has not answered within ${Math.round(ms / 1000)} s`,
    'give more by --timeout',
  );
  if (ms <= 0) throw late;
  let timer: NodeJS.Timeout | undefined;
  const end = new AbortController();
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(late);
      end.abort();
    }, ms);
  });
  return Promise.race([work(end.signal, Math.ceil(ms)), limit]).finally(() => clearTimeout(timer));
}

export async function dumpLab(options: LabOptions, collecting: Collecting): Promise<Collected> {
  const { lab, paths, control } = await openLab(options);
  const status = await control.call<LabStatus>('GET', '/v1/status');
  const config = await readKubeConfig(status.kubeconfig);
  const { keys } = ec2Of(lab, paths);
  const known = [keys.secretAccessKey, keys.accessKeyId, config.token ?? '', config.key ?? ''];
  return writing(collecting, known, async (out) => {
    collecting.say(`lab ${lab}: its process, the nodes, the API and EC2`);
    const names = status.nodes.map(({ name }) => name);
    const [nodes] = await Promise.all([
      putNodes(out, collecting, names, (node, ms) => labNodePart(paths, node, ms)),
      putLab(out, collecting, control, status, paths),
      putLabApi(out, config, options),
    ]);
    return { place: { kind: 'lab', name: lab }, nodes };
  });
}

/** What the lab's process answers. Where a node's agent is silent, its pods are not asked about one by one. */
async function putLab(
  out: DumpWriter,
  { timeoutMs }: Collecting,
  control: ControlClient,
  status: LabStatus,
  paths: LabPaths,
): Promise<void> {
  const until = performance.now() + timeoutMs;
  const ask = (path: string): Promise<unknown> =>
    within(until - performance.now(), path, (signal) => control.call('GET', path, undefined, signal)).catch(
      orError,
    );
  out.json('lab/status.json', status);
  const explain = (subject: string) => ask(`/v1/ipam/explain?subject=${encodeURIComponent(subject)}`);
  const asked = Object.entries(LAB_PATHS).filter(([path]) => path !== '/v1/status');
  const [explained] = await Promise.all([
    Promise.all(status.nodes.map(async ({ name }) => [name, await explain(name)] as const)).then(
      (told): Record<string, unknown> => Object.fromEntries(told),
    ),
    ...asked.map(async ([path, name]) => out.json(`lab/${name}`, await ask(path))),
  ]);
  out.json('lab/doctor.json', await machineRows().catch(orError));
  out.text('lab/log.txt', tailOf(paths.log));
  const silent = new Map(
    Object.entries(explained).filter(([, told]) =>
      SILENT.includes((told as { error?: ErrorBody }).error?.code ?? ''),
    ),
  );
  for (const { namespace, name, node } of status.pods.slice(0, MOST_EXPLAINED))
    explained[`${namespace}/${name}`] = silent.get(node) ?? (await explain(`${namespace}/${name}`));
  out.json('lab/explain.json', explained);
}

const SILENT = ['AGENT_UNREACHABLE', 'TIMEOUT'];

async function putLabApi(out: DumpWriter, config: KubeConfig, options: LabOptions): Promise<void> {
  const client = new KubeClient(config, { userAgent: 'podway' });
  putAll(out, '', await apiPart(client).finally(() => client.close()));
  out.json('cloud/subnets.json', await surveyed(options).then(subnetsJson, orError));
}

export async function dumpCluster(
  options: { kubeconfig?: string; context?: string; region?: string },
  collecting: Collecting,
): Promise<Collected> {
  const { Cluster } = await import('../cluster/agents.ts');
  const cluster = await Cluster.open(options);
  const { client, config } = cluster;
  const known = [config.token ?? '', config.key ?? ''];
  try {
    const agents = new Map((await cluster.agents()).map((agent) => [agent.node, agent]));
    return await writing(collecting, known, async (out) => {
      collecting.say(`${config.server}: the API's objects`);
      const api = await apiPart(client);
      putAll(out, '', api);
      out.json('api/version.json', await client.getPath('/version').catch(orError));
      const waiting = waitingPods(api['api/pods.v1.json'] as { items?: Pod[] });
      const subnets = new Set<string>();
      const nodes = await putNodes(out, collecting, [...agents.keys()], async (node, ms) => {
        const agent = agents.get(node)!;
        const pods = (waiting.get(node) ?? []).slice(0, MOST_WAITING).flatMap((pod) => ['--pod', pod]);
        const log = logOf(client, cluster.namespace, agent.pod.metadata.name!, agent.container);
        const part = await cluster
          .ask<NodePart>(agent, ['sysdump', ...pods], ms)
          .catch((error: unknown): NodePart => ({ node: null, files: {}, ...orError(error) }));
        for (const { subnetId } of (part.files['ipam.json'] as Partial<IpamNode> | undefined)?.enis ?? [])
          subnets.add(subnetId);
        return { ...part, log: await log };
      });
      collecting.say('EC2');
      out.json('cloud/subnets.json', await ofAws(options.region, [...subnets]).catch(orError));
      return { place: { kind: 'cluster', name: config.server }, nodes };
    });
  } finally {
    cluster.close();
  }
}

async function ofAws(region: string | undefined, subnet: string[]) {
  if (subnet.length === 0)
    throw new LabError('NOT_IN_DUMP', 'no node has told its subnets', 'podway ipam subnets --aws');
  return subnetsJson(await surveyed({ aws: true, subnet, ...(region === undefined ? {} : { region }) }));
}

/** By node, `namespace/name` of those that are bound to it and have no address yet. */
function waitingPods({ items = [] }: { items?: Pod[] } = {}): Map<string, string[]> {
  const waiting = new Map<string, string[]>();
  for (const { metadata, spec, status } of items) {
    if (spec.nodeName === undefined || spec.hostNetwork || status?.phase !== 'Pending' || status.podIP)
      continue;
    const of = waiting.get(spec.nodeName) ?? [];
    of.push(`${metadata.namespace}/${metadata.name}`);
    waiting.set(spec.nodeName, of);
  }
  return waiting;
}

/** Of the agent's container, its newest end, and that of the one before when it was restarted. */
async function logOf(client: KubeClient, namespace: string, pod: string, container: string): Promise<string> {
  const read = (previous: boolean) =>
    client
      .getPath<string>(
        `/api/v1/namespaces/${namespace}/pods/${pod}/log?container=${container}&tailLines=2000&limitBytes=${1 << 20}&previous=${previous}`,
      )
      .catch((error: Error) => (previous ? '' : `the log cannot be read: ${error.message}\n`));
  return `${await read(true)}${await read(false)}`;
}

export async function dumpNode(collecting: Collecting): Promise<Collected> {
  return writing(collecting, [], async (out) => {
    const part = await nodePart();
    const name = part.node ?? 'this-node';
    const nodes = await putNodes(out, collecting, [name], async () => part);
    return { place: { kind: 'local', name }, nodes };
  });
}
