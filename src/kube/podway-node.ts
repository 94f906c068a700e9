// Podway's PodwayNode (deploy/crds/podwaynode.yaml), as its JSON is: what a node's agent says of itself, and what the
// controller answers. Named as the Node.
import { resource } from './resources.ts';
import type { Condition, KubeObject } from './types.ts';

export type PodwayNodeEni = { id: string; mac: string; type: 'primary' | 'secondary'; subnetId: string };
export type FormerInstance = { instanceId: string; cluster?: string };

export type PodwayNodeSpec = FormerInstance & {
  instanceType?: string;
  zone?: string;
  enis?: PodwayNodeEni[];
  subnets?: string[];
  /** What new ENIs of its pods are to be, branches too. Without groups they have the primary ENI's. */
  newEnis?: { families: 'ipv4' | 'ipv6' | 'dual'; subnets: string[]; groups?: string[] };
  /** Instances of this name before, until the controller has seen their ENIs gone. */
  former?: FormerInstance[];
};

/** Free addresses that a subnet must have before the next pod gets one there. */
export type AddressNeed = { readonly subnetId: string; readonly addresses: number };

export type PodwayNodeAddresses = {
  held: number;
  free: number;
  cooling: number;
  waiting: number;
  obtainable: number;
  lack?: string;
  /** While `lack` is SUBNET_EXHAUSTED: any of them is enough. */
  needs?: AddressNeed[];
};

/** True when the node has no address for one more pod. */
export const isOutOfAddresses = ({ free, obtainable, waiting }: PodwayNodeAddresses): boolean =>
  free + obtainable <= waiting;

/** Calls per second. */
export type AskedCalls = { reads: number; changes: number; waiting: number };
export type GrantedCalls = { reads: number; changes: number; seconds: number; round: number };

export type PodwayNodeStatus = {
  nodeUID?: string;
  addresses?: PodwayNodeAddresses;
  conditions?: Condition[];
  ec2?: { asked?: AskedCalls | null; granted?: GrantedCalls | null };
};

export type PodwayNode = KubeObject & { spec?: PodwayNodeSpec; status?: PodwayNodeStatus };

export const podwayNodes = resource<PodwayNode>(
  'podway.dev/v1alpha1',
  'podwaynodes',
  'PodwayNode',
  'Cluster',
);

/** Until the agent of a new node is ready: who registers nodes gives it to them, the controller takes it away. */
export const NOT_READY_TAINT = 'podway.dev/agent-not-ready';
/** The controller's, while a node can give no address. */
export const NO_ADDRESS_TAINT = 'podway.dev/no-address';
/** The condition beside it. */
export const ADDRESSES_AVAILABLE = 'PodwayAddressesAvailable';
