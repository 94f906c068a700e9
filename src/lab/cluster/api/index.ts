// The embedded Kubernetes API of a lab: opens its store and keys, serves HTTPS requests and callers in the process.
// Invariants: what was answered survives kill -9; one resourceVersion counter that only grows; nobody unknown gets in.
// Must never import the agent. Entry: openKubeApi.

import { mkdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { namespaces } from '../../../kube/resources.ts';
import type { Pod } from '../../../kube/types.ts';
import type { PodAccess } from '../streaming/access.ts';
import { builtinKinds } from './builtin.ts';
import { Calls } from './calls.ts';
import { Discovery } from './discovery.ts';
import { createHandler } from './http.ts';
import { Kinds } from './kinds.ts';
import { Lifecycle } from './lifecycle.ts';
import { OpenApi } from './openapi.ts';
import { Pki } from './pki.ts';
import { bootstrapPolicy, Rbac } from './rbac.ts';
import { Rest } from './rest.ts';
import { Storage } from './storage.ts';
import { Store } from './store.ts';
import { ServiceAccountTokens } from './tokens.ts';
import { createUpgradeHandler } from './upgrade.ts';
import { Verbs } from './verbs.ts';

export { ApiError } from './errors.ts';
export type { Frozen, Selectors, Store, StoreEvent } from './store.ts';

const SERVICE_CIDR = '172.20.0.0/16';
/** As EKS chooses one: a /108 of the unique local range. */
const SERVICE_CIDR6 = 'fd30:1c53:5f8a::/108';
/** The service ranges of a cluster with these families, the primary one first. */
export const serviceCidrsOf = (families: 'ipv4' | 'ipv6' | 'dual'): string[] =>
  ({ ipv4: [SERVICE_CIDR], ipv6: [SERVICE_CIDR6], dual: [SERVICE_CIDR, SERVICE_CIDR6] })[families];

const CLOSE_AGAIN_MS = 20;

/** Connections of one server; a watch holds one for as long as it lasts. */
export const MAX_CONNECTIONS = 2500;

export type KubeApiOptions = {
  /** Holds kube.sqlite, kube-pki.json and kube-calls.jsonl (calls.ts); made 0700 when missing. */
  dir: string;
  /** Names and addresses by which clients reach the API. */
  names: readonly string[];
  now?: () => number;
  /** Ranges of cluster addresses of services, one of a family, the primary one first. */
  serviceCidrs?: readonly string[];
};

export type KubeApi = {
  readonly handler: (request: IncomingMessage, response: ServerResponse) => void;
  readonly store: Store;
  /** PEM; what https.createServer takes. */
  readonly tls: { key: string; cert: string; ca: string };
  /** An HTTPS server with the API's certificate and bounds, not yet listening. Make as many as there are addresses. */
  createServer(): Server;
  /** A kubeconfig (JSON, which is YAML) with the user's token, the same at every call. `server`: https://HOST:PORT */
  kubeconfig(options: { server: string; user: string; groups?: readonly string[] }): string;
  /** A token of the pod's service account, bound to the pod; null when the pod wants none or the account is gone. */
  podToken(pod: Pod, seconds: number): string | null;
  /** From now on logs, exec and port-forward of pods are served. */
  servePods(access: PodAccess): void;
  clientCertificate(user: string, groups?: readonly string[]): Promise<{ key: string; cert: string }>;
  /** Ends watches, closes the servers that it made and the store. */
  close(): Promise<void>;
};

export async function openKubeApi(options: KubeApiOptions): Promise<KubeApi> {
  const now = options.now ?? Date.now;
  mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  const pki = await Pki.open(join(options.dir, 'kube-pki.json'), options.names, Date.now());
  const storage = new Storage(join(options.dir, 'kube.sqlite'));
  const kinds = new Kinds();
  for (const kind of builtinKinds()) kinds.add(kind);
  const verbs = new Verbs(storage, now, options.serviceCidrs ?? [SERVICE_CIDR]);
  const tokens = new ServiceAccountTokens(pki.signingKey, verbs);
  const rest = new Rest(verbs, tokens);
  const lifecycle = new Lifecycle(verbs, kinds, (collection) => rest.streams.endOf(collection));
  const store = new Store(kinds, rest);
  lifecycle.resume();
  for (const name of ['default', 'kube-system', 'kube-public', 'kube-node-lease']) {
    if (store.find(namespaces, name) === null) store.create(namespaces, { metadata: { name } });
  }
  for (const { plural, object } of bootstrapPolicy()) {
    const served = kinds.preferred('rbac.authorization.k8s.io', plural)!;
    if (!verbs.find(served.kind, '', object.metadata.name!))
      verbs.create(served, '', structuredClone(object));
  }
  const parts = {
    kinds,
    rest,
    pki,
    rbac: new Rbac((collection) => verbs.context().list(collection)),
    calls: new Calls(join(options.dir, 'kube-calls.jsonl')),
    discovery: new Discovery(kinds),
    openApi: new OpenApi(kinds),
  };
  const handler = createHandler(parts);
  const upgrade = createUpgradeHandler(parts);
  const servers = new Set<Server>();

  return {
    handler,
    store,
    tls: pki.tls,
    createServer() {
      const server = createServer(
        { ...pki.tls, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.2' },
        handler,
      );
      const streams = new Set<Duplex>();
      server.on('upgrade', (request, socket, head) => {
        streams.add(socket);
        socket.once('close', () => streams.delete(socket));
        upgrade(request, socket, head);
      });
      // Node counts a connection that was upgraded among those that keep a server open, and not among these.
      const closeRequests = server.closeAllConnections.bind(server);
      server.closeAllConnections = () => {
        closeRequests();
        for (const socket of streams) socket.destroy();
      };
      server.maxConnections = MAX_CONNECTIONS;
      server.headersTimeout = 15_000;
      server.requestTimeout = 60_000;
      server.keepAliveTimeout = 90_000;
      servers.add(server);
      server.once('close', () => servers.delete(server));
      return server;
    },
    kubeconfig({ server, user, groups = ['system:masters'] }) {
      const token = pki.tokenOf(user, groups);
      const name = 'podway';
      return `${JSON.stringify(
        {
          apiVersion: 'v1',
          kind: 'Config',
          clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(pki.tls.ca) } }],
          users: [{ name: user, user: { token } }],
          contexts: [{ name, context: { cluster: name, user, namespace: 'default' } }],
          'current-context': name,
        },
        null,
        2,
      )}\n`;
    },
    podToken: (pod, seconds) => tokens.ofPod(pod, seconds),
    servePods(access) {
      rest.access = () => access;
    },
    clientCertificate: (user, groups = ['system:masters']) => pki.clientCertificate(user, groups, Date.now()),
    async close() {
      rest.streams.close();
      await Promise.all([...servers].map(closeServer));
      storage.close();
    },
  };
}

/** A connection in its handshake is not among those that are closed, and would keep the server open: so again. */
async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  let isOpen = true;
  const closed = new Promise<void>((resolve) => server.close(() => resolve())).then(() => {
    isOpen = false;
  });
  while (isOpen) {
    server.closeAllConnections();
    await Promise.race([closed, sleep(CLOSE_AGAIN_MS)]);
  }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
