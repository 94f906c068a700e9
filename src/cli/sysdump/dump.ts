// An opened dump, in the place of what it was made of: a lab's control socket, an agent's introspection, the Kubernetes
// API's lists, EC2's survey. An answer that was an error is thrown again; what nobody asked is NOT_IN_DUMP. The whole archive
// is in memory while the command runs. Fails with LabError BAD_DUMP for a file that is no dump of this version.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Explanation } from '../../ipam/views/explain.ts';
import { type ErrorBody, LabError } from '../../lab/daemon/errors.ts';
import type { IpamNode, LabStatus } from '../../lab/daemon/protocol.ts';
import { usageError } from '../errors.ts';
import { readTar } from './tar.ts';

/** Of the archive's form: another one is refused. */
export const DUMP_VERSION = 1;
/** Bytes of an unpacked dump: twice what the writer takes. */
const MAX_UNPACKED = 1 << 30;

export type DumpPlace = { kind: 'lab' | 'cluster' | 'local'; name: string };
export type Manifest = {
  version: number;
  /** Of Podway that made it. */
  podway: string;
  madeAt: string;
  place: DumpPlace;
  /** `error`: why a node did not answer. */
  nodes: { name: string; error?: ErrorBody }[];
  /** Files that are shorter than what there was, or left out. */
  cut: string[];
};

/** Of an agent's introspection paths, and the file that has its answer. */
export const AGENT_PATHS = {
  '/v1/node': 'node.json',
  '/v1/ipam': 'ipam.json',
  '/v1/check': 'check.json',
  '/v1/explain': 'explain.json',
  '/v1/policy': 'policy.json',
  '/v1/settings': 'settings.json',
} as const;
/** Of a lab's process. */
export const LAB_PATHS = {
  '/v1/status': 'status.json',
  '/v1/ipam': 'ipam.json',
  '/v1/ipam/check': 'check.json',
  '/v1/calls': 'calls.json',
  '/v1/faults': 'faults.json',
  '/v1/throttle': 'throttle.json',
} as const;
/** Answers by pod: `namespace/name`. */
export const BY_POD = { '/v1/explain': 'pods.json', '/v1/policy': 'policies.json' } as const;

export const apiFile = (group: string, version: string, plural: string): string =>
  `api/${[plural, group, version].filter((part) => part !== '').join('.')}.json`;

export class Dump {
  readonly manifest: Manifest;
  readonly #file: string;
  readonly #entries: Map<string, Buffer>;

  private constructor(file: string, entries: Map<string, Buffer>, manifest: Manifest) {
    this.#file = file;
    this.#entries = entries;
    this.manifest = manifest;
  }

  static #opened = new Map<string, Dump>();

  /** Throws BAD_DUMP. */
  static open(file: string): Dump {
    const known = Dump.#opened.get(file);
    if (known) return known;
    let entries: Map<string, Buffer>;
    let manifest: Manifest;
    try {
      const unpacked = gunzipSync(readFileSync(file), { maxOutputLength: MAX_UNPACKED });
      entries = new Map(readTar(unpacked).map(({ name, body }) => [name, body]));
      const found = entries.get('manifest.json');
      if (!found) throw new Error('it has no manifest.json');
      manifest = JSON.parse(found.toString('utf8')) as Manifest;
    } catch (error) {
      throw new LabError(
        'BAD_DUMP',
        `${file} cannot be read as a dump: ${(error as Error).message}`,
        'podway sysdump makes one',
        { cause: error },
      );
    }
    if (manifest.version !== DUMP_VERSION)
      throw new LabError(
        'BAD_DUMP',
        `${file} is a dump of form ${manifest.version}, and this podway reads form ${DUMP_VERSION}`,
        `read it with podway ${manifest.podway}`,
      );
    const dump = new Dump(file, entries, manifest);
    Dump.#opened.set(file, dump);
    return dump;
  }

  get place(): DumpPlace {
    return this.manifest.place;
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  text(name: string): string | undefined {
    return this.#entries.get(name)?.toString('utf8');
  }

  /** The answer in a file. Throws what was thrown then, or NOT_IN_DUMP. */
  answer<T>(name: string): T {
    const text = this.text(name);
    if (text === undefined) throw this.lacks(name);
    return answered(JSON.parse(text) as T);
  }

  lacks(what: string): LabError {
    const { kind, name } = this.place;
    return new LabError(
      'NOT_IN_DUMP',
      `${this.#file} has no ${what}: it was made of ${kind === 'local' ? 'node' : kind} ${name}`,
      `tar -tzf ${this.#file} lists what it has`,
    );
  }

  /** Throws USAGE for a command of a lab, on a dump of something else. */
  needLab(): void {
    if (this.place.kind !== 'lab')
      throw usageError(
        `${this.#file} is a dump of ${this.place.kind === 'local' ? 'one node' : 'a cluster'}, and this command reads labs`,
        `podway status --from ${this.#file}`,
      );
  }

  /** In the place of an agent's introspection. */
  async agent<T>(node: string, path: string): Promise<T> {
    const [pathname, query = ''] = path.split('?', 2) as [string, string?];
    const known = this.manifest.nodes.find(({ name }) => name === node);
    if (known?.error) throw fromBody(known.error);
    const pod = new URLSearchParams(query).get('pod');
    if (pod === null) {
      const file = AGENT_PATHS[pathname as keyof typeof AGENT_PATHS];
      if (file === undefined) throw this.lacks(`answer of ${node} to ${path}`);
      return this.answer<T>(`nodes/${node}/${file}`);
    }
    const byPod = this.answer<Record<string, T>>(`nodes/${node}/${BY_POD[pathname as keyof typeof BY_POD]}`);
    const own = byPod[pod];
    // A node says of a pod elsewhere what it says without one.
    if (own === undefined && pathname === '/v1/policy') return this.agent(node, pathname);
    if (own === undefined) throw this.lacks(`answer of ${node} about pod ${pod}`);
    return answered(own);
  }

  /** In the place of a lab's process. What changes something is refused. */
  async call<T>(method: string, path: string): Promise<T> {
    this.needLab();
    const { pathname, searchParams } = new URL(path, 'http://lab');
    if (method !== 'GET') throw usageError('a dump can only be read', 'leave out --from');
    if (pathname === '/v1/pods') return this.answer<LabStatus>('lab/status.json').pods as T;
    if (pathname === '/v1/ipam/explain') return this.#explain(searchParams) as T;
    const file = LAB_PATHS[pathname as keyof typeof LAB_PATHS];
    if (file === undefined) throw this.lacks(`answer to ${path}`);
    const value = this.answer<T>(`lab/${file}`);
    const node = searchParams.get('node');
    if (pathname === '/v1/ipam' && node !== null) return this.#ofNode(value as IpamNode[], node) as T;
    if (searchParams.has('sinceMs'))
      throw usageError('--since counts from now, which is not the time of a dump', 'leave out --since');
    return value;
  }

  #ofNode(all: IpamNode[], node: string): IpamNode[] {
    const found = all.filter((one) => one.node === node);
    if (found.length > 0) return found;
    throw new LabError('NO_SUCH_NODE', `there is no running node ${node}`, 'podway node list');
  }

  #explain(query: URLSearchParams): Explanation {
    const subject = query.get('subject') ?? '';
    const namespace = query.get('namespace') ?? 'default';
    const told = this.answer<Record<string, Explanation>>('lab/explain.json');
    const key = subject in told ? subject : subject.includes('/') ? subject : `${namespace}/${subject}`;
    const own = told[key];
    if (own !== undefined) return answered(own);
    const [of, name] = key.split('/', 2) as [string, string];
    throw new LabError(
      'NO_SUCH_POD',
      `no node is called ${subject}, and no pod of namespace ${of} is called ${name}`,
      'podway node list and podway pod list show what there is',
    );
  }
}

export const fromBody = ({ code, message, next }: ErrorBody): LabError => new LabError(code, message, next);

function answered<T>(value: T): T {
  const { error } = (value ?? {}) as { error?: ErrorBody };
  if (error !== undefined && typeof error?.code === 'string') throw fromBody(error);
  return value;
}
