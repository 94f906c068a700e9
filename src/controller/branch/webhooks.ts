// The webhooks: an HTTPS server that every replica has, with the certificate of a Secret that the leader makes, and the API's
// two configurations, which the leader fills while branches are made and empties otherwise: then no pod's creation asks
// anybody. A webhook that is away lets pods pass (failurePolicy Ignore). Fails with LISTEN_FAILED.

import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import { type Clock, systemClock } from '../../base/clock.ts';
import { PodwayError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { isConflict, isNotFound, type KubeClient, type KubeObject, resource } from '../../kube/index.ts';
import type { PolicyView } from '../../kube/pod-groups-view.ts';
import type { Listen } from '../options.ts';
import { type AdmissionReview, candidateOf, guard, inject } from './admission.ts';
import { type KeyAndCertificate, makeCertificate, serves } from './certificate.ts';

export const WEBHOOK_NAME = 'podway-webhook';
const MUTATE = '/mutate-v1-pod';
const VALIDATE = '/validate-v1-pod';
/** Answers of the API wait no longer for us (s), and what one may send (bytes). */
const TIMEOUT_S = 5;
const MAX_BODY = 8 << 20;
/** Between two reads of the Secret (ms): until there is one, and after. */
const SEEK_MS = 1_000;
const KEEP_MS = 30_000;

type Secret = KubeObject & { type?: string; data?: Record<string, string> };
/** WEBHOOK_NAME is the webhooks' certificate. */
export const secrets = resource<Secret>('v1', 'secrets', 'Secret', 'Namespaced');

export type WebhookOptions = {
  client: KubeClient;
  policies: PolicyView;
  listen: Listen;
  namespace: string;
  /** Where the API reaches us; absent: by the Service. */
  url?: string | undefined;
  isLeading: () => boolean;
  log: Log;
  clock?: Clock;
};

export class Webhooks {
  readonly #o: WebhookOptions;
  readonly #clock: Clock;
  readonly #names: string[];
  #current: KeyAndCertificate | null = null;
  #server: Server | null = null;

  constructor(options: WebhookOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    const host = options.url && new URL(options.url).hostname.replace(/^\[|\]$/g, '');
    this.#names = [`${WEBHOOK_NAME}.${options.namespace}.svc`, ...(host ? [host] : [])];
  }

  /** PEM that the API is to trust; null until there is one. */
  get authority(): string | null {
    return this.#current?.cert ?? null;
  }

  /** Serves while `isNeeded`, once it was. Ends when `signal` aborts. Throws LISTEN_FAILED. */
  async serve(isNeeded: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
    let isTold = false;
    while (!signal.aborted) {
      let rest = SEEK_MS;
      try {
        const found = (await isNeeded()) ? await this.#certificate(signal) : null;
        if (found && found.cert !== this.#current?.cert) await this.#take(found);
        if (found) rest = KEEP_MS;
        isTold = false;
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof PodwayError) throw error;
        if (!isTold)
          this.#o.log.warn({ error: (error as Error).message }, 'the webhooks have no certificate');
        isTold = true;
      }
      await this.#clock.sleep(rest, signal).catch(() => undefined);
    }
    this.#server?.close();
    this.#server?.closeAllConnections();
  }

  /** The Secret's, or a new one that the leader has put there. Null while another has to. */
  async #certificate(signal: AbortSignal): Promise<KeyAndCertificate | null> {
    const { client, namespace, isLeading, log } = this.#o;
    const known = await client.get(secrets, WEBHOOK_NAME, namespace, signal).catch((error: unknown) => {
      if (isNotFound(error)) return null;
      throw error;
    });
    const text = (name: string) => Buffer.from(known?.data?.[name] ?? '', 'base64').toString();
    const found = { key: text('tls.key'), cert: text('tls.crt') };
    if (serves(found, this.#names, this.#clock.now())) return found;
    if (!isLeading()) return null;
    const made = makeCertificate(this.#names, this.#clock.now());
    const data = {
      'tls.key': Buffer.from(made.key).toString('base64'),
      'tls.crt': Buffer.from(made.cert).toString('base64'),
    };
    try {
      if (known) await client.update(secrets, { ...known, data }, signal);
      else {
        const metadata = { name: WEBHOOK_NAME, namespace };
        await client.create(secrets, { metadata, type: 'kubernetes.io/tls', data }, namespace, signal);
      }
    } catch (error) {
      // Another was first: its one is read next time.
      if (isConflict(error)) return null;
      throw error;
    }
    log.info({ secret: `${namespace}/${WEBHOOK_NAME}` }, 'made the certificate of the webhooks');
    return made;
  }

  async #take(found: KeyAndCertificate): Promise<void> {
    if (this.#server) this.#server.setSecureContext(found);
    else this.#server = await this.#listen(found);
    this.#current = found;
  }

  #listen(tls: KeyAndCertificate): Promise<Server> {
    const { host, port } = this.#o.listen;
    const server = createServer(
      { ...tls, requestTimeout: 10_000, headersTimeout: 5_000 },
      (request, response) => {
        void this.#answer(request)
          .catch((error: Error) => [500, { error: error.message }] as const)
          .then(([status, body]) => {
            response.writeHead(status, { 'content-type': 'application/json' });
            response.end(JSON.stringify(body));
          });
      },
    );
    return new Promise((resolve, reject) => {
      const at = `${host.includes(':') ? `[${host}]` : host}:${port}`;
      server.once('error', (error) =>
        reject(
          new PodwayError(
            'LISTEN_FAILED',
            `webhooks cannot be served on ${at}: ${error.message}`,
            { object: at },
            { cause: error },
          ),
        ),
      );
      server.listen(host === '' ? { port } : { host, port }, () => resolve(server));
    });
  }

  async #answer(request: IncomingMessage): Promise<readonly [number, object]> {
    const path = (request.url ?? '').split('?')[0];
    if (request.method !== 'POST' || (path !== MUTATE && path !== VALIDATE))
      return [404, { error: 'not here' }];
    const review = JSON.parse(await bodyOf(request)) as AdmissionReview;
    const response = path === MUTATE ? await this.#inject(review) : guard(review, this.#writer);
    return [200, { apiVersion: review.apiVersion, kind: review.kind, response }];
  }

  async #inject(review: AdmissionReview) {
    const candidate = candidateOf(review);
    const { policies } = this.#o;
    if (!policies.isWhole) throw new Error('the SecurityGroupPolicies are not read yet');
    return inject(review, candidate ? (await policies.groupsOf(candidate)).groupIds : []);
  }

  get #writer(): string {
    return `system:serviceaccount:${this.#o.namespace}:podway-controller`;
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY) throw new Error(`a review of more than ${MAX_BODY} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

type Configuration = KubeObject & { webhooks?: object[] };
const configurations = {
  [MUTATE]: resource<Configuration>(
    'admissionregistration.k8s.io/v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    'Cluster',
  ),
  [VALIDATE]: resource<Configuration>(
    'admissionregistration.k8s.io/v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    'Cluster',
  ),
} as const;

/** What the API is told of one webhook. */
function webhookOf(
  path: typeof MUTATE | typeof VALIDATE,
  where: Pick<WebhookOptions, 'namespace' | 'url'>,
  cert: string,
) {
  const { namespace, url } = where;
  const caBundle = Buffer.from(cert).toString('base64');
  return {
    name: path === MUTATE ? 'inject.security-groups.podway.dev' : 'guard.security-groups.podway.dev',
    admissionReviewVersions: ['v1'],
    sideEffects: 'None',
    failurePolicy: 'Ignore',
    matchPolicy: 'Equivalent',
    timeoutSeconds: TIMEOUT_S,
    ...(path === MUTATE ? { reinvocationPolicy: 'IfNeeded' } : {}),
    clientConfig: url
      ? { url: `${url.replace(/\/$/, '')}${path}`, caBundle }
      : { service: { namespace, name: WEBHOOK_NAME, port: 443, path }, caBundle },
    rules: [
      {
        operations: path === MUTATE ? ['CREATE'] : ['CREATE', 'UPDATE'],
        apiGroups: [''],
        apiVersions: ['v1'],
        resources: ['pods'],
        scope: 'Namespaced',
      },
    ],
  };
}

/** Writes both configurations; with `cert` null they name no webhook. Those of the chart are changed, absent ones made. */
export async function configureWebhooks(
  client: KubeClient,
  where: Pick<WebhookOptions, 'namespace' | 'url'>,
  cert: string | null,
  signal: AbortSignal,
): Promise<void> {
  for (const path of [MUTATE, VALIDATE] as const) {
    const kind = configurations[path];
    const webhooks = cert === null ? [] : [webhookOf(path, where, cert)];
    try {
      await client.patch(kind, WEBHOOK_NAME, undefined, { webhooks }, {}, signal);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      if (webhooks.length > 0)
        await client.create(kind, { metadata: { name: WEBHOOK_NAME }, webhooks }, undefined, signal);
    }
  }
}
