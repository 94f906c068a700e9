// The agent's configuration as checked values; options.ts reads flags, environment and file. An error names the wrong
// value. This file holds all defaults.
import { BRANCH_MODES, type BranchMode, MISSING_GROUPS, type MissingGroups } from '../base/branch-words.ts';
import { PodwayError } from '../base/errors.ts';
import { type Cidr, parseCidr } from '../base/ip.ts';
import { FLOW_LOGS, POLICY_MODES, POLICY_TIMEOUTS, type PolicySettings } from '../base/policy-words.ts';
import type { SnatMode } from '../datapath/types.ts';
import type { Addressing, Families, PrimaryFamily } from '../ipam/policy.ts';

/** Those of policies count where the node's NodeNetwork does not say them. */
export type AgentSettings = PolicySettings & {
  /** Free addresses to keep ready; absent: what the forecast says. */
  warm?: number;
  /** Milliseconds before a released address is given again. */
  cooldownMs: number;
  /** Milliseconds after its cooldown before an idle address goes back to the subnet. */
  idleReleaseMs?: number;
  snat: SnatMode;
  /** The same of IPv6. */
  snat6: SnatMode;
  /** What pods get, where no NodeNetwork and no variable of the AWS VPC CNI says it. */
  families: Families;
  /** Which address of a pod of both families comes first; auto: the one that the cluster's Services have first. */
  primaryFamily: 'auto' | PrimaryFamily;
  /** How pods of IPv6 alone reach IPv4 hosts. */
  egress4: 'none' | 'node';
  /** enforce: changes that others make to our objects are undone; report: they are only reported. */
  repair: 'enforce' | 'report';
  /** cut: connections that policies no longer allow end. keep: they go on. */
  existingConnections: 'cut' | 'keep';
  /** Of new pods with branch ENIs whose annotation does not say it. */
  podSecurityGroupEnforcingMode: BranchMode;
  /** What becomes of a pod that was made while the webhook was away. */
  missingGroups: MissingGroups;
  addressing: Addressing;
  /** Destinations outside the VPC that keep the pod's own source address. */
  excludeSnatCidrs: Cidr[];
  /** Bytes; the MTU of the primary ENI's link when absent. */
  podMtu?: number;
};

/** `host` is empty for every address of the node. */
export type Listen = { host: string; port: number };

export type InstallConfig = {
  /** Directories of the host, as this process sees them. */
  hostBinDir: string;
  hostConfDir: string;
  /** The compiled plugin; the package's own when absent. */
  plugin?: string;
  /** Plugins behind ours; portmap where the host has it, when absent. */
  chain?: readonly ChainedPlugin[];
};

/** The standard plugins whose configuration needs no more than their name and capability. */
export const CHAINED = ['portmap', 'bandwidth'] as const;
export type ChainedPlugin = (typeof CHAINED)[number];

export type AgentConfig = {
  nodeName: string;
  /** Name of the cluster: a tag of the node's ENIs, which tells them from another cluster's. */
  cluster?: string;
  /** Directory under /run that dies with the boot: sockets, journal, DEL queue. Mode 0700. */
  runDir: string;
  kubeconfig?: string;
  imdsEndpoint?: string;
  ec2Endpoint?: string;
  region?: string;
  /** The pod's service account says how the Kubernetes API is asked. */
  inCluster: boolean;
  /** Where /metrics, /healthz and /readyz are served on TCP; nowhere when absent. */
  listen?: Listen;
  /** What is installed on the host and where; nothing when absent. */
  install?: InstallConfig;
  /** The container runtime's socket, which is asked which sandboxes exist. */
  criSocket?: string;
  logLevel: string;
  settings: AgentSettings;
};

const invalid = (key: string, value: unknown, rule: string) =>
  new PodwayError('INVALID_CONFIG', `agent config: ${key} is ${JSON.stringify(value)}, ${rule}`, {
    object: key,
  });

function text(source: Record<string, unknown>, key: string): string | undefined {
  const value = source[key];
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value === '') throw invalid(key, value, 'not a non-empty string');
  return value;
}

function oneOf<T extends string>(
  source: Record<string, unknown>,
  key: string,
  words: readonly T[],
): T | undefined {
  const value = text(source, key);
  if (value === undefined) return undefined;
  const found = words.find((word) => word === value);
  if (found === undefined)
    throw invalid(key, value, `not ${words.slice(0, -1).join(', ')} or ${words.at(-1)}`);
  return found;
}

function whole(source: Record<string, unknown>, key: string, min: number, max: number): number | undefined {
  const value = source[key];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `not a whole number from ${min} to ${max}`);
  }
  return value;
}

function flag(source: Record<string, unknown>, key: string): boolean {
  const value = source[key] ?? false;
  if (typeof value !== 'boolean') throw invalid(key, value, 'not true or false');
  return value;
}

function listenOn(source: Record<string, unknown>): Listen | undefined {
  const value = text(source, 'listen');
  if (value === undefined) return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535)
    throw invalid('listen', value, 'not ADDRESS:PORT as 10.0.0.1:9464, [::1]:9464 or :9464');
  return { host: match[1] ?? match[2] ?? '', port };
}

function installed(source: Record<string, unknown>): InstallConfig | undefined {
  const chain = source['chain'];
  if (chain !== undefined && !Array.isArray(chain)) throw invalid('chain', chain, 'not a list of plugins');
  const wanted = (chain as unknown[] | undefined)?.filter((name) => name !== 'none');
  const unknown = wanted?.find((name) => !CHAINED.includes(name as ChainedPlugin));
  if (unknown !== undefined) throw invalid('chain', unknown, `not one of ${CHAINED.join(', ')} or none`);
  const paths = {
    hostBinDir: text(source, 'hostBinDir') ?? '/host/opt/cni/bin',
    hostConfDir: text(source, 'hostConfDir') ?? '/host/etc/cni/net.d',
    ...optional('plugin', text(source, 'plugin')),
    ...optional('chain', wanted as ChainedPlugin[] | undefined),
  };
  return flag(source, 'install') ? paths : undefined;
}

const optional = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };

/** Checks a parsed config. Throws INVALID_CONFIG naming the key, the value and the rule. */
export function parseAgentConfig(source: unknown): AgentConfig {
  if (typeof source !== 'object' || source === null || Array.isArray(source)) {
    throw invalid('(whole file)', source, 'not an object');
  }
  const top = source as Record<string, unknown>;
  const settings = (top['settings'] ?? {}) as Record<string, unknown>;
  const nodeName = text(top, 'nodeName');
  const runDir = text(top, 'runDir');
  if (nodeName === undefined) throw invalid('nodeName', undefined, 'and must be given');
  if (runDir === undefined) throw invalid('runDir', undefined, 'and must be given');
  const snat = oneOf(settings, 'snat', ['node', 'none', 'random'] as const) ?? 'node';
  const snat6 = oneOf(settings, 'snat6', ['node', 'none', 'random'] as const) ?? 'none';
  const families = oneOf(settings, 'families', ['ipv4', 'ipv6', 'dual'] as const) ?? 'ipv4';
  const primaryFamily = oneOf(settings, 'primaryFamily', ['auto', 'ipv4', 'ipv6'] as const) ?? 'auto';
  const policy = oneOf(settings, 'policy', POLICY_MODES) ?? 'enforce';
  const policyTimeout = oneOf(settings, 'policyTimeout', POLICY_TIMEOUTS) ?? 'fail';
  const flowLog = oneOf(settings, 'flowLog', FLOW_LOGS) ?? 'denied';
  const existingConnections = text(settings, 'existingConnections') ?? 'cut';
  if (existingConnections !== 'cut' && existingConnections !== 'keep')
    throw invalid('existingConnections', existingConnections, 'not cut or keep');
  const podSecurityGroupEnforcingMode =
    oneOf(settings, 'podSecurityGroupEnforcingMode', BRANCH_MODES) ?? 'strict';
  const repair = text(settings, 'repair') ?? 'enforce';
  if (repair !== 'enforce' && repair !== 'report') throw invalid('repair', repair, 'not enforce or report');
  const addressing = text(settings, 'addressing') ?? 'secondary';
  if (addressing !== 'secondary' && addressing !== 'prefix' && addressing !== 'auto')
    throw invalid('addressing', addressing, 'not secondary, prefix or auto');
  const egress4 = oneOf(settings, 'egress4', ['none', 'node'] as const) ?? 'none';
  const cidrs = settings['excludeSnatCidrs'] ?? [];
  if (!Array.isArray(cidrs)) throw invalid('excludeSnatCidrs', cidrs, 'not a list of CIDRs');
  const DAY_MS = 86_400_000;
  return {
    nodeName,
    runDir,
    ...optional('cluster', text(top, 'cluster')),
    ...optional('kubeconfig', text(top, 'kubeconfig')),
    ...optional('imdsEndpoint', text(top, 'imdsEndpoint')),
    ...optional('ec2Endpoint', text(top, 'ec2Endpoint')),
    ...optional('region', text(top, 'region')),
    inCluster: flag(top, 'inCluster'),
    ...optional('listen', listenOn(top)),
    ...optional('install', installed(top)),
    ...optional('criSocket', text(top, 'criSocket')),
    logLevel: text(top, 'logLevel') ?? 'info',
    settings: {
      ...optional('warm', whole(settings, 'warm', 0, 10_000)),
      cooldownMs: whole(settings, 'cooldownMs', 0, DAY_MS) ?? 30_000,
      ...optional('idleReleaseMs', whole(settings, 'idleReleaseMs', 0, DAY_MS)),
      snat,
      snat6,
      families,
      primaryFamily,
      egress4,
      repair,
      policy,
      policyTimeout,
      flowLog,
      existingConnections,
      podSecurityGroupEnforcingMode,
      missingGroups: oneOf(settings, 'missingGroups', MISSING_GROUPS) ?? 'refuse',
      addressing,
      excludeSnatCidrs: cidrs.map((cidr) => parseCidr(String(cidr))),
      // RFC 8200, section 5: the least of every link that carries IPv6.
      ...optional('podMtu', whole(settings, 'podMtu', families === 'ipv4' ? 576 : 1280, 9001)),
    },
  };
}
