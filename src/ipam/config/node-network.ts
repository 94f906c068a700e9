// Reads NodeNetworks and chooses the one of a node. The CRD's schema has refused most mistakes already; an API that runs
// no CEL rules, or an older schema, has not, so every field is checked here again. Pure.

import { formatIp, parseIp } from '../../base/ip.ts';
import {
  FLOW_LOGS,
  type FlowLog,
  POLICY_MODES,
  POLICY_TIMEOUTS,
  type PolicyMode,
  type PolicyTimeout,
} from '../../base/policy-words.ts';
import type { NodeNetwork } from '../../kube/networks.ts';
import { matchesRequirements, type Requirement, selectorRequirements } from '../../kube/selectors.ts';
import type { LabelSelector } from '../../kube/types.ts';
import type { Addressing, Families } from '../policy.ts';

export type Chosen =
  | { readonly ids: readonly string[] }
  | { readonly tags: Readonly<Record<string, string>> };

/** A NodeNetwork whose every field is as it must be. */
export type ValidNetwork = {
  readonly name: string;
  readonly generation: number;
  /** creationTimestamp, ISO text: orders those that select one node. */
  readonly created: string;
  readonly selector: readonly Requirement[];
  readonly families: Families;
  readonly egress4: 'none' | 'node';
  readonly addressing: Addressing;
  readonly subnets: Chosen | null;
  readonly securityGroups: Chosen | null;
  readonly changesExistingEnis: boolean;
  readonly usesPrimaryEni: boolean;
  readonly podsPerMinute: number | null;
  readonly maxIdlePercent: number | null;
  readonly minIdle: number | null;
  readonly maxPods: number | null;
  readonly maxAddresses: number | null;
  readonly maxSubnetPercent: number | null;
  readonly cooldownMs: number;
  /** Of network policies; null: what the agent's settings say. */
  readonly policy: PolicyMode | null;
  readonly policyTimeout: PolicyTimeout | null;
  readonly flowLog: FlowLog | null;
  /** Addresses, in canonical text, that pods with branches reach on the node itself while they are on it. */
  readonly nodeLocalAddresses: readonly string[];
};

/** A NodeNetwork that is not followed, and every reason. */
export type RefusedNetwork = {
  readonly name: string;
  readonly generation: number;
  /** Null when it is the selector that is wrong: then it may mean any node. */
  readonly selector: readonly Requirement[] | null;
  readonly problems: readonly string[];
};

const SUBNET = /^subnet-[0-9a-f]{8,17}$/;
const GROUP = /^sg-[0-9a-f]{8,17}$/;
/** A label's name, with a DNS prefix or without, and its value; characters at most. */
const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const LONGEST_KEY = 317;
const LONGEST_VALUE = 63;
const MOST_ADDRESSES = 32;
const DAY_MS = 86_400_000;
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

type Fields = Record<string, unknown>;

export function readNodeNetwork(object: NodeNetwork): ValidNetwork | RefusedNetwork {
  const { name = '', generation = 0, creationTimestamp = '' } = object.metadata;
  const problems: string[] = [];
  const at = new FieldReader(problems);
  const spec = at.fields({ spec: object.spec ?? {} }, 'spec', [
    'nodeSelector',
    'families',
    'egress4',
    'addressing',
    'subnets',
    'securityGroups',
    'usePrimaryENI',
    'capacity',
    'bounds',
    'cooldown',
    'policy',
    'policyTimeout',
    'flowLog',
    'nodeLocalAddresses',
  ]);
  const groups = at.fields(spec, 'spec.securityGroups', ['ids', 'tags', 'existingENIs']);
  const capacity = at.fields(spec, 'spec.capacity', [
    'podsPerMinute',
    'maxIdlePercent',
    'minIdle',
    'maxPods',
  ]);
  const bounds = at.fields(spec, 'spec.bounds', ['maxAddresses', 'maxSubnetPercent']);
  const minIdle = at.whole(capacity, 'spec.capacity.minIdle', 0, 1_000);
  const maxPods = at.whole(capacity, 'spec.capacity.maxPods', 1, 5_000);
  if (minIdle !== null && maxPods !== null && minIdle > maxPods)
    problems.push(`spec.capacity.minIdle is ${minIdle}, greater than maxPods ${maxPods}`);
  const selector = at.selector(spec);
  const network: ValidNetwork = {
    name,
    generation,
    created: creationTimestamp,
    selector: selector ?? [],
    families: at.word(spec, 'spec.families', ['ipv4', 'ipv6', 'dual'] as const) ?? 'ipv4',
    egress4: at.word(spec, 'spec.egress4', ['none', 'node'] as const) ?? 'none',
    addressing: at.word(spec, 'spec.addressing', ['secondary', 'prefix', 'auto'] as const) ?? 'secondary',
    subnets:
      spec['subnets'] === undefined
        ? null
        : at.choice(at.fields(spec, 'spec.subnets', ['ids', 'tags']), 'spec.subnets', SUBNET, 'subnet'),
    securityGroups:
      spec['securityGroups'] === undefined
        ? null
        : at.choice(groups, 'spec.securityGroups', GROUP, 'security group'),
    changesExistingEnis:
      at.word(groups, 'spec.securityGroups.existingENIs', ['keep', 'change'] as const) === 'change',
    usesPrimaryEni: at.flag(spec, 'spec.usePrimaryENI') ?? true,
    podsPerMinute: at.whole(capacity, 'spec.capacity.podsPerMinute', 0, 1_000),
    maxIdlePercent: at.whole(capacity, 'spec.capacity.maxIdlePercent', 0, 1_000),
    minIdle,
    maxPods,
    maxAddresses: at.whole(bounds, 'spec.bounds.maxAddresses', 1, 20_000),
    maxSubnetPercent: at.whole(bounds, 'spec.bounds.maxSubnetPercent', 1, 100),
    cooldownMs: at.duration(spec, 'spec.cooldown') ?? 30_000,
    policy: at.word(spec, 'spec.policy', POLICY_MODES),
    policyTimeout: at.word(spec, 'spec.policyTimeout', POLICY_TIMEOUTS),
    flowLog: at.word(spec, 'spec.flowLog', FLOW_LOGS),
    nodeLocalAddresses: at.addresses(spec, 'spec.nodeLocalAddresses'),
  };
  return problems.length > 0 ? { name, generation, selector, problems } : network;
}

export const isRefused = (network: ValidNetwork | RefusedNetwork): network is RefusedNetwork =>
  'problems' in network;

export type NetworkChoice = {
  readonly chosen: ValidNetwork | null;
  /** Names of the others that select the node; they do not count. */
  readonly others: readonly string[];
};

/** The oldest one that selects the node, then the one whose name comes first. */
export function chooseNetwork(
  networks: Iterable<ValidNetwork>,
  labels: Readonly<Record<string, string>>,
): NetworkChoice {
  const selecting = [...networks]
    .filter(({ selector }) => matchesRequirements(selector, labels))
    .sort((a, b) => compare(a.created, b.created) || compare(a.name, b.name));
  return { chosen: selecting[0] ?? null, others: selecting.slice(1).map(({ name }) => name) };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Reads fields by their path; what is wrong goes into `problems`, and the field counts as absent. */
class FieldReader {
  readonly #problems: string[];

  constructor(problems: string[]) {
    this.#problems = problems;
  }

  #wrong(path: string, value: unknown, rule: string): null {
    this.#problems.push(`${path} is ${JSON.stringify(value)}, ${rule}`);
    return null;
  }

  /** The map at the path's last part; empty when absent. Fields that are not `known` are problems. */
  fields(parent: Fields, path: string, known: readonly string[]): Fields {
    const value = parent[lastOf(path)];
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.#wrong(path, value, 'not a map');
      return {};
    }
    for (const key of Object.keys(value))
      if (!known.includes(key))
        this.#problems.push(`${path}.${key} is not known (known: ${known.join(', ')})`);
    return value as Fields;
  }

  whole(parent: Fields, path: string, min: number, max: number): number | null {
    const value = parent[lastOf(path)];
    if (value === undefined) return null;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    return this.#wrong(path, value, `not a whole number from ${min} to ${max}`);
  }

  flag(parent: Fields, path: string): boolean | null {
    const value = parent[lastOf(path)];
    if (value === undefined || typeof value === 'boolean') return value ?? null;
    return this.#wrong(path, value, 'not true or false');
  }

  word<T extends string>(parent: Fields, path: string, words: readonly T[]): T | null {
    const value = parent[lastOf(path)];
    if (value === undefined) return null;
    const found = words.find((word) => word === value);
    return found ?? this.#wrong(path, value, `not one of ${words.join(', ')}`);
  }

  duration(parent: Fields, path: string): number | null {
    const value = parent[lastOf(path)];
    if (value === undefined) return null;
    const match = typeof value === 'string' ? /^(\d{1,9})(ms|s|m|h)$/.exec(value) : null;
    const ms = match ? Number(match[1]) * UNITS[match[2]!]! : Number.NaN;
    if (ms <= DAY_MS) return ms;
    return this.#wrong(path, value, 'not a duration up to 24h, as 30s or 500ms');
  }

  addresses(parent: Fields, path: string): string[] {
    const value = parent[lastOf(path)];
    if (value === undefined) return [];
    if (!Array.isArray(value) || value.length > MOST_ADDRESSES) {
      this.#wrong(path, value, `not a list of at most ${MOST_ADDRESSES} addresses`);
      return [];
    }
    const ips = value.flatMap((one) => {
      try {
        return [formatIp(parseIp(one as string))];
      } catch {
        this.#wrong(path, one, 'not an IPv4 or IPv6 address');
        return [];
      }
    });
    return [...new Set(ips)].sort();
  }

  choice(fields: Fields, path: string, pattern: RegExp, what: string): Chosen | null {
    const { ids, tags } = fields;
    if ((ids === undefined) === (tags === undefined)) {
      this.#problems.push(`${path} has ${ids === undefined ? 'neither ids nor' : 'both ids and'} tags`);
      return null;
    }
    if (ids !== undefined) {
      if (!Array.isArray(ids) || ids.length === 0)
        return this.#wrong(`${path}.ids`, ids, 'not a list of ids');
      const strange = ids.find((id) => typeof id !== 'string' || !pattern.test(id));
      if (strange !== undefined) return this.#wrong(`${path}.ids`, strange, `not the id of a ${what}`);
      return { ids: ids as string[] };
    }
    const isMap = typeof tags === 'object' && tags !== null && !Array.isArray(tags);
    if (
      !isMap ||
      Object.keys(tags).length === 0 ||
      Object.values(tags).some((tag) => typeof tag !== 'string')
    )
      return this.#wrong(`${path}.tags`, tags, 'not a map of tags to texts');
    return { tags: tags as Record<string, string> };
  }

  /** Null when it is wrong. */
  selector(spec: Fields): Requirement[] | null {
    const path = 'spec.nodeSelector';
    const fields = this.fields(spec, path, ['matchLabels', 'matchExpressions']);
    const { matchLabels = {}, matchExpressions = [] } = fields;
    const isText = (value: unknown) => typeof value === 'string';
    const areLabels =
      typeof matchLabels === 'object' && matchLabels !== null && Object.values(matchLabels).every(isText);
    const areExpressions =
      Array.isArray(matchExpressions) &&
      matchExpressions.every(
        (one: Fields | null) =>
          isText(one?.['key']) &&
          (one?.['values'] === undefined || (Array.isArray(one['values']) && one['values'].every(isText))),
      );
    if (!areLabels || !areExpressions) {
      return this.#wrong(path, fields, 'not a label selector');
    }
    let requirements: Requirement[];
    try {
      requirements = selectorRequirements({ matchLabels, matchExpressions } as LabelSelector);
    } catch (error) {
      this.#problems.push(`${path}: ${(error as Error).message}`);
      return null;
    }
    const keys = requirements.map(({ key }) => key);
    const strange = keys.find((key) => key.length > LONGEST_KEY || !LABEL_KEY.test(key));
    if (strange !== undefined) return this.#wrong(`${path}, a key`, strange, "not a label's name");
    const values = requirements.flatMap((one) => one.values);
    const odd = values.find((value) => value.length > LONGEST_VALUE || !LABEL_VALUE.test(value));
    return odd === undefined ? requirements : this.#wrong(`${path}, a value`, odd, "not a label's value");
  }
}

const lastOf = (path: string): string => path.slice(path.lastIndexOf('.') + 1);
