// The control plane's four processes in the namespace of its instance: etcd on loopback, the API server on the address
// that the instance has in the VPC, controller manager and scheduler beside it. They outlive the lab's daemon and are
// adopted by the next one. Entry: ControlPlane; the argument lists are pure.
import { writeFileSync } from 'node:fs';
import { writeFileAtomic } from '../../base/files.ts';
import { Supervisor } from '../cluster/nodes/supervisor.ts';
import { privateDir } from '../daemon/files.ts';
import { type LabPaths, netnsPath } from '../daemon/paths.ts';
import type { Binaries } from './binaries.ts';
import { flagsForEtcd } from './etcd.ts';
import {
  API_PORT,
  CONTROL_PLANE,
  type ControlPlanePaths,
  controlPlanePaths,
  SERVICE_ACCOUNT_ISSUER,
  SERVICE_CIDR,
} from './layout.ts';
import {
  AGENT_ACCOUNT,
  type ClusterPki,
  CONTROLLER_ACCOUNT,
  controlPlaneHolders,
  kubeconfigText,
} from './pki.ts';

export const CONTROL_PROGRAMS = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
] as const;
export type ControlProgram = (typeof CONTROL_PROGRAMS)[number];
type Files = (name: string, kind: 'crt' | 'key' | 'pub') => string;

/** What Podway's agents and controller ask the API for, and no more of what happens: JSON, which is YAML. */
export const auditPolicy = (): string =>
  JSON.stringify({
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived'],
    rules: [
      {
        level: 'Metadata',
        users: [AGENT_ACCOUNT, CONTROLLER_ACCOUNT].map(
          ({ namespace, name }) => `system:serviceaccount:${namespace}:${name}`,
        ),
      },
      { level: 'None' },
    ],
  });
const AUDIT_LOG_MB = 8;

export const etcdArguments = (dataDir: string, file: Files): string[] => [
  `--data-dir=${dataDir}`,
  '--name=default',
  '--listen-client-urls=https://127.0.0.1:2379',
  '--advertise-client-urls=https://127.0.0.1:2379',
  '--listen-peer-urls=https://127.0.0.1:2380',
  '--initial-advertise-peer-urls=https://127.0.0.1:2380',
  '--initial-cluster=default=https://127.0.0.1:2380',
  '--client-cert-auth=true',
  `--trusted-ca-file=${file('etcd-ca', 'crt')}`,
  `--cert-file=${file('etcd', 'crt')}`,
  `--key-file=${file('etcd', 'key')}`,
  '--peer-client-cert-auth=true',
  `--peer-trusted-ca-file=${file('etcd-ca', 'crt')}`,
  `--peer-cert-file=${file('etcd', 'crt')}`,
  `--peer-key-file=${file('etcd', 'key')}`,
];

type Audit = Pick<ControlPlanePaths, 'auditPolicy' | 'auditLog'>;

export const apiServerArguments = (
  address: string,
  file: Files,
  audit: Audit,
  serviceCidrs: readonly string[] = [SERVICE_CIDR],
): string[] => [
  `--advertise-address=${address}`,
  `--secure-port=${API_PORT}`,
  '--allow-privileged=true',
  '--authorization-mode=Node,RBAC',
  '--enable-admission-plugins=NodeRestriction',
  // A webhook's or an aggregated API's service is reached by its pods: no kube-proxy runs here.
  '--enable-aggregator-routing=true',
  `--client-ca-file=${file('ca', 'crt')}`,
  `--tls-cert-file=${file('apiserver', 'crt')}`,
  `--tls-private-key-file=${file('apiserver', 'key')}`,
  '--etcd-servers=https://127.0.0.1:2379',
  `--etcd-cafile=${file('etcd-ca', 'crt')}`,
  `--etcd-certfile=${file('etcd-client', 'crt')}`,
  `--etcd-keyfile=${file('etcd-client', 'key')}`,
  `--kubelet-certificate-authority=${file('ca', 'crt')}`,
  `--kubelet-client-certificate=${file('apiserver-kubelet-client', 'crt')}`,
  `--kubelet-client-key=${file('apiserver-kubelet-client', 'key')}`,
  '--kubelet-preferred-address-types=InternalIP',
  `--requestheader-client-ca-file=${file('front-proxy-ca', 'crt')}`,
  '--requestheader-allowed-names=front-proxy-client',
  '--requestheader-extra-headers-prefix=X-Remote-Extra-',
  '--requestheader-group-headers=X-Remote-Group',
  '--requestheader-username-headers=X-Remote-User',
  `--proxy-client-cert-file=${file('front-proxy-client', 'crt')}`,
  `--proxy-client-key-file=${file('front-proxy-client', 'key')}`,
  `--service-account-issuer=${SERVICE_ACCOUNT_ISSUER}`,
  `--service-account-key-file=${file('sa', 'pub')}`,
  `--service-account-signing-key-file=${file('sa', 'key')}`,
  `--service-cluster-ip-range=${serviceCidrs.join(',')}`,
  `--audit-policy-file=${audit.auditPolicy}`,
  `--audit-log-path=${audit.auditLog}`,
  `--audit-log-maxsize=${AUDIT_LOG_MB}`,
  '--audit-log-maxbackup=1',
  '--profiling=false',
];

export const controllerManagerArguments = (kubeconfig: string, file: Files): string[] => [
  `--kubeconfig=${kubeconfig}`,
  `--authentication-kubeconfig=${kubeconfig}`,
  `--authorization-kubeconfig=${kubeconfig}`,
  '--bind-address=127.0.0.1',
  '--leader-elect=false',
  '--use-service-account-credentials=true',
  `--client-ca-file=${file('ca', 'crt')}`,
  `--requestheader-client-ca-file=${file('front-proxy-ca', 'crt')}`,
  `--root-ca-file=${file('ca', 'crt')}`,
  `--cluster-signing-cert-file=${file('ca', 'crt')}`,
  `--cluster-signing-key-file=${file('ca', 'key')}`,
  `--service-account-private-key-file=${file('sa', 'key')}`,
  // Pods have addresses of the VPC: no node has a range of its own.
  '--allocate-node-cidrs=false',
  '--profiling=false',
];

export const schedulerArguments = (kubeconfig: string): string[] => [
  `--kubeconfig=${kubeconfig}`,
  `--authentication-kubeconfig=${kubeconfig}`,
  `--authorization-kubeconfig=${kubeconfig}`,
  '--bind-address=127.0.0.1',
  '--leader-elect=false',
  '--profiling=false',
];

export type ControlPlaneInput = {
  paths: LabPaths;
  pki: ClusterPki;
  binaries: Binaries;
  address: string;
  /** One of each family, the primary one first. */
  serviceCidrs: readonly string[];
};

export class ControlPlane {
  readonly address: string;
  readonly #input: ControlPlaneInput;
  readonly #files: ControlPlanePaths;
  readonly #supervisors: Supervisor[] = [];

  constructor(input: ControlPlaneInput) {
    this.#input = input;
    this.address = input.address;
    this.#files = controlPlanePaths(input.paths);
  }

  async start(): Promise<void> {
    const { pki, address, paths, binaries } = this.#input;
    privateDir(this.#files.etcd);
    const ca = await pki.authority('ca');
    await pki.authority('etcd-ca');
    await pki.authority('front-proxy-ca');
    await pki.serviceAccountKeys();
    for (const [authority, name, holder] of controlPlaneHolders(address)) {
      const pair = await pki.issue(authority, name, holder);
      if (['controller-manager', 'scheduler', 'podway-controller'].includes(name))
        writeFileAtomic(
          this.#files.kubeconfig(name),
          kubeconfigText(`https://${address}:${API_PORT}`, ca.cert, holder.user, pair),
        );
    }
    writeFileAtomic(this.#files.auditPolicy, auditPolicy());
    const file: Files = (name, kind) => pki.file(name, kind);
    const args: Record<ControlProgram, string[]> = {
      etcd: etcdArguments(this.#files.etcd, file),
      'kube-apiserver': [
        ...apiServerArguments(address, file, this.#files, this.#input.serviceCidrs),
        ...(await flagsForEtcd(binaries.programs.etcd)),
      ],
      'kube-controller-manager': controllerManagerArguments(
        this.#files.kubeconfig('controller-manager'),
        file,
      ),
      'kube-scheduler': schedulerArguments(this.#files.kubeconfig('scheduler')),
    };
    for (const program of CONTROL_PROGRAMS) {
      const logFile = this.#files.log(program);
      writeFileSync(logFile, '', { flag: 'a', mode: 0o600 });
      const supervisor = new Supervisor({
        netnsPath: netnsPath(paths.netns(CONTROL_PLANE)),
        command: [binaries.programs[program], ...args[program]],
        pidFile: this.#files.pid(program),
        logFile,
      });
      this.#supervisors.push(supervisor);
      supervisor.start();
    }
  }

  /** Programs that do not run now. */
  missing(): ControlProgram[] {
    return CONTROL_PROGRAMS.filter((_, index) => !this.#supervisors[index]?.running);
  }

  detach(): void {
    for (const supervisor of this.#supervisors) supervisor.detach();
  }

  /** The API server first, so that it answers no more what etcd cannot keep. */
  async stop(): Promise<void> {
    this.detach();
    await Promise.all(this.#supervisors.slice(1).map((each) => each.stop()));
    await this.#supervisors[0]?.stop();
  }
}
