// What the API says of itself: groups, versions and resources, plain and aggregated; version; health.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { groupVersion, type Kind, type Kinds, type KindVersion } from './kinds.ts';
import { negotiate } from './negotiate.ts';
import type { Reply } from './options.ts';
import { reviews } from './reviews.ts';

const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
const OBJECT_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const STATUS_VERBS = ['get', 'patch', 'update'];

/** The Kubernetes version whose behaviour this API follows. */
export const KUBERNETES_VERSION = { major: '1', minor: '36', gitVersion: 'v1.36.0+podway' } as const;

type ApiResource = {
  name: string;
  singularName: string;
  namespaced: boolean;
  kind: string;
  group?: string;
  version?: string;
  verbs: string[];
  shortNames?: readonly string[];
  categories?: readonly string[];
};

export class Discovery {
  private readonly kinds: Kinds;
  private cache: { generation: number; texts: Map<string, string> } = { generation: -1, texts: new Map() };

  constructor(kinds: Kinds) {
    this.kinds = kinds;
  }

  /** False when the path is none of discovery's. */
  answer(
    segments: readonly string[],
    request: IncomingMessage,
    _response: ServerResponse,
    reply: Reply,
  ): boolean {
    const [root, a, b, ...more] = segments;
    if (more.length > 0) return false;
    if (root === undefined) return this.send(reply, 'root', () => ({ paths: this.paths() }));
    if ((root === 'healthz' || root === 'readyz' || root === 'livez') && b === undefined) {
      reply(200, 'ok', 'text/plain; charset=utf-8');
      return true;
    }
    if (root === 'version' && a === undefined) {
      return this.send(reply, 'version', () => ({
        ...KUBERNETES_VERSION,
        emulationMajor: '1',
        emulationMinor: KUBERNETES_VERSION.minor,
        gitCommit: '',
        gitTreeState: 'clean',
        buildDate: '1970-01-01T00:00:00Z',
        goVersion: '',
        compiler: '',
        platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
      }));
    }
    if (root === 'api') {
      if (a === undefined) {
        if (negotiate(request.headers.accept, ['discovery']).as === 'discovery') {
          return this.send(reply, 'api+', () => this.aggregated(true), AGGREGATED);
        }
        return this.send(reply, 'api', () => ({
          kind: 'APIVersions',
          versions: ['v1'],
          serverAddressByClientCIDRs: [],
        }));
      }
      return a === 'v1' && b === undefined ? this.send(reply, 'v1', () => this.resources('', 'v1')) : false;
    }
    if (root !== 'apis') return false;
    if (a === undefined) {
      if (negotiate(request.headers.accept, ['discovery']).as === 'discovery') {
        return this.send(reply, 'apis+', () => this.aggregated(false), AGGREGATED);
      }
      return this.send(reply, 'apis', () => ({
        kind: 'APIGroupList',
        apiVersion: 'v1',
        groups: this.groups().map((group) => this.group(group)),
      }));
    }
    const group = this.groups().find((name) => name === a);
    if (group === undefined) return false;
    if (b === undefined)
      return this.send(reply, a, () => ({ kind: 'APIGroup', apiVersion: 'v1', ...this.group(a) }));
    if (!this.versions(a).includes(b)) return false;
    return this.send(reply, `${a}/${b}`, () => this.resources(a, b));
  }

  private send(reply: Reply, key: string, make: () => unknown, contentType?: string): boolean {
    if (this.cache.generation !== this.kinds.generation) {
      this.cache = { generation: this.kinds.generation, texts: new Map() };
    }
    let text = this.cache.texts.get(key);
    if (text === undefined) {
      text = JSON.stringify(make());
      this.cache.texts.set(key, text);
    }
    reply(200, text, contentType);
    return true;
  }

  groups(): string[] {
    const names = new Set<string>(this.kinds.all().map((kind) => kind.group));
    for (const { group } of reviews) names.add(group);
    names.delete('');
    return [...names];
  }

  versions(group: string): string[] {
    const names = new Set<string>();
    for (const kind of this.kinds.all())
      if (kind.group === group) for (const v of kind.versions) names.add(v.name);
    if (names.size === 0 && reviews.some((r) => r.group === group)) names.add('v1');
    return [...names].sort(byVersionPriority);
  }

  private group(name: string) {
    const versions = this.versions(name).map((version) => ({
      groupVersion: groupVersion(name, version),
      version,
    }));
    return { name, versions, preferredVersion: versions[0] };
  }

  private resources(group: string, version: string) {
    const resources: ApiResource[] = [];
    for (const [kind] of this.kindsOf(group, version)) {
      const {
        plural: name,
        singular: singularName,
        namespaced,
        kind: kindName,
        shortNames,
        categories,
      } = kind;
      resources.push({
        name,
        singularName,
        namespaced,
        kind: kindName,
        verbs: OBJECT_VERBS,
        ...(shortNames.length > 0 ? { shortNames } : {}),
        ...(categories.length > 0 ? { categories } : {}),
      });
      for (const sub of subresourcesOf(kind)) {
        resources.push({
          name: `${name}/${sub.name}`,
          singularName: '',
          namespaced,
          kind: sub.kind,
          ...(sub.group === undefined ? {} : { group: sub.group, version: sub.version! }),
          verbs: sub.verbs,
        });
      }
    }
    for (const review of version === 'v1' ? reviews : []) {
      if (review.group !== group) continue;
      resources.push({
        name: review.plural,
        singularName: '',
        namespaced: review.namespaced ?? false,
        kind: review.kind,
        verbs: ['create'],
      });
    }
    return {
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion: groupVersion(group, version),
      resources,
    };
  }

  private kindsOf(group: string, version: string): [Kind, KindVersion][] {
    const out: [Kind, KindVersion][] = [];
    for (const kind of this.kinds.all()) {
      const found = kind.group === group ? kind.versions.find((v) => v.name === version) : undefined;
      if (found) out.push([kind, found]);
    }
    return out;
  }

  private aggregated(core: boolean) {
    const groups = core ? [''] : this.groups();
    return {
      kind: 'APIGroupDiscoveryList',
      apiVersion: 'apidiscovery.k8s.io/v2',
      metadata: {},
      items: groups.map((group) => ({
        metadata: { creationTimestamp: null, ...(group === '' ? {} : { name: group }) },
        versions: this.versions(group).map((version) => ({
          version,
          freshness: 'Current',
          resources: [
            ...this.kindsOf(group, version).map(([kind]) => ({
              resource: kind.plural,
              responseKind: { group, version, kind: kind.kind },
              scope: kind.namespaced ? 'Namespaced' : 'Cluster',
              singularResource: kind.singular,
              verbs: OBJECT_VERBS,
              ...(kind.shortNames.length > 0 ? { shortNames: kind.shortNames } : {}),
              ...(kind.categories.length > 0 ? { categories: kind.categories } : {}),
              subresources: subresourcesOf(kind).map((sub) => ({
                subresource: sub.name,
                responseKind: { group: sub.group ?? group, version: sub.version ?? version, kind: sub.kind },
                verbs: sub.verbs,
              })),
            })),
            ...reviews
              .filter((review) => review.group === group && version === 'v1')
              .map((review) => ({
                resource: review.plural,
                responseKind: { group, version, kind: review.kind },
                scope: review.namespaced ? 'Namespaced' : 'Cluster',
                singularResource: review.kind.toLowerCase(),
                verbs: ['create'],
              })),
          ],
        })),
      })),
    };
  }

  paths(): string[] {
    const paths = ['/api', '/api/v1', '/apis'];
    for (const group of this.groups()) {
      paths.push(`/apis/${group}`, ...this.versions(group).map((version) => `/apis/${group}/${version}`));
    }
    return [...paths, '/healthz', '/livez', '/openapi/v2', '/openapi/v3', '/readyz', '/version'].sort();
  }
}

type Sub = { name: string; kind: string; verbs: string[]; group?: string; version?: string };

function subresourcesOf(kind: Kind): Sub[] {
  const out: Sub[] = [];
  if (kind.status) out.push({ name: 'status', kind: kind.kind, verbs: STATUS_VERBS });
  if (kind.scale)
    out.push({ name: 'scale', kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: STATUS_VERBS });
  for (const name of kind.subresources) {
    if (name === 'eviction')
      out.push({ name, kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] });
    else if (name === 'token')
      out.push({
        name,
        kind: 'TokenRequest',
        group: 'authentication.k8s.io',
        version: 'v1',
        verbs: ['create'],
      });
    else if (name === 'log') out.push({ name, kind: kind.kind, verbs: ['get'] });
    else if (name === 'exec') out.push({ name, kind: 'PodExecOptions', verbs: ['create', 'get'] });
    else if (name === 'portforward')
      out.push({ name, kind: 'PodPortForwardOptions', verbs: ['create', 'get'] });
    else if (name === 'binding') out.push({ name, kind: 'Binding', verbs: ['create'] });
    else out.push({ name, kind: kind.kind, verbs: ['update'] });
  }
  return out;
}

/** version.CompareKubeAwareVersionStrings: v2 before v1 before v1beta2 before v1alpha1 before anything else. */
export function byVersionPriority(a: string, b: string): number {
  const rank = (text: string): [number, number, number] => {
    const match = /^v([0-9]+)(?:(alpha|beta)([0-9]+))?$/.exec(text);
    if (!match) return [-1, 0, 0];
    return [
      match[2] === undefined ? 2 : match[2] === 'beta' ? 1 : 0,
      Number(match[1]),
      Number(match[3] ?? 0),
    ];
  };
  const [x, y] = [rank(a), rank(b)];
  for (let i = 0; i < 3; i++) if (x[i] !== y[i]) return y[i]! - x[i]!;
  return a < b ? -1 : a > b ? 1 : 0;
}
