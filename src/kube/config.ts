// Where the API is and how to be known there: a kubeconfig file, or what a pod finds in itself.
// Kubeconfigs that Podway writes are JSON and need no YAML parser; one is loaded only for other files.
// Fails with KubeConfigError naming the file and what is missing in it.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

export type KubeConfig = {
  /** https://HOST:PORT without a trailing slash. */
  readonly server: string;
  readonly ca?: string;
  /** Read again when it changes: a cluster's authority may be replaced while its pods run. */
  readonly caFile?: string;
  /** Name that the certificate must have, when it is not the host's. */
  readonly tlsServerName?: string;
  readonly insecure?: boolean;
  readonly token?: string;
  /** Read again before it grows old: a projected service account token changes. */
  readonly tokenFile?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly namespace?: string;
};

export class KubeConfigError extends Error {
  override name = 'KubeConfigError';
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The file named, else KUBECONFIG, else the pod's own service account. */
export async function loadKubeConfig(path?: string): Promise<KubeConfig> {
  const file = path ?? process.env['KUBECONFIG']?.split(':')[0];
  if (file) return readKubeConfig(file);
  return inClusterConfig();
}

export function inClusterConfig(
  directory = SERVICE_ACCOUNT,
  env: NodeJS.ProcessEnv = process.env,
): KubeConfig {
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'] ?? '443';
  if (!host || !existsSync(`${directory}/token`)) {
    throw new KubeConfigError(
      'no kubeconfig is named and this is no pod (no KUBERNETES_SERVICE_HOST or no service account)',
    );
  }
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    caFile: `${directory}/ca.crt`,
    tokenFile: `${directory}/token`,
    ...(existsSync(`${directory}/namespace`)
      ? { namespace: readFileSync(`${directory}/namespace`, 'utf8').trim() }
      : {}),
  };
}

type Fields = Record<string, unknown>;

/** A user that is known by a command (client.authentication.k8s.io). */
export type ExecUser = {
  apiVersion: string;
  command: string;
  args?: string[] | null;
  env?: { name: string; value: string }[] | null;
};

export type ReadOptions = {
  /** The current one when absent. */
  context?: string;
  /** Runs the user's command; a user that needs one is refused when absent, as a daemon runs none. */
  runCommand?: (user: ExecUser) => Promise<Pick<KubeConfig, 'token' | 'cert' | 'key'>>;
};

export async function readKubeConfig(file: string, options: ReadOptions = {}): Promise<KubeConfig> {
  const text = readFileSync(file, 'utf8');
  let parsed: unknown;
  try {
    parsed = text.trimStart().startsWith('{') ? JSON.parse(text) : (await import('yaml')).parse(text);
  } catch (error) {
    throw new KubeConfigError(`${file} is no kubeconfig: ${(error as Error).message}`, { cause: error });
  }
  return configOf(parsed, file, options);
}

async function configOf(parsed: unknown, file: string, options: ReadOptions): Promise<KubeConfig> {
  const root = fieldsOf(parsed, file, 'the document');
  const current = options.context ?? root['current-context'];
  const context = named(root, 'contexts', current, 'context', file);
  const cluster = named(root, 'clusters', context['cluster'], 'cluster', file);
  const user = named(root, 'users', context['user'], 'user', file);
  const server = cluster['server'];
  if (typeof server !== 'string') throw new KubeConfigError(`${file}: the cluster has no server`);
  const exec = user['exec'] as ExecUser | undefined;
  if ((exec !== undefined && !options.runCommand) || user['auth-provider'] !== undefined) {
    throw new KubeConfigError(
      `${file}: the user is known by a command (exec, auth-provider); use a token or a certificate`,
    );
  }
  const read = (fields: Fields, field: string): string | undefined => {
    const data = fields[`${field}-data`];
    if (typeof data === 'string') return Buffer.from(data, 'base64').toString('utf8');
    const path = fields[field];
    return typeof path === 'string' ? readFileSync(resolve(dirname(file), path), 'utf8') : undefined;
  };
  const tokenFile = user['tokenFile'];
  return {
    server: server.replace(/\/+$/, ''),
    ...set('ca', read(cluster, 'certificate-authority')),
    ...set('tlsServerName', cluster['tls-server-name'] as string | undefined),
    ...(cluster['insecure-skip-tls-verify'] === true ? { insecure: true } : {}),
    ...set('token', user['token'] as string | undefined),
    ...set('tokenFile', typeof tokenFile === 'string' ? resolve(dirname(file), tokenFile) : undefined),
    ...set('cert', read(user, 'client-certificate')),
    ...set('key', read(user, 'client-key')),
    ...set('namespace', context['namespace'] as string | undefined),
    ...(exec && options.runCommand ? await options.runCommand(exec) : {}),
  };
}

const set = <K extends string>(key: K, value: string | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: string };

function fieldsOf(value: unknown, file: string, what: string): Fields {
  if (value === null || typeof value !== 'object') throw new KubeConfigError(`${file}: ${what} is missing`);
  return value as Fields;
}

function named(root: Fields, list: string, name: unknown, field: string, file: string): Fields {
  const entries = root[list];
  const entry = Array.isArray(entries) ? (entries as Fields[]).find((e) => e?.['name'] === name) : undefined;
  if (entry === undefined) throw new KubeConfigError(`${file}: ${list} has no "${String(name)}"`);
  return fieldsOf(entry[field], file, `${list} "${String(name)}"`);
}
