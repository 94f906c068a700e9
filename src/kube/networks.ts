// Podway's NodeNetwork (deploy/crds/nodenetwork.yaml) and the AWS VPC CNI's ENIConfig (deploy/crds/eniconfig.yaml), as
// their JSON is. What a NodeNetwork says is checked again where it is used (src/ipam/config/node-network.ts).
import { resource } from './resources.ts';
import type { Condition, KubeObject, LabelSelector } from './types.ts';

/** By id or by tags, not both: all of the tags must match. */
export type Choice = { ids?: string[]; tags?: Record<string, string> };

export type NodeNetworkSpec = {
  /** Absent or empty: every node. */
  nodeSelector?: LabelSelector;
  families?: 'ipv4' | 'ipv6' | 'dual';
  /** Of pods of IPv6 alone. */
  egress4?: 'none' | 'node';
  addressing?: 'secondary' | 'prefix' | 'auto';
  /** Where new ENIs stand; absent: the subnets that their tags offer. */
  subnets?: Choice;
  /** Absent: the primary ENI's. */
  securityGroups?: Choice & { existingENIs?: 'keep' | 'change' };
  /** False: the primary ENI gives no pod address. */
  usePrimaryENI?: boolean;
  capacity?: {
    podsPerMinute?: number;
    maxIdlePercent?: number;
    minIdle?: number;
    maxPods?: number;
  };
  bounds?: { maxAddresses?: number; maxSubnetPercent?: number };
  /** As `30s`, `500ms`, `2m`. */
  cooldown?: string;
  /** Of network policies; absent: what the agent's settings say. */
  policy?: 'enforce' | 'audit' | 'off';
  policyTimeout?: 'fail' | 'isolate';
  flowLog?: 'off' | 'denied' | 'all';
  /** Of both families; those that are on the node's own links. */
  nodeLocalAddresses?: string[];
};

export type NodeNetwork = KubeObject & {
  spec?: NodeNetworkSpec;
  status?: { conditions?: (Condition & { observedGeneration?: number })[] };
};

export type EniConfig = KubeObject & { spec?: { subnet?: string; securityGroups?: string[] } };

export const nodeNetworks = resource<NodeNetwork>(
  'podway.dev/v1alpha1',
  'nodenetworks',
  'NodeNetwork',
  'Cluster',
);
export const eniConfigs = resource<EniConfig>(
  'crd.k8s.amazonaws.com/v1alpha1',
  'eniconfigs',
  'ENIConfig',
  'Cluster',
);
