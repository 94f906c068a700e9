// policy-agent: resident memory of a node's whole agent while it enforces 1,000 policies among 10,000 pods of other
// nodes: after its start, after changes, and after all is listed anew. The API is a server of this process in the
// node's namespace: it answers as an API server does, page by page, with objects as long as real ones. The peer is the
// same node without policies.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AGENT_NODE_FLAGS } from '../src/base/node-flags.ts';
import { openNetns } from '../src/kernel/netns.ts';
import { listenTcpIn } from '../src/kernel/sockets.ts';
import { treeRss } from './agent.ts';
import { namespaces, PODS, POLICIES, podObject, policyObject } from './policy-world.ts';
import { oneSubnet, podway, root, run, scratch } from './run.ts';
import { type BenchResult, round } from './stats.ts';

const LAB = 'bench-pol-mem';
const NODE = 'bare';
const PORT = 7_443;
const METRICS_PORT = 9_464;
const CHANGES = 2_000;
const BOUND_MS = 120_000;
const BOOKMARK_MS = 1_000;
/** What is let settle before memory is read (ms). */
const RESTS_MS = 5_000;
const MIB = 2 ** 20;

type Stored = { metadata: { name: string; namespace?: string; resourceVersion?: string } };

/** Bytes that each real object has beside what the agent reads: managedFields, environment, conditions. */
function padded<T extends Stored>(object: T, bytes: number): T {
  const fields = Object.fromEntries(
    Array.from({ length: Math.ceil(bytes / 40) }, (_, at) => [`f:field-of-some-manager-${at}`, {}]),
  );
  return {
    ...object,
    metadata: { ...object.metadata, managedFields: [{ manager: 'kubelet', fieldsV1: fields }] },
  };
}

/** By `spec.nodeName=NAME` or `metadata.name=NAME`. */
function isSelected(object: Stored & { spec?: { nodeName?: string } }, selector: string | null): boolean {
  const [field, value] = selector?.split('=') ?? [];
  if (field === 'spec.nodeName') return object.spec?.nodeName === value;
  return field !== 'metadata.name' || object.metadata.name === value;
}

/** Collections by path, listed by pages and watched. */
class Api {
  readonly #collections: ReadonlyMap<string, Stored[]>;
  readonly #watches = new Map<string, Set<ServerResponse>>();
  #version = 1;

  constructor(collections: ReadonlyMap<string, Stored[]>) {
    this.#collections = collections;
  }

  answer(url: URL, response: ServerResponse): void {
    const { pathname: path, searchParams: query } = url;
    const all = this.#collections.get(path)?.filter((one) => isSelected(one, query.get('fieldSelector')));
    if (!all) {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404 }));
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    if (query.get('watch') === 'true') {
      const its = this.#watches.get(path) ?? new Set();
      this.#watches.set(path, its.add(response));
      response.once('close', () => its.delete(response));
      response.flushHeaders();
      return;
    }
    const from = Number(query.get('continue') ?? 0);
    const to = from + Number(query.get('limit') ?? all.length);
    const metadata = {
      resourceVersion: `${this.#version}`,
      ...(to < all.length ? { continue: `${to}` } : {}),
    };
    response.end(JSON.stringify({ kind: 'List', metadata, items: all.slice(from, to) }));
  }

  #send(path: string, type: string, object: object): void {
    for (const one of this.#watches.get(path) ?? []) one.write(`${JSON.stringify({ type, object })}\n`);
  }

  change(path: string, object: Stored): void {
    object.metadata.resourceVersion = `${++this.#version}`;
    this.#send(path, 'MODIFIED', object);
  }

  bookmark(): void {
    for (const path of this.#watches.keys())
      this.#send(path, 'BOOKMARK', { metadata: { resourceVersion: `${this.#version}` } });
  }

  /** All watches have lost their place. */
  expire(): void {
    for (const path of this.#watches.keys())
      this.#send(path, 'ERROR', { kind: 'Status', status: 'Failure', reason: 'Expired', code: 410 });
  }
}

const statusOf = (pid: number, field: string): number =>
  (Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) *
    1024) /
  MIB;

type Weight = { start: number; changed: number; relisted: number; peak: number };

async function weigh(
  netnsPath: string,
  dir: string,
  { pods, policies }: { pods: Stored[]; policies: Stored[] },
): Promise<Weight> {
  const PODS_PATH = '/api/v1/pods';
  const api = new Api(
    new Map<string, Stored[]>([
      [PODS_PATH, pods],
      ['/api/v1/namespaces', [...namespaces].map(([name, labels]) => ({ metadata: { name, labels } }))],
      ['/api/v1/nodes', [{ metadata: { name: NODE } }]],
      ['/apis/networking.k8s.io/v1/networkpolicies', policies],
    ]),
  );
  const tls = { key: readFileSync(join(dir, 'key.pem')), cert: readFileSync(join(dir, 'cert.pem')) };
  const server = createServer(tls, (request, response) =>
    api.answer(new URL(request.url!, 'https://api'), response),
  );
  using netns = openNetns(netnsPath);
  server.listen({ fd: listenTcpIn(netns, '127.0.0.1', PORT) });
  const bookmarks = setInterval(() => api.bookmark(), BOOKMARK_MS);
  let agent: ChildProcess | null = null;
  try {
    agent = spawn(
      'nsenter',
      [
        `--net=${netnsPath}`,
        process.execPath,
        ...AGENT_NODE_FLAGS,
        join(root, 'src/agent/main.ts'),
        '--config',
        join(dir, 'agent.json'),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const { pid } = agent as { pid: number };
    const metrics = (): string => {
      try {
        const ask = ['curl', '-s', '-m', '5', `http://127.0.0.1:${METRICS_PORT}/metrics`];
        return run('nsenter', [`--net=${netnsPath}`, ...ask]);
      } catch {
        return ''; // It does not answer yet.
      }
    };
    const until = async (what: string, holds: () => boolean): Promise<void> => {
      for (const end = performance.now() + BOUND_MS; !holds(); await sleep(500)) {
        if (agent?.exitCode !== null || agent?.signalCode !== null)
          throw new Error(`${what}: the agent ended`);
        if (performance.now() > end) throw new Error(`${what}: not within ${BOUND_MS / 1000} s`);
      }
    };
    const rest = async (): Promise<number> => {
      await sleep(RESTS_MS);
      return treeRss(pid) / MIB;
    };
    await until('the agent answers', () => metrics() !== '');
    const inForce = `podway_policy_objects{kind="policies"} ${policies.length}\n`;
    if (policies.length > 0) await until('policies are in force', () => metrics().includes(inForce));
    const start = await rest();
    for (let at = 0; at < CHANGES && pods.length > 0; at++) {
      const pod = pods[(at * 7) % pods.length] as Stored & { metadata: { labels: Record<string, string> } };
      pod.metadata.labels['app'] = `app${at % 500}`;
      api.change(PODS_PATH, pod);
      if (at % 50 === 0) await sleep(10);
    }
    const changed = await rest();
    api.expire();
    await sleep(RESTS_MS);
    const relisted = await rest();
    return { start, changed, relisted, peak: statusOf(pid, 'VmHWM') };
  } finally {
    clearInterval(bookmarks);
    if (agent && agent.exitCode === null) {
      const ended = new Promise((resolve) => agent!.once('exit', resolve));
      agent.kill('SIGTERM');
      await ended;
    }
    server.closeAllConnections();
    server.close();
  }
}

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  try {
    const shape = join(dir, 'lab.yaml');
    writeFileSync(shape, oneSubnet(`{ name: ${NODE}, type: m5.4xlarge, subnet: a, agent: none }`));
    podway('lab', 'up', '--lab', LAB, '-f', shape, '--quiet');
    const { nodes, instances } = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const { netnsPath } = [...nodes, ...instances].find((one: { name: string }) => one.name === NODE);
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    const names = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const files = ['-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')];
    run('openssl', ['req', '-x509', ...key, ...names, ...files]);
    writeFileSync(
      join(dir, 'kubeconfig'),
      JSON.stringify({
        ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'api' },
        clusters: [
          {
            name: 'api',
            cluster: { server: `https://127.0.0.1:${PORT}`, 'certificate-authority': join(dir, 'cert.pem') },
          },
        ],
        users: [{ name: 'agent', user: {} }],
        contexts: [{ name: 'api', context: { cluster: 'api', user: 'agent' } }],
      }),
    );
    writeFileSync(
      join(dir, 'agent.json'),
      JSON.stringify({
        ...{ nodeName: NODE, runDir: join(dir, 'run'), kubeconfig: join(dir, 'kubeconfig') },
        ...{ ec2Endpoint: 'http://169.254.169.10', logLevel: 'error' },
        listen: `127.0.0.1:${METRICS_PORT}`,
      }),
    );
    const pods = (bytes: number) => Array.from({ length: PODS }, (_, at) => padded(podObject(at), bytes));
    const policies = Array.from({ length: POLICIES }, (_, at) => padded(policyObject(at), 1_000));
    const sides: [string, { pods: Stored[]; policies: Stored[] }][] = [
      ['no policies', { pods: [], policies: [] }],
      [`${POLICIES} policies, ${PODS} pods of 5 KB`, { pods: pods(4_000), policies }],
    ];
    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const [name, world] of sides) {
      const weight = await weigh(netnsPath, dir, world);
      numbers[name] = weight;
      rows.push([name, ...Object.values(weight).map((mib) => round(mib, 1))]);
    }
    return [
      {
        title: "policy-agent: resident memory of a node's agent, process tree, MiB",
        head: [
          'in the cluster',
          'after its start',
          `after ${CHANGES} changes of pods`,
          'all listed anew',
          'peak',
        ],
        rows,
        numbers,
      },
    ];
  } finally {
    podway('lab', 'down', '--lab', LAB, '--quiet');
    remove();
  }
}
