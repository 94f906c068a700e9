// For tests: an API on loopback in a directory of its own, with clients, all gone afterwards.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConfigMap, KubeClient, readKubeConfig, resource } from '../../../kube/index.ts';
import { type KubeApi, type KubeApiOptions, openKubeApi } from './index.ts';

export const configMaps = resource<ConfigMap>('v1', 'configmaps', 'ConfigMap', 'Namespaced');

export type Answered = {
  code: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  json: any;
};

export type Harness = AsyncDisposable & {
  api: KubeApi;
  port: number;
  server: string;
  client: KubeClient;
  kubeconfigPath: string;
  dir: string;
  /** A raw request with the admin's token; `headers` may replace it. */
  raw(
    method: string,
    path: string,
    options?: { body?: string | Buffer; headers?: Record<string, string> },
  ): Promise<Answered>;
  /** Stops and opens again on the same directory and port. */
  restart(): Promise<void>;
};

export async function startApi(options: Partial<KubeApiOptions> = {}): Promise<Harness> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-kube-'));
  const open = () => openKubeApi({ dir, names: ['127.0.0.1', 'localhost'], ...options });
  const listen = (api: KubeApi, port: number) =>
    new Promise<number>((resolve, reject) => {
      const server = api.createServer();
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  const api = await open();
  const port = await listen(api, 0);
  const server = `https://127.0.0.1:${port}`;
  const kubeconfigPath = join(dir, 'kubeconfig');
  writeFileSync(kubeconfigPath, api.kubeconfig({ server, user: 'admin' }), { mode: 0o600 });
  const config = await readKubeConfig(kubeconfigPath);
  const client = new KubeClient(config);
  const harness: Harness = {
    api,
    port,
    server,
    client,
    kubeconfigPath,
    dir,
    raw: (method, path, { body, headers = {} } = {}) =>
      new Promise((resolve, reject) => {
        const sent = request(
          `${server}${path}`,
          {
            method,
            ca: config.ca!,
            agent: false,
            headers: {
              authorization: `Bearer ${config.token}`,
              ...(body === undefined ? {} : { 'content-type': 'application/json' }),
              ...headers,
            },
          },
          (response) => {
            let text = '';
            response.setEncoding('utf8');
            response.on('data', (chunk: string) => {
              text += chunk;
            });
            response.on('end', () => {
              let json: unknown;
              try {
                json = JSON.parse(text);
              } catch {
                json = undefined;
              }
              resolve({ code: response.statusCode ?? 0, headers: response.headers, text, json });
            });
            response.on('error', reject);
          },
        );
        sent.on('error', reject);
        sent.end(body);
      }),
    async restart() {
      await harness.api.close();
      harness.api = await open();
      await listen(harness.api, port);
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await harness.api.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  return harness;
}

/** Waits for a condition, looking every few milliseconds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 30_000,
): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const aPod = (name: string, extra: Record<string, unknown> = {}) => ({
  metadata: { name, namespace: 'default', ...(extra['metadata'] as object) },
  spec: { containers: [{ name: 'main', image: 'pod-server' }], ...(extra['spec'] as object) },
});
