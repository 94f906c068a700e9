// What the API knows of a kind, as data: names, versions, subresources, selectable fields, and the few hooks in
// which kinds differ (defaults, checks, columns). Nothing else in this folder branches on a kind's name.
import type { KubeObject } from '../../../kube/types.ts';
import type { StatusCause } from './errors.ts';

/** An object whose fields are not known here. */
export type Any = KubeObject & Record<string, unknown>;

export type Column = {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  readonly format?: string;
  readonly description?: string;
  /** 0 is always shown, above it only with `-o wide`. */
  readonly priority: number;
  readonly cell: (object: Any, now: number) => unknown;
};

export type Problems = { causes: StatusCause[]; unknown: string[] };

export type KindVersion = {
  readonly name: string;
  readonly columns: readonly Column[];
  /** Cleans an object that came from outside: prunes and defaults it, and says what is wrong with it. */
  readonly decode?: (object: Any) => Problems;
  /** OpenAPI v3 schema, when the kind brings its own. */
  readonly schema?: Record<string, unknown>;
  readonly toStored?: (object: Any) => Any;
  readonly fromStored?: (object: Any) => Any;
  readonly deprecated?: string;
};

export type ScalePaths = { readonly spec: string; readonly status: string; readonly selector?: string };

/** What a hook may ask of the rest: the time, and the objects that exist. */
export type HookContext = {
  readonly now: number;
  readonly list: (collection: string) => readonly KubeObject[];
  /** Ranges of cluster addresses, one of each family that the cluster has, the primary one first. */
  readonly serviceCidrs: readonly string[];
};

export type Kind = {
  readonly group: string;
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  /** First is preferred. */
  readonly versions: readonly KindVersion[];
  /** apiVersion of what is stored. */
  readonly storedVersion: string;
  /** Kinds that are two views of one thing (events) share a collection. */
  readonly collection: string;
  readonly nameRule: 'subdomain' | 'label' | 'path';
  readonly status: boolean;
  /** Nodes register with their status; other kinds lose it on create. */
  readonly createsWithStatus: boolean;
  readonly scale?: ScalePaths;
  /** Besides metadata.name and metadata.namespace. */
  readonly selectable: readonly string[];
  readonly custom: boolean;
  readonly subresources: readonly string[];
  /** Fills what a client may leave out; called on create and on every update. */
  readonly defaults?: (object: Any, context: HookContext, before: Any | null) => void;
  readonly check?: (object: Any, before: Any | null) => StatusCause[];
  /** Seconds of grace when the caller names none; 0 deletes at once. */
  readonly grace?: (object: Any) => number;
  /** True while something besides metadata.finalizers keeps a deleted object. */
  readonly held?: (object: Any) => boolean;
  /** What a caller is told in Warning headers when such an object is made, or wished to be otherwise. */
  readonly warnings?: (object: Any) => string[];
  /** Why an object may never be deleted; null for one that may. */
  readonly lasting?: (object: Any) => string | null;
  /** Dependents stay when a delete names no policy, as batch/v1 has it. */
  readonly orphansByDefault?: boolean;
  /** Changes an object whose deletion begins. */
  readonly ending?: (object: Any) => void;
};

/** One kind at one version: what a path names. */
export type Served = { readonly kind: Kind; readonly version: KindVersion; readonly apiVersion: string };

export const groupVersion = (group: string, version: string): string =>
  group === '' ? version : `${group}/${version}`;

export class Kinds {
  private readonly byPath = new Map<string, Served>();
  private readonly kinds = new Map<string, Kind>();
  /** Grows with each change; caches of discovery and OpenAPI compare it. */
  generation = 0;

  add(kind: Kind): void {
    this.remove(kind.group, kind.plural);
    this.kinds.set(`${kind.group}/${kind.plural}`, kind);
    for (const version of kind.versions) {
      const served: Served = { kind, version, apiVersion: groupVersion(kind.group, version.name) };
      this.byPath.set(`${served.apiVersion}/${kind.plural}`, served);
    }
    this.generation++;
  }

  remove(group: string, plural: string): void {
    const known = this.kinds.get(`${group}/${plural}`);
    if (known === undefined) return;
    this.kinds.delete(`${group}/${plural}`);
    for (const version of known.versions)
      this.byPath.delete(`${groupVersion(group, version.name)}/${plural}`);
    this.generation++;
  }

  find(group: string, version: string, plural: string): Served | undefined {
    return this.byPath.get(`${groupVersion(group, version)}/${plural}`);
  }

  findKind(apiVersion: string, kind: string): Served | undefined {
    for (const served of this.byPath.values()) {
      if (served.apiVersion === apiVersion && served.kind.kind === kind) return served;
    }
    return undefined;
  }

  /** The kind at its preferred version. */
  preferred(group: string, plural: string): Served | undefined {
    const kind = this.kinds.get(`${group}/${plural}`);
    return kind && this.find(group, kind.versions[0]!.name, plural);
  }

  all(): Kind[] {
    return [...this.kinds.values()];
  }

  served(): Served[] {
    return [...this.byPath.values()];
  }

  hasGroupVersion(group: string, version: string): boolean {
    const apiVersion = groupVersion(group, version);
    return this.served().some((s) => s.apiVersion === apiVersion);
  }
}

export function toStored(served: Served, object: Any): Any {
  const converted = served.version.toStored ? served.version.toStored(object) : object;
  return converted.apiVersion === served.kind.storedVersion
    ? converted
    : { ...converted, apiVersion: served.kind.storedVersion };
}

export function fromStored(served: Served, object: Any): Any {
  if (object.apiVersion === served.apiVersion) return object;
  const converted = served.version.fromStored ? served.version.fromStored(object) : object;
  return { ...converted, apiVersion: served.apiVersion };
}
