// The environment variables of the AWS VPC CNI's `aws-node`, read as it reads them (amazon-vpc-cni-k8s v1.23.1): which
// have their effect here, and one warning that names the others. Pure.
import { BRANCH_MODES, type BranchMode } from '../../base/branch-words.ts';
import { type Cidr, parseCidr } from '../../base/ip.ts';
import type { Families } from '../policy.ts';
import { type IncumbentTargets, incumbentDefaults } from './incumbent.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where custom networking looks for the name of a node's ENIConfig. */
export type CustomNetworking = { readonly annotationKey: string; readonly labelKey: string };

/** What the variables say of a node's addresses. */
export type PoolEnvironment = {
  /** The variables that are set and count, in alphabetical order; empty: the environment is no source of a policy. */
  readonly variables: readonly string[];
  /** Null: ENABLE_IPv6 is not true. */
  readonly families: Families | null;
  readonly usesPrefixes: boolean;
  readonly targets: IncumbentTargets;
  readonly maxEnis: number | null;
  /** ENABLE_POD_ENI: a slot is kept for a trunk, whatever else chooses the policy. */
  readonly podEni: boolean;
  readonly cooldownMs: number;
  /** Null: off. */
  readonly customNetworking: CustomNetworking | null;
  readonly subnetDiscovery: boolean;
  /** Which cluster's subnets count besides those of every cluster; null: those of all. */
  readonly clusterName: string | null;
  /** Tags of new ENIs. */
  readonly eniTags: Readonly<Record<string, string>>;
};

/** What the variables say of the node's network; a field is absent when no variable of its group is set. */
export type NetworkEnvironment = {
  readonly snat?: 'node' | 'random' | 'none';
  readonly excludeSnatCidrs?: Cidr[];
  /** Bytes: of secondary ENIs. */
  readonly eniMtu?: number;
  /** Bytes. */
  readonly podMtu?: number;
  readonly podSecurityGroupEnforcingMode?: BranchMode;
};

export type EnvironmentReading = {
  readonly pool: PoolEnvironment;
  readonly network: NetworkEnvironment;
  /** Each a sentence that names the variable. */
  readonly warnings: readonly string[];
};

/** They choose the environment as the source of the pool's policy. */
const POOL = [
  'AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG',
  'ENABLE_PREFIX_DELEGATION',
  'ENABLE_SUBNET_DISCOVERY',
  'IP_COOLDOWN_PERIOD',
  'MAX_ENI',
  'MINIMUM_IP_TARGET',
  'WARM_ENI_TARGET',
  'WARM_IP_TARGET',
  'WARM_PREFIX_TARGET',
] as const;
/** They count beside those above, and choose nothing by themselves. */
const BESIDE = [
  'ADDITIONAL_ENI_TAGS',
  'CLUSTER_NAME',
  'ENABLE_POD_ENI',
  'ENI_CONFIG_ANNOTATION_DEF',
  'ENI_CONFIG_LABEL_DEF',
] as const;
const SNAT = [
  'AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS',
  'AWS_VPC_K8S_CNI_EXTERNALSNAT',
  'AWS_VPC_K8S_CNI_RANDOMIZESNAT',
] as const;
const MODE = 'POD_SECURITY_GROUP_ENFORCING_MODE';
const MTU = ['AWS_VPC_ENI_MTU', 'POD_MTU'] as const;
/** Its manifests say ENABLE_IPv6=false everywhere, so that alone is no configuration of a pool. */
const FAMILIES = ['ENABLE_IPv4', 'ENABLE_IPv6'] as const;

/** Set variables that change nothing here, with the reason where it is not plain. */
const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  ANNOTATE_POD_IP: '',
  AWS_EC2_ENDPOINT: 'the agent config names ec2Endpoint',
  AWS_EXTERNAL_SERVICE_CIDRS: '',
  AWS_MANAGE_ENIS_NON_SCHEDULABLE: 'a cordoned node serves its waiting pods',
  AWS_VPC_CNI_NODE_PORT_SUPPORT: '',
  AWS_VPC_K8S_CNI_BACKING_STORE: 'the journal is in the run directory',
  AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER: '',
  AWS_VPC_K8S_CNI_CONNMARK: '',
  AWS_VPC_K8S_CNI_LOGLEVEL: 'the agent config names logLevel',
  AWS_VPC_K8S_CNI_LOG_FILE: 'the log goes to standard output',
  AWS_VPC_K8S_CNI_VETHPREFIX: '',
  AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE: '',
  AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE: '',
  AWS_VPC_K8S_PLUGIN_LOG_FILE: '',
  AWS_VPC_K8S_PLUGIN_LOG_LEVEL: '',
  DISABLE_INTROSPECTION: '',
  DISABLE_LEAKED_ENI_CLEANUP: 'only ENIs that Podway made are ever deleted',
  DISABLE_METRICS: '',
  DISABLE_NETWORK_RESOURCE_PROVISIONING: 'the pool always asks EC2 for what pods need',
  DISABLE_POD_V6: '',
  DISABLE_TCP_EARLY_DEMUX: '',
  ENABLE_BANDWIDTH_PLUGIN: '',
  ENABLE_IMDS_ONLY_MODE: 'EC2 is asked what the node has',
  ENABLE_MULTI_NIC: 'ENIs stand on the default network card',
  ENABLE_NFTABLES: '',
  ENABLE_V4_EGRESS: '',
  ENABLE_V6_EGRESS: '',
  HTTP_TIMEOUT: '',
  INTROSPECTION_BIND_ADDRESS: '',
  MANAGE_UNTAGGED_ENI: 'ENIs that others attach are never taken over',
  NETWORK_POLICY_ENFORCING_MODE: '',
};
/** Variables of its add-on and of its start that say nothing about the node's network. */
const SILENT = new Set(['CLUSTER_ENDPOINT', 'VPC_CNI_VERSION', 'AWS_VPC_K8S_CNI_VERSION']);
/** Names that only the AWS VPC CNI has: one of these that is not known above is a mistake. */
const ITS_OWN =
  /^(AWS_VPC_|WARM_|MINIMUM_IP|MAX_ENI|ENI_CONFIG_|IP_COOLDOWN|ENABLE_(PREFIX|SUBNET|POD_ENI)|.*_ENI_TAGS$)/;

/** EC2 takes 50 tags; some are ours. */
const MOST_TAGS = 40;

export function readEnvironment(env: Environment): EnvironmentReading {
  const warnings: string[] = [];
  const read = new Variables(env, warnings);
  const pool = readPool(read);
  const network = readNetwork(read);
  const without = Object.keys(env).filter((name) => read.has(name) && Object.hasOwn(WITHOUT_EFFECT, name));
  if (without.length > 0) {
    const named = without
      .sort()
      .map((name) => (WITHOUT_EFFECT[name] ? `${name} (${WITHOUT_EFFECT[name]})` : name));
    warnings.push(`without effect: ${named.join(', ')}`);
  }
  const known = new Set<string>([
    ...POOL,
    ...BESIDE,
    ...SNAT,
    ...MTU,
    MODE,
    ...FAMILIES,
    ...Object.keys(WITHOUT_EFFECT),
  ]);
  const unknown = Object.keys(env).filter(
    (name) => read.has(name) && ITS_OWN.test(name) && !known.has(name) && !SILENT.has(name),
  );
  if (unknown.length > 0) warnings.push(`unknown: ${unknown.sort().join(', ')}`);
  return { pool, network, warnings };
}

function readPool(read: Variables): PoolEnvironment {
  const usesPrefixes = read.bool('ENABLE_PREFIX_DELEGATION', false);
  const isCustom = read.bool('AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG', false);
  const maxEnis = read.int('MAX_ENI', -1, Number.NEGATIVE_INFINITY);
  const targets: IncumbentTargets = {
    ...incumbentDefaults,
    warmEnis: read.int('WARM_ENI_TARGET', 1, 0),
    warmPrefixes: read.int('WARM_PREFIX_TARGET', 0, 0),
    warmIps: read.int('WARM_IP_TARGET', 0, 0),
    minimumIps: read.int('MINIMUM_IP_TARGET', 0, 0),
  };
  const isAimless = usesPrefixes && targets.warmIps + targets.minimumIps + targets.warmPrefixes === 0;
  if (isAimless) {
    read.warn(
      'WARM_PREFIX_TARGET counts as 1: with prefixes one of WARM_PREFIX_TARGET, WARM_IP_TARGET and MINIMUM_IP_TARGET must be above 0',
    );
  }
  const keyOf = (name: string) => read.text(name) ?? 'k8s.amazonaws.com/eniConfig';
  const six = read.bool('ENABLE_IPv6', false);
  const both = six && read.bool('ENABLE_IPv4', false);
  const configures = six || POOL.some((one) => read.has(one));
  return {
    variables: [...POOL, ...BESIDE, ...(six ? FAMILIES : [])]
      .filter((name) => read.has(name) && configures)
      .sort(),
    families: six ? (both ? 'dual' : 'ipv6') : null,
    usesPrefixes,
    targets: isAimless ? { ...targets, warmPrefixes: 1 } : targets,
    maxEnis: maxEnis >= 1 ? maxEnis : null,
    podEni: read.bool('ENABLE_POD_ENI', false),
    cooldownMs: read.int('IP_COOLDOWN_PERIOD', 30, 0) * 1000,
    customNetworking: isCustom
      ? { annotationKey: keyOf('ENI_CONFIG_ANNOTATION_DEF'), labelKey: keyOf('ENI_CONFIG_LABEL_DEF') }
      : null,
    subnetDiscovery: read.bool('ENABLE_SUBNET_DISCOVERY', true),
    clusterName: read.text('CLUSTER_NAME') ?? null,
    eniTags: {
      ...readTags(read),
      ...(read.has('CLUSTER_NAME') ? { 'cluster.k8s.amazonaws.com/name': read.text('CLUSTER_NAME')! } : {}),
    },
  };
}

function readTags(read: Variables): Record<string, string> {
  const name = 'ADDITIONAL_ENI_TAGS';
  const text = read.text(name);
  if (text === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    read.warn(`${name} is not a JSON object of texts and is ignored`);
    return {};
  }
  const tags: Record<string, string> = {};
  const dropped: string[] = [];
  for (const [key, tag] of Object.entries(value)) {
    // The AWS VPC CNI's own keys, and those that EC2 keeps for itself.
    const isReserved = key.includes('k8s.amazonaws.com') || key.startsWith('aws:');
    const fits = typeof tag === 'string' && key.length >= 1 && key.length <= 128 && tag.length <= 256;
    if (!fits || isReserved || Object.keys(tags).length >= MOST_TAGS) dropped.push(key);
    else tags[key] = tag;
  }
  if (dropped.length > 0) read.warn(`${name}: ENIs do not get the tags ${dropped.join(', ')}`);
  return tags;
}

function readNetwork(read: Variables): NetworkEnvironment {
  const eniMtu = read.mtu('AWS_VPC_ENI_MTU');
  const podMtu = read.mtu('POD_MTU') ?? eniMtu;
  return {
    ...(SNAT.some((name) => read.has(name)) ? readSnat(read) : {}),
    ...(eniMtu === undefined ? {} : { eniMtu }),
    ...(podMtu === undefined ? {} : { podMtu }),
    ...readMode(read),
  };
}

function readMode(read: Variables): Pick<NetworkEnvironment, 'podSecurityGroupEnforcingMode'> {
  const text = read.text(MODE);
  if (text === undefined) return {};
  const found = BRANCH_MODES.find((word) => word === text);
  if (found === undefined)
    read.warn(`${MODE} is "${text}", not ${BRANCH_MODES.join(' or ')}, and is ignored`);
  return found === undefined ? {} : { podSecurityGroupEnforcingMode: found };
}

function readSnat(read: Variables): Pick<NetworkEnvironment, 'snat' | 'excludeSnatCidrs'> {
  const random = read.text('AWS_VPC_K8S_CNI_RANDOMIZESNAT') ?? 'prng';
  if (!['prng', 'hashrandom', 'none'].includes(random))
    read.warn(`AWS_VPC_K8S_CNI_RANDOMIZESNAT is "${random}", not prng, hashrandom or none: prng counts`);
  const isExternal = read.bool('AWS_VPC_K8S_CNI_EXTERNALSNAT', false);
  const excludeSnatCidrs: Cidr[] = [];
  for (const part of (read.text('AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS') ?? '').split(',')) {
    const text = part.trim();
    if (text === '') continue;
    const cidr = ipv4Cidr(text);
    if (cidr) excludeSnatCidrs.push(cidr);
    else read.warn(`AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: "${text}" is no IPv4 CIDR and is ignored`);
  }
  return { snat: isExternal ? 'none' : random === 'none' ? 'node' : 'random', excludeSnatCidrs };
}

function ipv4Cidr(text: string): Cidr | null {
  try {
    const cidr = parseCidr(text, { mask: true });
    return typeof cidr.ip === 'number' ? cidr : null;
  } catch {
    return null;
  }
}

const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** The variables with Go's reading of booleans and numbers; an empty one counts as absent. */
class Variables {
  readonly #env: Environment;
  readonly #warnings: string[];

  constructor(env: Environment, warnings: string[]) {
    this.#env = env;
    this.#warnings = warnings;
  }

  warn(sentence: string): void {
    this.#warnings.push(sentence);
  }

  has(name: string): boolean {
    return this.text(name) !== undefined;
  }

  text(name: string): string | undefined {
    return this.#env[name] === '' ? undefined : this.#env[name];
  }

  bool(name: string, fallback: boolean): boolean {
    const text = this.text(name);
    if (text === undefined) return fallback;
    if (TRUE.has(text)) return true;
    if (!FALSE.has(text)) this.warn(`${name} is "${text}", not true or false: ${fallback} counts`);
    return FALSE.has(text) ? false : fallback;
  }

  int(name: string, fallback: number, min: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    const value = Number(text);
    const isWhole = /^[+-]?\d+$/.test(text) && Number.isSafeInteger(value);
    if (isWhole && value >= min) return value;
    this.warn(`${name} is "${text}", not a whole number${min === 0 ? ' from 0' : ''}: ${fallback} counts`);
    return fallback;
  }

  mtu(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (/^[+-]?\d+$/.test(text) && value >= 576 && value <= 9001) return value;
    this.warn(`${name} is "${text}", not a number from 576 to 9001, and is ignored`);
    return undefined;
  }
}
