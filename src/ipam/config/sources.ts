// Where a node's pool policy comes from: the NodeNetwork that selects the node, else the AWS VPC CNI's environment
// variables, else the agent's settings; each as a whole, never mixed. Total: whatever is missing or wrong, there is a
// policy, and its `notes` and `noNewEni` say what is wrong. Pure.
import type { PolicySettings } from '../../base/policy-words.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { SecurityGroupDescription, SubnetDescription } from '../../cloud/port.ts';
import type { EniConfig } from '../../kube/networks.ts';
import {
  defaultGoals,
  defaultPolicy,
  type Families,
  type PoolPolicy,
  type PrimaryFamily,
  type Targets,
} from '../policy.ts';
import { aimsOf, egressOf, type PoolSettings } from '../settings.ts';
import type { CustomNetworking, PoolEnvironment } from './incumbent-env.ts';
import { maxPods, roomOf } from './max-pods.ts';
import type { ValidNetwork } from './node-network.ts';
import { chosenSubnets, offeredSubnets } from './subnets.ts';

export type PolicySource =
  | { readonly kind: 'NodeNetwork'; readonly name: string; readonly generation: number }
  | { readonly kind: 'environment'; readonly variables: readonly string[] }
  | { readonly kind: 'settings' };

/** What Kubernetes and EC2 say; null is what was not asked or not answered yet. */
export type KnownFacts = {
  readonly network: ValidNetwork | null;
  readonly node: NodeMarks | null;
  readonly eniConfigs: readonly EniConfig[] | null;
  /** Of the node's VPC and zone. */
  readonly subnets: readonly SubnetDescription[] | null;
  /** Of the node's VPC; asked for only when a NodeNetwork names groups by tags. */
  readonly groups: readonly SecurityGroupDescription[] | null;
  /** The first of the cluster's Services. */
  readonly serviceFamily: PrimaryFamily | null;
  /** Pods with security groups of their own are wanted on this node, or its trunk is there. */
  readonly wantsTrunk: boolean;
  /** Why EC2 does not tell the subnets or groups, or null. */
  readonly trouble: PoolPolicy['noNewEni'];
};

export type NodeMarks = {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** The kubelet's max-pods: status.capacity. */
  readonly pods: number | null;
};

/** What does not change while the agent runs. */
export type OwnFacts = {
  readonly limits: InstanceLimits;
  readonly zone: string;
  /** The primary ENI's. */
  readonly subnetId: string;
  /** The primary ENI has no IPv4 address. */
  readonly isSixOnly?: boolean;
  /** The node's kernel has no IPv6. */
  readonly lacksIpv6?: boolean;
  readonly settings: PoolSettings;
  readonly environment: PoolEnvironment;
};

export type ResolvedPolicy = {
  readonly policy: PoolPolicy;
  /** Milliseconds. */
  readonly cooldownMs: number;
  readonly source: PolicySource;
  /** True when secondary ENIs that exist get the policy's security groups, too. */
  readonly changesExistingEnis: boolean;
  /** What the NodeNetwork says of network policies; null where it says nothing. */
  readonly enforcement: { readonly [K in keyof PolicySettings]: PolicySettings[K] | null };
  /** Addresses, in canonical text, that pods with branches reach on the node itself. */
  readonly nodeLocalAddresses: readonly string[];
  /** Each a sentence: what of the source has another effect than it says. */
  readonly notes: readonly string[];
};

/** The AWS VPC CNI's own: between two decreases. */
const INCUMBENT_IDLE_MS = 30_000;
const EXTERNAL_LABEL = 'vpc.amazonaws.com/externalEniConfig';

type Draft = {
  policy: Omit<PoolPolicy, 'podLimit'>;
  cooldownMs: number;
  source: PolicySource;
  /** Pods that the source allows; null: what the type and the kubelet do. */
  maxPods: number | null;
  changesExistingEnis: boolean;
  notes: string[];
};

export function resolvePolicy(own: OwnFacts, known: KnownFacts): ResolvedPolicy {
  const draft = known.network
    ? fromNetwork(own, known, known.network)
    : own.environment.variables.length > 0
      ? fromEnvironment(own, known)
      : fromSettings(own, known);
  const notes = [...draft.notes];
  const { limits } = own;
  let { addressing } = draft.policy;
  if (addressing !== 'secondary' && !limits.prefixes) {
    notes.push(`${limits.instanceType} takes no prefixes: single addresses are used`);
    addressing = 'secondary';
  }
  const families = familiesOn(own, draft.policy.families, notes);
  const wantsTrunk = own.environment.podEni || known.wantsTrunk;
  // Nothing is kept for what the type cannot have.
  const trunk = wantsTrunk && limits.branchEnis > 0 ? { keepsTrunkSlot: true } : {};
  if (wantsTrunk && limits.branchEnis === 0)
    notes.push(
      `${limits.instanceType} takes no trunk: no ENI slot is kept for pods with security groups of their own`,
    );
  const room = roomOf({ ...draft.policy, ...trunk, families, addressing });
  // A pod with a branch takes no address of the pool.
  const branches = 'keepsTrunkSlot' in trunk ? limits.branchEnis : 0;
  const allowed = own.settings.podLimit ?? maxPods(limits, room) + branches;
  const podLimit = draft.maxPods ?? Math.min(allowed, known.node?.pods ?? allowed);
  const { cooldownMs, source, changesExistingEnis } = draft;
  return {
    policy: {
      ...draft.policy,
      ...trunk,
      families,
      ...primaryOf(own, known, families),
      ...egressOf(known.network ?? own.settings),
      addressing,
      podLimit,
    },
    cooldownMs,
    source,
    changesExistingEnis,
    enforcement: {
      policy: known.network?.policy ?? null,
      policyTimeout: known.network?.policyTimeout ?? null,
      flowLog: known.network?.flowLog ?? null,
    },
    nodeLocalAddresses: known.network?.nodeLocalAddresses ?? [],
    notes,
  };
}

/** IPv4 is first where nothing says otherwise. */
function primaryOf(
  { settings: { primaryFamily = 'auto' } }: OwnFacts,
  { serviceFamily }: KnownFacts,
  families: Families,
): Pick<PoolPolicy, 'primaryFamily'> {
  const primary = primaryFamily === 'auto' ? serviceFamily : primaryFamily;
  return families === 'dual' && primary === 'ipv6' ? { primaryFamily: 'ipv6' } : {};
}

/** What the node can have of the wanted families. */
function familiesOn(
  { limits, subnetId, isSixOnly, lacksIpv6 }: OwnFacts,
  wanted: Families,
  notes: string[],
): Families {
  if (isSixOnly && wanted !== 'ipv6') {
    notes.push(`the node's subnet ${subnetId} has IPv6 alone: families is ipv6, not ${wanted}`);
    return 'ipv6';
  }
  if (wanted !== 'ipv4' && lacksIpv6) {
    notes.push(`the node's kernel has no IPv6: families is ipv4, not ${wanted}`);
    return 'ipv4';
  }
  if (wanted === 'ipv4' || limits.prefixes) return wanted;
  notes.push(
    `${limits.instanceType} takes no prefixes, and IPv6 needs a /80: families is ipv4, not ${wanted}`,
  );
  return 'ipv4';
}

function fromSettings({ settings, subnetId, environment }: OwnFacts, known: KnownFacts): Draft {
  const discovery = { cluster: environment.clusterName, discovery: true };
  return {
    policy: {
      ...defaultPolicy,
      families: settings.families ?? defaultPolicy.families,
      addressing: settings.addressing ?? defaultPolicy.addressing,
      ...aimsOf(settings),
      ...(settings.subnetIds === undefined
        ? whereTagged(known, subnetId, discovery)
        : { subnetIds: settings.subnetIds }),
    },
    cooldownMs: settings.cooldownMs,
    source: { kind: 'settings' },
    maxPods: null,
    changesExistingEnis: false,
    notes: [],
  };
}

function fromEnvironment({ environment, settings, subnetId, zone }: OwnFacts, known: KnownFacts): Draft {
  const { customNetworking, usesPrefixes, targets, maxEnis, cooldownMs, variables } = environment;
  const discovery = { cluster: environment.clusterName, discovery: environment.subnetDiscovery };
  const offer = whereTagged(known, subnetId, discovery);
  const configured = customNetworking ? whereConfigured(known, customNetworking, zone) : null;
  // The ENIConfig is the operator's word for its subnet, whatever tag that has.
  const excluded = (offer.excludedSubnetIds ?? []).filter((id) => !configured?.subnetIds?.includes(id));
  const where = configured ? { ...configured, excludedSubnetIds: excluded } : offer;
  return {
    policy: {
      ...defaultPolicy,
      families: environment.families ?? settings.families ?? defaultPolicy.families,
      addressing: usesPrefixes ? 'prefix' : 'secondary',
      targets,
      idleReleaseMs: INCUMBENT_IDLE_MS,
      maxEnis,
      primaryGives: customNetworking === null,
      ...where,
    },
    cooldownMs,
    source: { kind: 'environment', variables },
    maxPods: null,
    changesExistingEnis: false,
    notes: [],
  };
}

function fromNetwork(own: OwnFacts, known: KnownFacts, network: ValidNetwork): Draft {
  const { podsPerMinute, maxIdlePercent, minIdle } = network;
  const isForecast = podsPerMinute !== null || maxIdlePercent !== null || minIdle !== null;
  const targets: Targets = isForecast
    ? {
        kind: 'forecast',
        podsPerMinute: podsPerMinute ?? defaultGoals.podsPerMinute,
        maxIdlePercent: maxIdlePercent ?? defaultGoals.maxIdlePercent,
        minIdle: minIdle ?? defaultGoals.minIdle,
      }
    : defaultPolicy.targets;
  const { variables } = own.environment;
  return {
    policy: {
      ...defaultPolicy,
      families: network.families,
      addressing: network.addressing,
      targets,
      primaryGives: network.usesPrimaryEni,
      maxAddresses: network.maxAddresses,
      maxSubnetPercent: network.maxSubnetPercent,
      ...withGroups(whereNamed(own, known, network), groupsOf(known, network)),
    },
    cooldownMs: network.cooldownMs,
    source: { kind: 'NodeNetwork', name: network.name, generation: network.generation },
    maxPods: network.maxPods,
    changesExistingEnis: network.changesExistingEnis,
    notes:
      variables.length > 0
        ? [`without effect beside the NodeNetwork ${network.name}: ${variables.join(', ')}`]
        : [],
  };
}

type Where = Partial<Pick<PoolPolicy, 'subnetIds' | 'excludedSubnetIds' | 'groupIds' | 'noNewEni'>>;

/** Until EC2 has told the subnets, the primary ENI's is the one. */
function whereTagged(
  { subnets }: KnownFacts,
  own: string,
  options: { cluster: string | null; discovery: boolean },
): Where {
  if (!subnets) return {};
  const { eligible, excluded } = offeredSubnets(subnets, own, options);
  if (eligible.length > 0) return { subnetIds: eligible, excludedSubnetIds: excluded };
  const message = options.discovery
    ? `no subnet of the zone may be used: the node's own, ${own}, is tagged kubernetes.io/role/cni=0 or for another cluster, and none is tagged for this one`
    : `the node's subnet ${own} is tagged kubernetes.io/role/cni=0, and ENABLE_SUBNET_DISCOVERY is false`;
  return { excludedSubnetIds: excluded, noNewEni: { cause: 'NO_SUBNET', message, object: own } };
}

function whereNamed(own: OwnFacts, known: KnownFacts, { name, subnets }: ValidNetwork): Where {
  if (!subnets) {
    const discovery = { cluster: own.environment.clusterName, discovery: true };
    return whereTagged(known, own.subnetId, discovery);
  }
  if (!known.subnets) return { noNewEni: known.trouble ?? unknownYet(name, 'subnets') };
  const subnetIds = chosenSubnets(known.subnets, subnets);
  if (subnetIds.length > 0) return { subnetIds };
  const message = `no subnet of zone ${own.zone} in the node's VPC has ${named(subnets)}, as the NodeNetwork ${name} asks for`;
  return { noNewEni: { cause: 'NO_SUBNET', message, object: name } };
}

/** The groups of new ENIs, or why there are none. */
function groupsOf(known: KnownFacts, { name, securityGroups }: ValidNetwork): Where {
  if (!securityGroups) return {};
  if ('ids' in securityGroups) return { groupIds: securityGroups.ids };
  if (!known.groups) return { noNewEni: known.trouble ?? unknownYet(name, 'security groups') };
  const matching = known.groups.filter(({ tags }) =>
    Object.entries(securityGroups.tags).every(([key, value]) => tags[key] === value),
  );
  if (matching.length > 0) return { groupIds: matching.map(({ id }) => id).sort() };
  const message = `no security group of the node's VPC has ${named(securityGroups)}, as the NodeNetwork ${name} asks for`;
  return { noNewEni: { cause: 'NO_SECURITY_GROUP', message, object: name } };
}

const withGroups = (where: Where, groups: Where): Where => ({
  ...where,
  ...groups,
  noNewEni: where.noNewEni ?? groups.noNewEni ?? null,
});

const unknownYet = (name: string, what: string): NonNullable<PoolPolicy['noNewEni']> => ({
  cause: 'AGENT_STARTING',
  message: `EC2 has not told the ${what} of the NodeNetwork ${name} yet`,
  object: name,
});

const named = (choice: NonNullable<ValidNetwork['subnets']>): string =>
  'ids' in choice
    ? `one of the ids ${choice.ids.join(', ')}`
    : `the tags ${Object.entries(choice.tags)
        .map(([key, value]) => `${key}=${value}`)
        .join(', ')}`;

/** Name of the node's ENIConfig, as the AWS VPC CNI finds it. */
export function eniConfigName({ labels, annotations }: NodeMarks, keys: CustomNetworking): string {
  return labels[EXTERNAL_LABEL] || annotations[keys.annotationKey] || labels[keys.labelKey] || 'default';
}

/** Subnet and groups of the node's ENIConfig. Without a usable one no ENI is made; those attached go on. */
function whereConfigured(known: KnownFacts, keys: CustomNetworking, zone: string): Where {
  const barred = (message: string, object?: string): Where => ({
    noNewEni: { cause: 'ENI_CONFIG_INVALID', message, ...(object === undefined ? {} : { object }) },
  });
  if (!known.node || !known.eniConfigs)
    return barred("the Kubernetes API has not told the node's ENIConfig yet, and custom networking is on");
  const name = eniConfigName(known.node, keys);
  const found = known.eniConfigs.find(({ metadata }) => metadata.name === name);
  if (!found) return barred(`the ENIConfig ${name} of this node does not exist`, name);
  const { subnet, securityGroups = [] } = found.spec ?? {};
  if (typeof subnet !== 'string' || subnet === '')
    return barred(`the ENIConfig ${name} names no subnet`, name);
  if (known.subnets && !known.subnets.some(({ id }) => id === subnet))
    return barred(
      `the ENIConfig ${name} names ${subnet}, which is no subnet of zone ${zone} in the node's VPC`,
      name,
    );
  if (!Array.isArray(securityGroups) || securityGroups.some((id) => typeof id !== 'string'))
    return barred(`the ENIConfig ${name} has securityGroups that are no list of ids`, name);
  return { subnetIds: [subnet], groupIds: securityGroups.length > 0 ? securityGroups : null };
}

/** In one line: for the log, Events and `ipam explain`. */
export function sourceText(source: PolicySource): string {
  if (source.kind === 'NodeNetwork') return `the NodeNetwork ${source.name}`;
  return source.kind === 'environment' ? `the environment (${source.variables.join(', ')})` : 'the settings';
}
