// One HTTPS call of a webhook. An URL is called from the lab's daemon; a service at one of its pods, or at an address of
// its EndpointSlices, through the namespace of a node, as a kube-apiserver inside the VPC would. The certificate is
// checked for the URL's host, or for NAME.NAMESPACE.svc. Fails with an Error that says why.
import { Agent, request } from 'node:https';
import { isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import type { KubeObject, Pod } from '../../../kube/types.ts';
import { IN_LAB } from '../../daemon/endpoints.ts';
import type { Hook, ServiceReference } from './hooks.ts';

/** An answer is a small object, or a patch of one. */
const MAX_ANSWER = 10 << 20;

/** Where a service is: an address, and the node whose namespace it is reached from. */
export type Endpoint = {
  address: string;
  port: number;
  node: string | undefined;
  /** At the API's own address in the VPC, which is reached from where the API is alone. */
  ofApi?: true;
};

export type Dial = (endpoint: Endpoint) => Socket;

type Service = KubeObject & {
  spec?: {
    selector?: Record<string, string>;
    ports?: { name?: string; port: number; targetPort?: number | string }[];
  };
};
type Slice = KubeObject & {
  endpoints?: { addresses: string[]; conditions?: { ready?: boolean }; nodeName?: string }[];
  ports?: { name?: string; port?: number }[];
};

/** What `find` asks of the stored objects. */
export type Objects = (collection: string) => readonly KubeObject[];

const isIn = (namespace: string) => (object: KubeObject) => object.metadata.namespace === namespace;

/** Ready endpoints of a service's port. Throws for a service or port that is not there. */
export function endpointsOf(list: Objects, reference: ServiceReference): Endpoint[] {
  const { namespace, name, port } = reference;
  const service = (list('services') as Service[]).find(
    ({ metadata }) => metadata.name === name && metadata.namespace === namespace,
  );
  if (service === undefined) throw new Error(`service "${name}" not found`);
  const chosen = service.spec?.ports?.find((each) => each.port === port);
  if (chosen === undefined) throw new Error(`no service port ${port} found for service "${name}"`);
  const selector = Object.entries(service.spec?.selector ?? {});
  const target = chosen.targetPort ?? port;
  const ofPods = (list('pods') as Pod[])
    .filter(isIn(namespace))
    .filter(
      ({ metadata, status }) =>
        selector.length > 0 &&
        metadata.deletionTimestamp === undefined &&
        status?.podIP !== undefined &&
        status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') &&
        selector.every(([key, value]) => metadata.labels?.[key] === value),
    )
    .flatMap((pod) => {
      const named = pod.spec.containers
        .flatMap(({ ports = [] }) => ports)
        .find(({ name: is }) => is === target);
      const number = typeof target === 'number' ? target : (named?.containerPort ?? Number(target));
      const endpoint = { address: pod.status!.podIP!, port: number, node: pod.spec.nodeName };
      return number > 0 ? [endpoint] : [];
    });
  if (selector.length > 0) return ofPods;
  return (list('endpointslices.discovery.k8s.io') as Slice[])
    .filter(isIn(namespace))
    .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === name)
    .flatMap(({ endpoints = [], ports = [] }) => {
      const found = ports.find((each) => (each.name ?? '') === (chosen.name ?? ''))?.port;
      return endpoints
        .filter(({ conditions }) => conditions?.ready !== false && found !== undefined)
        .map(({ addresses, nodeName }) => ({ address: addresses[0]!, port: found!, node: nodeName }));
    });
}

/** `shown` is told in failures. */
type Route = { shown: string; host: string; port: number; path: string; tls: ConnectionOptions };

function routeOf({ clientConfig }: Hook, list: Objects, dial: Dial): Route {
  const { url, service, caBundle } = clientConfig;
  const ca = caBundle ? { ca: Buffer.from(caBundle, 'base64').toString() } : {};
  if (service === undefined) {
    const { hostname, port, pathname } = new URL(url!);
    // A bracketed address of IPv6 is no name that a certificate could have.
    const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
    const number = port === '' ? 443 : Number(port);
    const servername = isIP(host) ? {} : { servername: host };
    const isInside = [IN_LAB.kubeAddress, IN_LAB.kubeAddress6].some((own) => own === host);
    const to = isInside
      ? { socket: dial({ address: host, port: number, node: undefined, ofApi: true }) }
      : { port: number };
    return {
      shown: url!,
      host,
      port: number,
      path: pathname,
      tls: { host, ...to, ...servername, ...ca },
    };
  }
  const { name, namespace, port, path = '/' } = service;
  const host = `${name}.${namespace}.svc`;
  const found = endpointsOf(list, service);
  if (found.length === 0) throw new Error(`no endpoints available for service "${name}"`);
  const socket = dial(found[Math.floor(Math.random() * found.length)]!);
  return {
    shown: `https://${host}:${port}${path}`,
    host,
    port,
    path,
    tls: { socket, servername: host, ...ca },
  };
}

/** The webhook's answer as JSON. */
export async function callHook(hook: Hook, review: object, list: Objects, dial: Dial): Promise<unknown> {
  const { shown, host, port, path, tls } = routeOf(hook, list, dial);
  const body = JSON.stringify(review);
  const query = `timeout=${hook.timeoutSeconds}s`;
  const named = (why: string) => new Error(`failed to call webhook: Post "${shown}?${query}": ${why}`);
  const signal = AbortSignal.timeout(hook.timeoutSeconds * 1000);
  const agent = new Agent();
  agent.createConnection = () => connect(tls);
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      tls.socket?.destroy();
      reject(named(signal.aborted ? 'context deadline exceeded' : error.message));
    };
    const sent = request(
      {
        agent,
        host,
        port,
        path: `${path}?${query}`,
        method: 'POST',
        signal,
        headers: {
          'content-type': 'application/json',
          accept: 'application/json',
          'content-length': Buffer.byteLength(body),
          'user-agent': 'podway-lab',
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_ANSWER) response.destroy(new Error(`an answer of more than ${MAX_ANSWER} bytes`));
          chunks.push(chunk);
        });
        response.once('error', fail);
        response.once('end', () => {
          const text = Buffer.concat(chunks).toString();
          const code = response.statusCode ?? 0;
          if (code < 200 || code > 299)
            return reject(named(`the server answered ${code}: ${text.slice(0, 200)}`));
          try {
            resolve(JSON.parse(text));
          } catch {
            reject(named(`the answer is no JSON: ${text.slice(0, 200)}`));
          }
        });
      },
    );
    sent.once('error', fail);
    sent.end(body);
  });
}
