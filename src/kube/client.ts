// A thin Kubernetes client over node:https: one keep-alive pool, JSON in and out, watches as async iterables.
// Every request has a time limit and takes an AbortSignal. Fails with KubeError: the Status that the API answered, or
// code 0 when it was not reached.

import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import { createSecureContext } from 'node:tls';
import { linesOf, textOf } from './body.ts';
import type { KubeConfig } from './config.ts';
import { errorOf, KubeError } from './errors.ts';
import { FollowedFile } from './followed-file.ts';
import { apiVersionOf, type Resource, resourcePath } from './resources.ts';
import type { KubeList, KubeObject, Status, WatchEvent } from './types.ts';

/** Plain requests at once; watches have connections of their own. */
const MAX_SOCKETS = 8;
const REQUEST_MS = 30_000;
export type ListQuery = {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersion?: string;
};

export type WatchQuery = {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  /** The server ends the watch after this; the client a little later. */
  timeoutSeconds?: number;
  /** State first, then a bookmark with the annotation k8s.io/initial-events-end. */
  sendInitialEvents?: boolean;
};

export type PatchType = 'merge' | 'json' | 'strategic' | 'apply';

const patchTypes: Record<PatchType, string> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

export type DeleteQuery = {
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
  preconditions?: { uid?: string; resourceVersion?: string };
};

type Query = Record<string, string | number | boolean | undefined>;

export class KubeClient {
  private readonly config: KubeConfig;
  private readonly base: URL;
  private readonly userAgent: string;
  private connections: Connections;
  private readonly ca: FollowedFile | null;
  private readonly token: FollowedFile | null;

  constructor(config: KubeConfig, options: { userAgent?: string } = {}) {
    this.config = config;
    this.base = new URL(config.server);
    this.userAgent = options.userAgent ?? 'podway';
    this.ca = config.caFile === undefined ? null : new FollowedFile(config.caFile);
    this.token = config.tokenFile === undefined ? null : new FollowedFile(config.tokenFile);
    this.connections = connectionsOf(config, this.ca?.read());
  }

  close(): void {
    this.connections.requests.destroy();
    this.connections.watches.destroy();
  }

  get<T extends KubeObject>(
    r: Resource<T>,
    name: string,
    namespace?: string,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.call<T>('GET', resourcePath(r, namespace, name), {}, undefined, undefined, signal);
  }

  list<T extends KubeObject>(
    r: Resource<T>,
    query: ListQuery = {},
    signal?: AbortSignal,
  ): Promise<KubeList<T>> {
    const { namespace, ...rest } = query;
    return this.call<KubeList<T>>('GET', resourcePath(r, namespace), rest, undefined, undefined, signal);
  }

  /** `namespace` defaults to the object's own. */
  create<T extends KubeObject>(
    r: Resource<T>,
    object: T,
    namespace?: string,
    signal?: AbortSignal,
  ): Promise<T> {
    const body = { apiVersion: apiVersionOf(r), kind: r.kind, ...object };
    return this.call<T>(
      'POST',
      resourcePath(r, namespace ?? object.metadata.namespace),
      {},
      body,
      'application/json',
      signal,
    );
  }

  update<T extends KubeObject>(r: Resource<T>, object: T, signal?: AbortSignal): Promise<T> {
    return this.put(r, object, undefined, signal);
  }

  updateStatus<T extends KubeObject>(r: Resource<T>, object: T, signal?: AbortSignal): Promise<T> {
    return this.put(r, object, 'status', signal);
  }

  private put<T extends KubeObject>(
    r: Resource<T>,
    object: T,
    subresource: string | undefined,
    signal?: AbortSignal,
  ): Promise<T> {
    const body = { apiVersion: apiVersionOf(r), kind: r.kind, ...object };
    const { name, namespace } = object.metadata;
    return this.call<T>(
      'PUT',
      resourcePath(r, namespace, name!, subresource),
      {},
      body,
      'application/json',
      signal,
    );
  }

  patch<T extends KubeObject>(
    r: Resource<T>,
    name: string,
    namespace: string | undefined,
    patch: unknown,
    options: {
      type?: PatchType;
      subresource?: string;
      fieldManager?: string;
      force?: boolean;
      /** The API checks it and writes nothing. */
      isDryRun?: boolean;
    } = {},
    signal?: AbortSignal,
  ): Promise<T> {
    const {
      type = 'merge',
      subresource,
      fieldManager = type === 'apply' ? this.userAgent : undefined,
      force,
      isDryRun = false,
    } = options;
    const path = resourcePath(r, namespace, name, subresource);
    const query = { fieldManager, force, ...(isDryRun ? { dryRun: 'All' } : {}) };
    return this.call<T>('PATCH', path, query, patch, patchTypes[type], signal);
  }

  /** Answers what the API answered: the object, or a Status. */
  delete(
    r: Resource,
    name: string,
    namespace?: string,
    query: DeleteQuery = {},
    signal?: AbortSignal,
  ): Promise<KubeObject | Status> {
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', ...query };
    return this.call('DELETE', resourcePath(r, namespace, name), {}, body, 'application/json', signal);
  }

  /** POST to a subresource: binding, eviction. */
  post<R>(
    r: Resource,
    name: string,
    namespace: string,
    subresource: string,
    body: object,
    signal?: AbortSignal,
  ): Promise<R> {
    return this.call<R>(
      'POST',
      resourcePath(r, namespace, name, subresource),
      {},
      body,
      'application/json',
      signal,
    );
  }

  /** Any other path: `/version`, `/readyz`. */
  getPath<R>(path: string, signal?: AbortSignal): Promise<R> {
    return this.call<R>('GET', path, {}, undefined, undefined, signal);
  }

  /**
   * Ends when the server ends the watch or the signal aborts (then it throws the reason). Throws KubeError for a
   * refusal, an ERROR event included (410: list again). `onOpen`: the server has begun to answer.
   */
  async *watch<T extends KubeObject>(
    r: Resource<T>,
    query: WatchQuery,
    signal?: AbortSignal,
    onOpen?: () => void,
  ): AsyncGenerator<WatchEvent<T>> {
    const { namespace, sendInitialEvents, timeoutSeconds = 290, ...rest } = query;
    const path = resourcePath(r, namespace);
    const initial = sendInitialEvents
      ? { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' }
      : {};
    const response = await this.open(
      'GET',
      path,
      { ...rest, ...initial, watch: true, allowWatchBookmarks: true, timeoutSeconds },
      undefined,
      undefined,
      'watches',
      (timeoutSeconds + 30) * 1000,
      signal,
    );
    if (response.statusCode !== 200) throw await this.refusal(response);
    onOpen?.();
    for await (const line of linesOf(response, signal)) {
      const event = JSON.parse(line) as WatchEvent<T>;
      if (event.type === 'ERROR') throw errorOf(event.object.code ?? 500, event.object);
      yield event;
    }
  }

  private async call<R>(
    method: string,
    path: string,
    query: Query,
    body: unknown,
    contentType: string | undefined,
    signal?: AbortSignal,
  ): Promise<R> {
    const response = await this.open(method, path, query, body, contentType, 'requests', REQUEST_MS, signal);
    if (response.statusCode === undefined || response.statusCode >= 300) throw await this.refusal(response);
    const text = await textOf(response);
    const json = response.headers['content-type']?.startsWith('application/json');
    return (json ? JSON.parse(text) : text) as R;
  }

  private open(
    method: string,
    path: string,
    query: Query,
    body: unknown,
    contentType: string | undefined,
    kind: keyof Connections,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value !== undefined) search.set(key, String(value));
    const text = body === undefined ? undefined : JSON.stringify(body);
    const token = this.token?.read() ?? this.config.token;
    this.followAuthority();
    const prefix = this.base.pathname === '/' ? '' : this.base.pathname;
    const options: RequestOptions = {
      method,
      host: this.base.hostname.replace(/^\[|\]$/g, ''),
      port: this.base.port || 443,
      path: `${prefix}${path}${search.size > 0 ? `?${search}` : ''}`,
      agent: this.connections[kind],
      ...(signal === undefined ? {} : { signal }),
      headers: {
        accept: 'application/json',
        'user-agent': this.userAgent,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(text === undefined
          ? {}
          : { 'content-type': contentType, 'content-length': Buffer.byteLength(text) }),
      },
    };
    return new Promise((resolve, reject) => {
      const request = httpsRequest(options);
      const limit = setTimeout(() => {
        request.destroy(new KubeError(0, 'Timeout', `${method} ${path}: no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      limit.unref();
      request.once('response', (response) => {
        // The limit goes on for the body: a watch that outlives its own timeout is dead.
        response.once('close', () => clearTimeout(limit));
        resolve(response);
      });
      request.once('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(limit);
        if (signal?.aborted) reject(signal.reason);
        else if (error instanceof KubeError) reject(error);
        else
          reject(
            new KubeError(0, error.code ?? 'Unreachable', `${method} ${path}: ${error.message}`, undefined, {
              cause: error,
            }),
          );
      });
      request.end(text);
    });
  }

  private async refusal(response: IncomingMessage): Promise<KubeError> {
    const code = response.statusCode ?? 0;
    const text = await textOf(response);
    try {
      const status = JSON.parse(text) as Status;
      if (status.kind === 'Status') return errorOf(code, status);
    } catch {
      // A proxy's page, or nothing: the code alone must do.
    }
    return new KubeError(code, 'Unknown', `the API answered ${code}: ${text.slice(0, 200)}`);
  }

  /** New connections trust the authority of now; open ones go on, and end when they have been idle. */
  private followAuthority(): void {
    if (!this.ca?.hasChanged()) return;
    this.connections = connectionsOf(this.config, this.ca.read());
  }
}

type Connections = { requests: Agent; watches: Agent };

function connectionsOf(config: KubeConfig, ca = config.ca): Connections {
  // Made once: each connection would parse the certificates again and keep them.
  const secureContext = createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    ...(config.cert === undefined ? {} : { cert: config.cert }),
    ...(config.key === undefined ? {} : { key: config.key }),
  });
  const tls = {
    secureContext,
    ...(config.tlsServerName === undefined ? {} : { servername: config.tlsServerName }),
    ...(config.insecure ? { rejectUnauthorized: false } : {}),
  };
  return {
    requests: new Agent({
      ...tls,
      keepAlive: true,
      maxSockets: MAX_SOCKETS,
      maxFreeSockets: 2,
      timeout: 90_000,
    }),
    watches: new Agent({ ...tls, keepAlive: false }),
  };
}
