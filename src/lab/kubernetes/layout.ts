// Where the parts of a real Kubernetes lie and which numbers they share. Of a node every folder has two names: the one on
// the machine, below the lab's folder, and the one inside the node's mount view, where kubelet and containerd look.
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { LabPaths } from '../daemon/paths.ts';

/** Name of the instance that the control plane runs on. */
export const CONTROL_PLANE = 'control-plane';
export const API_PORT = 6443;
export const KUBELET_PORT = 10250;
/** As EKS gives clusters whose VPC is in 10/8. */
export const SERVICE_CIDR = '172.20.0.0/16';
/** As EKS chooses one: of the unique local range; a /108 is the most that kube-apiserver takes. */
export const SERVICE_CIDR6 = 'fd30:1c53:5f8a::/108';
export const API_SERVICE_ADDRESS = '172.20.0.1';
export const DNS_SERVICE_ADDRESS = '172.20.0.10';
export const CLUSTER_DOMAIN = 'cluster.local';
export const SERVICE_ACCOUNT_ISSUER = `https://kubernetes.default.svc.${CLUSTER_DOMAIN}`;

/** Made by the lab from its own static programs, imported into every node's containerd. */
export const PAUSE_IMAGE = 'podway.lab/pause:1';
export const COREDNS_IMAGE = 'podway.lab/coredns:1';

const TMPFS_MAGIC = 0x01021994;

/**
 * Where images and volumes lie, which are too large for memory: the lab's folder, or, when that is in memory, one on disk
 * that goes with the lab.
 */
export function bulkFolder({ lab, root }: LabPaths): string {
  try {
    return statfsSync(join(root, '..', '..')).type === TMPFS_MAGIC
      ? join(BULK_ROOT, lab)
      : join(root, 'bulk');
  } catch {
    return join(root, 'bulk');
  }
}
export const BULK_ROOT = '/var/lib/podway/labs';

export const controlPlanePaths = ({ root }: LabPaths) => {
  const own = join(root, 'kubernetes');
  return {
    root: own,
    pki: join(own, 'pki'),
    etcd: join(own, 'etcd'),
    manifests: join(own, 'manifests'),
    images: join(own, 'images'),
    superAdmin: join(own, 'super-admin.conf'),
    auditPolicy: join(own, 'audit-policy.yaml'),
    auditLog: join(own, 'audit.log'),
    kubeconfig: (name: string) => join(own, `${name}.conf`),
    log: (program: string) => join(own, `${program}.log`),
    pid: (program: string) => join(own, `${program}.pid`),
  };
};
export type ControlPlanePaths = ReturnType<typeof controlPlanePaths>;

/** Folders of a node on the machine, beside those that every lab's node has. */
export const realNodePaths = (paths: LabPaths, node: string) => {
  const base = paths.node(node);
  const own = (...parts: string[]) => join(base.root, ...parts);
  const bulk = (part: string) => join(bulkFolder(paths), node, part);
  return {
    ...base,
    pki: own('pki'),
    /** /etc/kubernetes, /etc/containerd and /etc/podway of the view. */
    kubernetes: own('etc', 'kubernetes'),
    containerdConf: own('etc', 'containerd'),
    podway: own('etc', 'podway'),
    netns: own('netns'),
    containerdRun: own('containerd-run'),
    libCni: own('lib', 'cni'),
    bulk: bulk(''),
    libKubelet: bulk('kubelet'),
    libContainerd: bulk('containerd'),
    logs: own('log'),
    sysctl: own('sysctl'),
    shadows: own('shadows'),
    viewScript: own('view.sh'),
    /** Written inside the view when it is whole: the process id of its holder. */
    viewReady: join(base.run, 'view'),
    /** A folder for each container that has, or had, a process. */
    tasks: own('containerd-run', 'io.containerd.runtime.v2.task', CONTAINERS),
    /** The same of each sandbox and container that kubelet has not removed: a kill may come between the two. */
    containers: ['sandboxes', 'containers'].map((kind) =>
      own('containerd-run', 'io.containerd.grpc.v1.cri', kind),
    ),
    containerdSocket: own('containerd-run', 'containerd.sock'),
    imagesDone: join(bulk('containerd'), 'podway-images'),
    processLog: (program: string) => own(`${program}.log`),
    processPid: (program: string) => own(`${program}.pid`),
  };
};
export type RealNodePaths = ReturnType<typeof realNodePaths>;

/** The same folders as kubelet and containerd see them. */
export const IN_VIEW = {
  run: '/run/podway',
  viewReady: '/run/podway/view',
  kubernetes: '/etc/kubernetes',
  containerdConf: '/etc/containerd',
  podway: '/etc/podway',
  cniConfDir: '/etc/cni/net.d',
  cniBinDir: '/opt/cni/bin',
  netns: '/run/netns',
  containerdSocket: '/run/containerd/containerd.sock',
} as const;

/** Namespace of kubelet's containers in containerd, and their folder below each cgroup hierarchy's root. */
export const CONTAINERS = 'k8s.io';
