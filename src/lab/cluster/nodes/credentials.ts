// What a pod's process calls the API with: a token of its service account, bound to the pod, and a kubeconfig that reads
// it. They are files in the pod's folder, named by KUBECONFIG: a pod has no file system of its own in which the token
// could stand under /var/run/secrets. Tokens are written anew long before they expire; all go with the folder.
import { join } from 'node:path';
import { writeFileAtomic } from '../../../base/files.ts';
import type { Pod } from '../../../kube/types.ts';
import { privateDir } from '../../daemon/files.ts';

/** As kubelet asks for one, and after how much of it another. */
const TOKEN_SECONDS = 3607;
const RENEW_MS = 40 * 60_000;

export type CredentialParts = {
  /** https://HOST:PORT as pods reach it, and its CA (PEM). */
  server: string;
  ca: string;
  /** Of a pod, by its uid. */
  folder(uid: string): string;
  /** Null for a pod that is to have none, or whose service account is gone. */
  token(pod: Pod, seconds: number): string | null;
};

const DIR = 'serviceaccount';

/** Writes them; the environment that names them. */
export function giveCredentials(
  { server, ca, folder, token }: CredentialParts,
  pod: Pod,
): Record<string, string> {
  const issued = token(pod, TOKEN_SECONDS);
  if (issued === null) return {};
  const dir = join(folder(pod.metadata.uid!), DIR);
  const file = (name: string) => join(dir, name);
  const { namespace = 'default' } = pod.metadata;
  privateDir(dir);
  writeFileAtomic(file('token'), issued);
  writeFileAtomic(file('ca.crt'), ca);
  writeFileAtomic(file('namespace'), namespace);
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'podway', cluster: { server, 'certificate-authority': file('ca.crt') } }],
    users: [{ name: 'pod', user: { tokenFile: file('token') } }],
    contexts: [{ name: 'podway', context: { cluster: 'podway', user: 'pod', namespace } }],
    'current-context': 'podway',
  };
  writeFileAtomic(file('kubeconfig'), `${JSON.stringify(config, null, 2)}\n`);
  return { KUBECONFIG: file('kubeconfig') };
}

/** Writes new tokens for the pods that run, now and from time to time. */
export function keepCredentials(parts: CredentialParts, running: () => readonly Pod[]): { close(): void } {
  let timer: NodeJS.Timeout;
  const renew = () => {
    for (const pod of running()) giveCredentials(parts, pod);
    timer = setTimeout(renew, RENEW_MS);
    timer.unref();
  };
  renew();
  return { close: () => clearTimeout(timer) };
}
