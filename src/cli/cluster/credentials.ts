// How a person's kubeconfig is read: KUBECONFIG or ~/.kube/config, the context asked for, and users that are known by a
// command (aws eks get-token), which is run as kubectl runs it. In a pod without a kubeconfig: its service account.
// Fails with LabError NO_CLUSTER.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ExecUser, inClusterConfig, type KubeConfig, readKubeConfig } from '../../kube/index.ts';
import { LabError } from '../../lab/daemon/errors.ts';

/** A command that asks a person something has no terminal here. */
const COMMAND_MS = 60_000;

export type ClusterOptions = { kubeconfig?: string; context?: string };

export async function clusterConfig({ kubeconfig, context }: ClusterOptions): Promise<KubeConfig> {
  const named = kubeconfig ?? (process.env['KUBECONFIG']?.split(':').find((one) => one !== '') || undefined);
  const file = named ?? join(homedir(), '.kube', 'config');
  try {
    if (named === undefined && !existsSync(file) && process.env['KUBERNETES_SERVICE_HOST'])
      return tokenNow(inClusterConfig());
    return tokenNow(
      await readKubeConfig(file, { runCommand, ...(context === undefined ? {} : { context }) }),
    );
  } catch (error) {
    if (error instanceof LabError) throw error;
    throw new LabError(
      'NO_CLUSTER',
      `no cluster can be asked: ${(error as Error).message}`,
      'name a kubeconfig by --kubeconfig or KUBECONFIG, and a context of it by --context',
      { cause: error },
    );
  }
}

/** A command line lives shorter than a token: files are read once. */
function tokenNow({ tokenFile, caFile, ...config }: KubeConfig): KubeConfig {
  return {
    ...config,
    ...(tokenFile === undefined ? {} : { token: readFileSync(tokenFile, 'utf8').trim() }),
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }),
  };
}

type Credential = {
  status?: { token?: string; clientCertificateData?: string; clientKeyData?: string };
};

async function runCommand({
  apiVersion,
  command,
  args,
  env,
}: ExecUser): Promise<Pick<KubeConfig, 'token' | 'cert' | 'key'>> {
  const info = { kind: 'ExecCredential', apiVersion, spec: { interactive: false } };
  const own = Object.fromEntries((env ?? []).map(({ name, value }) => [name, value]));
  const { stdout } = await promisify(execFile)(command, args ?? [], {
    timeout: COMMAND_MS,
    env: { ...process.env, ...own, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
  });
  const { status } = JSON.parse(stdout) as Credential;
  if (!status?.token && !status?.clientCertificateData)
    throw new Error(`${command} gives neither token nor certificate`);
  return {
    ...(status.token ? { token: status.token } : {}),
    ...(status.clientCertificateData ? { cert: status.clientCertificateData } : {}),
    ...(status.clientKeyData ? { key: status.clientKeyData } : {}),
  };
}
