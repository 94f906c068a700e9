// What goes over the control socket: the shapes of CLI.md's JSON and of the requests. Fields are added, never renamed.
import type { BranchMode } from '../../base/branch-words.ts';
import type { PolicySource } from '../../ipam/config/sources.ts';
import type { Shape, ShapeFlags } from '../shape/shape.ts';
import type { CallReport, Rate } from '../vpc/index.ts';

export type UpRequest = {
  demo: boolean;
  flags: ShapeFlags /** From lab.yaml; instead of flags. */;
  shape?: Shape;
};

export type PodMessage = { code: string; text: string };
export type PodView = {
  namespace: string;
  name: string;
  node: string;
  ips: string[];
  phase: string;
  netns: string;
  netnsPath: string;
  message?: PodMessage;
};
export type SubnetView = {
  id: string;
  name: string;
  zone: string;
  cidr: string;
  /** Absent without IPv6. */
  ipv6Cidr?: string;
  availableIpAddressCount: number;
};
export type VpcView = {
  id: string;
  name: string;
  cidrs: string[];
  /** Absent without IPv6. */
  ipv6Cidrs?: string[];
  subnets: SubnetView[];
};
export type InstanceView = {
  name: string;
  instanceId: string;
  instanceType: string;
  state: string;
  ips: string[];
  publicIps: string[];
  netns: string;
  netnsPath: string;
};
export type NodeView = InstanceView & {
  ready: boolean;
  zone: string;
  cniConfDir: string;
  cniBinDir: string;
  agentSocket: string;
  message?: PodMessage;
};
export type LabStatus = {
  name: string;
  state: string;
  ec2Endpoint: string;
  kubernetesEndpoint: string;
  kubeconfig: string;
  region: string;
  settings: Record<string, string>;
  vpcs: VpcView[];
  nodes: NodeView[];
  instances: InstanceView[];
  pods: PodView[];
};
export type UpResult = { already: boolean; ms: number; status: LabStatus };

export type RunPodRequest = {
  namespace: string;
  name: string;
  node?: string;
  labels: Record<string, string>;
  command: string[];
  timeoutMs: number;
  wait: boolean;
};

export type Check = {
  name: string;
  from: string;
  to: string;
  expected: string;
  observed: string;
  ok: boolean;
  ms: number;
  figures?: Record<string, number>;
};
export type Difference = {
  kind: string;
  object: string;
  journal?: unknown;
  kernel?: unknown;
  cloud?: unknown;
  api?: unknown;
};
export type IpamCheck = { ok: boolean; differences: Difference[] };

export type IpamAddress = {
  ip: string;
  state: 'held' | 'free' | 'cooling' | 'quarantined' | 'foreign';
  containerId?: string;
  pod?: string;
  coolingUntil?: string;
  reason?: string;
  leaving?: true;
  missing?: true;
};
export type IpamEni = {
  id: string;
  deviceIndex: number;
  networkCard: number;
  mac: string;
  /** Null while no link of the node has the MAC address. */
  ifname: string | null;
  subnetId: string;
  type: string;
  trunk: boolean;
  primaryIp: string;
  addresses: IpamAddress[];
  prefixes: { cidr: string; held: number; cooling: number; free: number; leaving?: true }[];
  /** /80s; absent from an agent of an older version. */
  ipv6Prefixes?: { cidr: string; held: number; cooling: number; free: number; leaving?: true }[];
  /** Of a trunk: the pods' branch ENIs; absent from an agent of an older version. */
  branches?: {
    id: string;
    vlanId: number;
    mac: string;
    ips: string[];
    containerId: string;
    pod?: string;
    /** Absent from an agent of an older version. */
    mode?: BranchMode;
  }[];
};
export type IpamNode = {
  node: string;
  instanceType: string;
  family: string;
  limits: { enis: number; ipv4PerEni: number; addresses?: number; pods: number };
  warm: { target: number; cooldownSeconds: number };
  addressing: 'secondary' | 'prefix' | 'auto';
  /** What pods get; absent from an agent of an older version. */
  families?: 'ipv4' | 'ipv6' | 'dual';
  /** Where the pool's policy comes from; absent from an agent of an older version, as notes are. */
  source?: PolicySource;
  /** What of the source has another effect than it says, each a sentence. */
  notes?: string[];
  enis: IpamEni[];
  /** Where pods with security groups of their own are wanted: the trunk, null while it is awaited, and its branches. */
  trunk?: { id: string | null; branches: number; limit: number; lack?: string };
  /** Addresses in use that no ENI of the node has. */
  astray?: IpamAddress[];
  /** Of IPv4. */
  totals: { held: number; free: number; cooling: number; quarantined: number; foreign: number };
  /** Of IPv6; absent from an agent of an older version. */
  totals6?: { held: number; free: number; cooling: number };
  /** What decides which way a pod's packet takes; absent from an agent of an older version. */
  ways?: {
    snat: 'node' | 'random' | 'none';
    snat6: 'node' | 'random' | 'none';
    /** CIDRs that see the pod's own address whatever snat says. */
    exempt: string[];
    /** Addresses on the node's links. */
    onNode: string[];
    /** `nodeLocalAddresses`. */
    nodeLocal: string[];
  };
};

export type ThrottleRequest = {
  /** Absent: every action that has no size of its own. */
  action?: string;
  size?: Rate;
  /** Ends what was set for the action, or all. */
  reset?: boolean;
};
export type ThrottleView = { setting: 'none' | 'aws'; sizes: (Rate & { action: string })[] };
export type CallsView = Omit<CallReport, 'calls' | 'from'> & {
  from: string;
  calls: { at: string; action: string; caller: string; result: string; ms: number }[];
};
