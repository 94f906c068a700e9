// What kubelet, kube-proxy and containerd are told on a node of the lab. Pure: facts of the machine and of the node in,
// text out. What a machine can is detected by runtime.ts, never assumed here.
import { NOT_READY_TAINT } from '../../kube/podway-node.ts';
import { CLUSTER_DOMAIN, DNS_SERVICE_ADDRESS, IN_VIEW, KUBELET_PORT, PAUSE_IMAGE } from './layout.ts';

export type Runtime = {
  /** Of containerd: 1 reads configuration 2 and needs a loopback plugin, 2 reads 3 and asks plugins for STATUS. */
  major: 1 | 2;
  containerd: string;
  ctr: string;
  runc: string;
  snapshotter: 'overlayfs' | 'native';
  /** Without CAP_SYS_RESOURCE no process may be made harder to kill than its parent. */
  restrictOomScoreAdj: boolean;
};

const quoted = (text: string): string => JSON.stringify(text);

/** Where containerd's metrics are, inside the node. */
export const CONTAINERD_METRICS = '127.0.0.1:1338';

export const containerdConfig = (runtime: Runtime): string =>
  `${runtime.major === 1 ? containerd1Config(runtime) : containerd2Config(runtime)}[metrics]
  address = ${quoted(CONTAINERD_METRICS)}
`;

function containerd1Config({ runc, snapshotter, restrictOomScoreAdj }: Runtime): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[${cri}]
  sandbox_image = ${quoted(PAUSE_IMAGE)}
  restrict_oom_score_adj = ${restrictOomScoreAdj}
[${cri}.cni]
  bin_dir = ${quoted(IN_VIEW.cniBinDir)}
  conf_dir = ${quoted(IN_VIEW.cniConfDir)}
[${cri}.containerd]
  snapshotter = ${quoted(snapshotter)}
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${cri}.containerd.runtimes.runc.options]
  BinaryName = ${quoted(runc)}
  SystemdCgroup = false
`;
}

function containerd2Config({ runc, snapshotter, restrictOomScoreAdj }: Runtime): string {
  const images = "plugins.'io.containerd.cri.v1.images'";
  const runtime = "plugins.'io.containerd.cri.v1.runtime'";
  return `version = 3
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[${images}]
  snapshotter = ${quoted(snapshotter)}
[${images}.pinned_images]
  sandbox = ${quoted(PAUSE_IMAGE)}
[${runtime}]
  restrict_oom_score_adj = ${restrictOomScoreAdj}
[${runtime}.cni]
  bin_dirs = [${quoted(IN_VIEW.cniBinDir)}]
  conf_dir = ${quoted(IN_VIEW.cniConfDir)}
  use_internal_loopback = true
[${runtime}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${runtime}.containerd.runtimes.runc.options]
  BinaryName = ${quoted(runc)}
  SystemdCgroup = false
`;
}

export type NodeConfigFacts = {
  node: string;
  zone: string;
  region: string;
  instanceId: string;
  instanceType: string;
  address: string;
  /** Of a cluster with both families. */
  address6?: string;
  maxPods: number;
  /** Podway's controller takes the startup taint away again. */
  hasController: boolean;
};

const pkiFile = (name: string): string => `${IN_VIEW.kubernetes}/pki/${name}`;

/** JSON, which is YAML. */
export function kubeletConfig({
  zone,
  instanceId,
  maxPods,
  hasController,
}: Pick<NodeConfigFacts, 'zone' | 'instanceId' | 'maxPods' | 'hasController'>): string {
  return json({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: pkiFile('ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    port: KUBELET_PORT,
    tlsCertFile: pkiFile('kubelet-server.crt'),
    tlsPrivateKeyFile: pkiFile('kubelet-server.key'),
    staticPodPath: `${IN_VIEW.kubernetes}/manifests`,
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    containerRuntimeEndpoint: `unix://${IN_VIEW.containerdSocket}`,
    resolvConf: `${IN_VIEW.kubernetes}/resolv.conf`,
    clusterDNS: [DNS_SERVICE_ADDRESS],
    clusterDomain: CLUSTER_DOMAIN,
    providerID: `aws:///${zone}/${instanceId}`,
    maxPods,
    ...(hasController ? { registerWithTaints: [{ key: NOT_READY_TAINT, effect: 'NoSchedule' }] } : {}),
    // The nodes of a lab share one machine: their containers are in one flat folder of each hierarchy, whatever the
    // machine's cgroups are (v1, v2 or both), and none of them is to be evicted for what the machine lacks. With a
    // cgroupRoot kubelet would set limits of that folder each minute.
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    localStorageCapacityIsolation: false,
    evictionHard: {
      'memory.available': '0%',
      'nodefs.available': '0%',
      'nodefs.inodesFree': '0%',
      'imagefs.available': '0%',
      'imagefs.inodesFree': '0%',
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    oomScoreAdj: 0,
    // True of the files that the view has in place of these keys; false would write to the machine's kernel.
    protectKernelDefaults: true,
    nodeStatusUpdateFrequency: '10s',
    syncFrequency: '30s',
    shutdownGracePeriod: '0s',
  });
}

export const kubeletArguments = (facts: NodeConfigFacts): string[] => [
  `--config=${IN_VIEW.kubernetes}/kubelet.yaml`,
  `--kubeconfig=${IN_VIEW.kubernetes}/kubelet.conf`,
  `--hostname-override=${facts.node}`,
  `--node-ip=${[facts.address, facts.address6].filter(Boolean).join(',')}`,
  `--node-labels=${[
    `topology.kubernetes.io/region=${facts.region}`,
    `topology.kubernetes.io/zone=${facts.zone}`,
    `node.kubernetes.io/instance-type=${facts.instanceType}`,
  ].join(',')}`,
  '--v=1',
];

export function kubeProxyConfig({ node }: Pick<NodeConfigFacts, 'node'>): string {
  return json({
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig: `${IN_VIEW.kubernetes}/kube-proxy.conf` },
    hostnameOverride: node,
    mode: 'nftables',
    bindAddress: '0.0.0.0',
    metricsBindAddress: '127.0.0.1:10249',
    healthzBindAddress: '0.0.0.0:10256',
    // A node shares the machine's table of connections: its size and times are not the node's to set.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    oomScoreAdj: 0,
  });
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
