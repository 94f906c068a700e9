// The keys of a real cluster, as kubeadm would have them: an authority for the API, one for etcd, one for the front
// proxy; a certificate per component and per node. Kept as files in the lab's folder and made again when what a file says
// of its holder differs from what is asked.
import { createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../base/files.ts';
import { type Holder, type KeyAndCert, makeAuthority, signCertificate } from '../certificates.ts';
import { privateDir, readJson, writeJson } from '../daemon/files.ts';
import { API_SERVICE_ADDRESS, CLUSTER_DOMAIN, type ControlPlanePaths } from './layout.ts';

export type Authority = 'ca' | 'etcd-ca' | 'front-proxy-ca';

/** Members of it are bound to cluster-admin; nobody but the lab itself is in system:masters. */
export const ADMIN_GROUP = 'podway:cluster-admins';
export const AGENT_ACCOUNT = { namespace: 'kube-system', name: 'podway-agent' } as const;
export const CONTROLLER_ACCOUNT = { namespace: 'kube-system', name: 'podway-controller' } as const;

const holderOf = ({ namespace, name }: { namespace: string; name: string }): Holder => ({
  user: `system:serviceaccount:${namespace}:${name}`,
  groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`],
});

const RENEW_BEFORE_MS = 24 * 3600_000;

export class ClusterPki {
  readonly #dir: string;
  readonly #now: () => number;

  constructor(paths: Pick<ControlPlanePaths, 'pki'>, now: () => number = Date.now) {
    this.#dir = paths.pki;
    this.#now = now;
    privateDir(this.#dir);
  }

  file(name: string, kind: 'crt' | 'key' | 'pub'): string {
    return join(this.#dir, `${name}.${kind}`);
  }

  async authority(name: Authority): Promise<KeyAndCert> {
    const known = readPair(this.#dir, name);
    if (known) return known;
    const made = await makeAuthority(`podway-lab-${name}`, this.#now());
    writePair(this.#dir, name, made);
    return made;
  }

  /** A certificate of `authority` in `dir`, kept while the holder stays the same. */
  async issue(authority: Authority, name: string, holder: Holder, dir = this.#dir): Promise<KeyAndCert> {
    const ca = await this.authority(authority);
    const said = join(dir, `${name}.json`);
    const known = readPair(dir, name);
    const same = JSON.stringify(readJson<Holder>(said)) === JSON.stringify(holder);
    if (known && same && isGood(known, ca, this.#now())) return known;
    const made = await signCertificate(ca, this.#now(), holder);
    privateDir(dir);
    writePair(dir, name, made);
    writeJson(said, holder);
    return made;
  }

  /** The pair of keys that service accounts' tokens are signed and checked with. */
  async serviceAccountKeys(): Promise<void> {
    if (existsSync(this.file('sa', 'pub'))) return;
    const { key } = await makeAuthority('podway-lab-service-accounts', this.#now());
    writeFileAtomic(this.file('sa', 'key'), key);
    const pub = createPublicKey(key).export({ type: 'spki', format: 'pem' }) as string;
    writeFileAtomic(this.file('sa', 'pub'), pub);
  }
}

function isGood({ cert }: KeyAndCert, ca: KeyAndCert, now: number): boolean {
  const parsed = new X509Certificate(cert);
  return (
    parsed.verify(new X509Certificate(ca.cert).publicKey) &&
    parsed.validToDate.getTime() > now + RENEW_BEFORE_MS
  );
}

function readPair(dir: string, name: string): KeyAndCert | undefined {
  const [key, cert] = [join(dir, `${name}.key`), join(dir, `${name}.crt`)];
  if (!existsSync(key) || !existsSync(cert)) return undefined;
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}

function writePair(dir: string, name: string, pair: KeyAndCert): void {
  writeFileAtomic(join(dir, `${name}.key`), pair.key);
  writeFileAtomic(join(dir, `${name}.crt`), pair.cert);
}

/** Certificates of the control plane, by file name. `address`: its own in the VPC. */
export const controlPlaneHolders = (address: string): [Authority, string, Holder][] => {
  const local = ['localhost', '127.0.0.1'];
  const service = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  return [
    ['etcd-ca', 'etcd', { user: 'etcd', names: local, callsToo: true }],
    ['etcd-ca', 'etcd-client', { user: 'kube-apiserver-etcd-client' }],
    ['front-proxy-ca', 'front-proxy-client', { user: 'front-proxy-client' }],
    [
      'ca',
      'apiserver',
      {
        user: 'kube-apiserver',
        names: [
          ...service,
          `kubernetes.default.svc.${CLUSTER_DOMAIN}`,
          API_SERVICE_ADDRESS,
          address,
          ...local,
        ],
      },
    ],
    ['ca', 'apiserver-kubelet-client', { user: 'kube-apiserver-kubelet-client' }],
    ['ca', 'controller-manager', { user: 'system:kube-controller-manager' }],
    ['ca', 'scheduler', { user: 'system:kube-scheduler' }],
    ['ca', 'podway-controller', holderOf(CONTROLLER_ACCOUNT)],
    ['ca', 'super-admin', { user: 'podway-lab', groups: ['system:masters'] }],
    ['ca', 'admin', { user: 'podway-admin', groups: [ADMIN_GROUP] }],
  ];
};

/** Certificates of one node. `address`: of its primary ENI. */
export const nodeHolders = (node: string, address: string): [string, Holder][] => [
  ['kubelet', { user: `system:node:${node}`, groups: ['system:nodes'] }],
  ['kubelet-server', { user: `system:node:${node}`, groups: ['system:nodes'], names: [node, address] }],
  ['kube-proxy', { user: 'system:kube-proxy' }],
  ['podway-agent', holderOf(AGENT_ACCOUNT)],
];

/** JSON, which is YAML. All keys are inside, so that the file can be read in any view. */
export function kubeconfigText(server: string, ca: string, user: string, { key, cert }: KeyAndCert): string {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const name = 'podway';
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(ca) } }],
      users: [
        { name: user, user: { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) } },
      ],
      contexts: [{ name, context: { cluster: name, user, namespace: 'default' } }],
      'current-context': name,
    },
    null,
    2,
  )}\n`;
}
