// The agent's configuration: one JSON file, read once at start. Every value is checked; an error names the wrong one.
// This file holds all defaults.
import { readFileSync } from 'node:fs';
import { PodwayError } from '../base/errors.ts';
import { type Cidr, parseCidr } from '../base/ip.ts';
import type { SnatMode } from '../datapath/types.ts';
import type { Addressing } from '../ipam/policy.ts';

export type AgentSettings = {
  /** Free addresses to keep ready; absent: what the forecast says. */
  warm?: number;
  /** Milliseconds before a released address is given again. */
  cooldownMs: number;
  /** Milliseconds after its cooldown before an idle address goes back to the subnet. */
  idleReleaseMs?: number;
  snat: SnatMode;
  /** enforce: changes that others make to our objects are undone; report: they are only reported. */
  repair: 'enforce' | 'report';
  addressing: Addressing;
  /** Destinations outside the VPC that keep the pod's own source address. */
  excludeSnatCidrs: Cidr[];
  /** Bytes; the MTU of the primary ENI's link when absent. */
  podMtu?: number;
};

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
  /** TCP port of /metrics, /healthz and /readyz on the node; none when absent. */
  metricsPort?: number;
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

function whole(source: Record<string, unknown>, key: string, min: number, max: number): number | undefined {
  const value = source[key];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `not a whole number from ${min} to ${max}`);
  }
  return value;
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
  const snat = text(settings, 'snat') ?? 'node';
  if (snat !== 'node' && snat !== 'none' && snat !== 'random')
    throw invalid('snat', snat, 'not node, none or random');
  const repair = text(settings, 'repair') ?? 'enforce';
  if (repair !== 'enforce' && repair !== 'report') throw invalid('repair', repair, 'not enforce or report');
  const addressing = text(settings, 'addressing') ?? 'secondary';
  if (addressing !== 'secondary' && addressing !== 'prefix' && addressing !== 'auto')
    throw invalid('addressing', addressing, 'not secondary, prefix or auto');
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
    ...optional('metricsPort', whole(top, 'metricsPort', 1, 65535)),
    logLevel: text(top, 'logLevel') ?? 'info',
    settings: {
      ...optional('warm', whole(settings, 'warm', 0, 10_000)),
      cooldownMs: whole(settings, 'cooldownMs', 0, DAY_MS) ?? 30_000,
      ...optional('idleReleaseMs', whole(settings, 'idleReleaseMs', 0, DAY_MS)),
      snat,
      repair,
      addressing,
      excludeSnatCidrs: cidrs.map((cidr) => parseCidr(String(cidr))),
      ...optional('podMtu', whole(settings, 'podMtu', 576, 9001)),
    },
  };
}

export function readAgentConfig(file: string): AgentConfig {
  let source: unknown;
  try {
    source = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new PodwayError(
      'INVALID_CONFIG',
      `agent config ${file}: ${(error as Error).message}`,
      { object: file },
      { cause: error },
    );
  }
  return parseAgentConfig(source);
}
