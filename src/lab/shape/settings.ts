// The settings of a lab: one table is the source for `--set`, for lab.yaml and for the help text. Values are kept as the
// user wrote them once they are checked; the typed form is computed from them, so that a comparison shows the user's words.

import { existsSync } from 'node:fs';
import {
  BRANCH_MODES,
  type BranchMode,
  MISSING_GROUPS,
  type MissingGroups,
} from '../../base/branch-words.ts';
import { parseCidr } from '../../base/ip.ts';
import {
  FLOW_LOGS,
  type FlowLog,
  POLICY_MODES,
  POLICY_TIMEOUTS,
  type PolicyMode,
  type PolicyTimeout,
} from '../../base/policy-words.ts';
import { type PluginEntry, parseChain } from '../../cni/conflist.ts';
import { LabError } from '../daemon/errors.ts';
import { type ImdsLag, noLag } from '../vpc/faults/imds-lag.ts';

export type SettingKey =
  | 'cooldown'
  | 'ec2Latency'
  | 'ec2Throttle'
  | 'ec2Consistency'
  | 'imdsLag'
  | 'ec2Seed'
  | 'snat'
  | 'excludeSnatCidrs'
  | 'podMtu'
  | 'warm'
  | 'idleRelease'
  | 'repair'
  | 'addressing'
  | 'families'
  | 'egress4'
  | 'policy'
  | 'policyTimeout'
  | 'flowLog'
  | 'podSecurityGroupEnforcingMode'
  | 'missingGroups'
  | 'cniChain'
  | 'env'
  | 'controller'
  | 'runtime'
  | 'agent';
export type SettingTexts = Partial<Record<SettingKey, string>>;

export type Families = 'ipv4' | 'ipv6' | 'dual';
export type RuntimeChoice = 'auto' | 'containerd1' | 'containerd2';

export type Settings = {
  /** Milliseconds before a released address is given again. */
  cooldownMs: number;
  ec2Latency: 'none' | 'realistic';
  ec2Throttle: 'none' | 'aws';
  /** Milliseconds. */
  ec2ConsistencyMs: number;
  imdsLag: ImdsLag;
  ec2Seed: number;
  snat: 'node' | 'none' | 'random';
  excludeSnatCidrs: string[];
  /** Bytes; the ENI's own MTU when absent. */
  podMtu?: number;
  /** Free addresses that a node keeps; what its forecast says when absent. */
  warm?: number;
  /** Milliseconds after its cooldown before an idle address goes back to the subnet; the agent's default when absent. */
  idleReleaseMs?: number;
  repair: 'enforce' | 'report';
  /** Single addresses, /28 prefixes, or prefixes while the subnet has whole /28s. */
  addressing: 'secondary' | 'prefix' | 'auto';
  /** Address families of the VPCs, instances and pods. */
  families: Families;
  /** How pods of IPv6 alone reach IPv4 hosts. */
  egress4: 'none' | 'node';
  policy: PolicyMode;
  policyTimeout: PolicyTimeout;
  flowLog: FlowLog;
  /** Of pods with branch ENIs that do not say theirs. */
  podSecurityGroupEnforcingMode: BranchMode;
  /** Of pods that a SecurityGroupPolicy selects and that ask for no branch. */
  missingGroups: MissingGroups;
  /** Standard plugins that the nodes' runtime runs after Podway's. */
  cniChain: PluginEntry[];
  /** Environment of the nodes' agents and of the controller. */
  env: Record<string, string>;
  /** Whether the lab runs Podway's controller. */
  controller: 'process' | 'none';
  /** Of a real Kubernetes alone: which containerd, and whether the lab runs the nodes' agents or somebody installs them. */
  runtime: RuntimeChoice;
  agent: 'process' | 'none';
};

type Row = { example: string; fallback: string; meaning: string; read(text: string): unknown };

const DAY_MS = 86_400_000;
const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, '': 1000 };

/** "30s", "500ms", "2m", "1h"; a bare number is seconds. Milliseconds, or undefined when it is none of these. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(text.trim());
  if (!match) return undefined;
  return Math.round(Number(match[1]) * UNITS[match[2]!]!);
}

const duration = (text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined || ms > DAY_MS) throw new TypeError('is a duration from 0s to 24h, as 30s or 500ms');
  return ms;
};
const oneOf =
  (...words: string[]) =>
  (text: string) => {
    if (!words.includes(text)) throw new TypeError(`is one of ${words.join(', ')}`);
    return text;
  };
const whole = (min: number, max: number) => (text: string) => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw new TypeError(`is a whole number from ${min} to ${max}`);
  return value;
};
// An agent that cannot read its settings never gets ready.
function isCidr4(text: string): boolean {
  try {
    return typeof parseCidr(text).ip === 'number';
  } catch {
    return false;
  }
}
const cidrs = (text: string): string[] => {
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  for (const part of parts) {
    if (!isCidr4(part))
      throw new TypeError('is a list of IPv4 CIDRs without host bits, with commas between them');
  }
  return parts;
};

const REALISTIC_LAG: ImdsLag = { directory: 1000, keys: 2000, added: 4000, removed: 4000 };
/** `A=1;B=2`: values may hold commas. */
const variables = (text: string): Record<string, string> => {
  const found: Record<string, string> = {};
  for (const part of text.split(';').filter((one) => one.trim() !== '')) {
    const match = /^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(part);
    if (!match) throw new TypeError('is a list of NAME=VALUE with semicolons between them');
    found[match[1]!] = match[2]!.trim();
  }
  return found;
};
const lag = (text: string): ImdsLag => {
  if (text === 'none') return noLag;
  if (text === 'realistic') return REALISTIC_LAG;
  const times = text.split(',').map(parseDuration);
  const [directory = -1, keys = -1, added = -1, removed = -1] = times;
  if (times.length !== 4 || [directory, keys, added, removed].some((ms) => ms < 0 || ms > DAY_MS))
    throw new TypeError('is none, realistic, or four durations with commas between them, as 1s,2s,4s,4s');
  return { directory, keys, added, removed };
};

export const settingRows: Record<SettingKey, Row> = {
  cooldown: {
    example: '30s',
    fallback: '30s',
    meaning: 'rest of a released address before it is given again',
    read: duration,
  },
  ec2Latency: {
    example: 'none|realistic',
    fallback: 'none',
    meaning: 'how long EC2 takes to answer, to attach and to detach',
    read: oneOf('none', 'realistic'),
  },
  ec2Throttle: {
    example: 'none|aws',
    fallback: 'none',
    meaning: 'request limits: the token buckets that AWS publishes (see lab throttle)',
    read: oneOf('none', 'aws'),
  },
  ec2Consistency: {
    example: '0s',
    fallback: '0s',
    meaning: 'how old the state is at most that a describe answers with',
    read: duration,
  },
  imdsLag: {
    example: 'none|realistic|T1,T2,T3,T4',
    fallback: 'none',
    meaning: "how late IMDS is: a new ENI's directory, its keys, further addresses, what is gone",
    read: lag,
  },
  ec2Seed: {
    example: '1',
    fallback: '1',
    meaning: 'decides what latency and consistency draw',
    read: whole(0, 2 ** 32 - 1),
  },
  snat: {
    example: 'node|none|random',
    fallback: 'node',
    meaning: 'source address of pods outside the VPC',
    read: oneOf('node', 'none', 'random'),
  },
  excludeSnatCidrs: {
    example: '192.168.0.0/16,…',
    fallback: '',
    meaning: 'destinations outside the VPC that see the pod itself',
    read: cidrs,
  },
  podMtu: { example: '9001', fallback: "the ENI's", meaning: 'MTU of pods in bytes', read: whole(576, 9001) },
  warm: {
    example: '5',
    fallback: 'by the forecast',
    meaning: 'free addresses that a node keeps',
    read: whole(0, 10_000),
  },
  idleRelease: {
    example: '60s',
    fallback: '5m, with warm 60s',
    meaning: 'idle time, after cooldown, before an address goes back',
    read: duration,
  },
  repair: {
    example: 'enforce|report',
    fallback: 'enforce',
    meaning: 'what others change on a node is put back, or told',
    read: oneOf('enforce', 'report'),
  },
  addressing: {
    example: 'secondary|prefix|auto',
    fallback: 'secondary',
    meaning: 'what pods get addresses from: single ones, /28s, or /28s while there are any',
    read: oneOf('secondary', 'prefix', 'auto'),
  },
  families: {
    example: 'ipv4|ipv6|dual',
    fallback: 'ipv4',
    meaning: 'of pods; with ipv6 and dual the VPCs have a /56, subnets a /64, instances both families',
    read: oneOf('ipv4', 'ipv6', 'dual'),
  },
  egress4: {
    example: 'none|node',
    fallback: 'none',
    meaning: "pods of IPv6 alone reach IPv4 hosts: with the node's address, or not",
    read: oneOf('none', 'node'),
  },
  policy: {
    example: 'enforce|audit|off',
    fallback: 'enforce',
    meaning: 'of network policies: with audit what they deny is told, and passes',
    read: oneOf(...POLICY_MODES),
  },
  policyTimeout: {
    example: 'fail|isolate',
    fallback: 'fail',
    meaning: 'a pod whose policies are not in force in time does not start, or reaches its node alone',
    read: oneOf(...POLICY_TIMEOUTS),
  },
  flowLog: {
    example: 'off|denied|all',
    fallback: 'denied',
    meaning: 'connections that podway observe tells',
    read: oneOf(...FLOW_LOGS),
  },
  podSecurityGroupEnforcingMode: {
    example: BRANCH_MODES.join('|'),
    fallback: 'strict',
    meaning: 'pods with branch ENIs: the VPC judges all that they begin, or only what leaves the node',
    read: oneOf(...BRANCH_MODES),
  },
  missingGroups: {
    example: MISSING_GROUPS.join('|'),
    fallback: 'refuse',
    meaning:
      'a pod that a SecurityGroupPolicy selects, made while the webhook was away: does not start, or has the node’s groups',
    read: oneOf(...MISSING_GROUPS),
  },
  cniChain: {
    example: 'portmap,bandwidth|[…]',
    fallback: '',
    meaning: "standard CNI plugins after Podway's: hostPort needs portmap, tuning its JSON",
    read: parseChain,
  },
  env: {
    example: 'WARM_IP_TARGET=2;…',
    fallback: '',
    meaning: "environment of the nodes' agents and the controller: the AWS VPC CNI's variables count",
    read: variables,
  },
  controller: {
    example: 'process|none',
    fallback: 'process; none with agent=none, and where no instance has an agent',
    meaning: "the lab runs Podway's controller, or the cluster has none",
    read: oneOf('process', 'none'),
  },
  runtime: {
    example: 'auto|containerd1|containerd2',
    fallback: 'auto',
    meaning: 'with --kubernetes: the container runtime; auto is 2 where it is, else 1',
    read: oneOf('auto', 'containerd1', 'containerd2'),
  },
  agent: {
    example: 'process|none',
    fallback: 'process',
    meaning: 'with --kubernetes: the lab runs the agents, or nodes wait for somebody to install them',
    read: oneOf('process', 'none'),
  },
};

/** Settings that an embedded cluster has no use for. */
const KUBERNETES_ALONE: SettingKey[] = ['runtime', 'agent'];

/** Throws LabError for a setting that would have no effect, or that this machine cannot have. */
export function checkSettingsFor(
  kubernetes: boolean,
  texts: SettingTexts,
  kernelHasIpv6 = existsSync('/proc/sys/net/ipv6'),
): void {
  if ((texts.families ?? 'ipv4') !== 'ipv4' && !kernelHasIpv6)
    throw new LabError(
      'BAD_SETTING',
      `setting families=${texts.families} needs IPv6, which this machine's kernel has not`,
      'boot it without ipv6.disable=1, or leave families=ipv4',
      { exit: 2 },
    );
  if (kubernetes && texts.families === 'ipv6')
    throw new LabError(
      'BAD_SETTING',
      'a lab with a real Kubernetes has families ipv4 or dual',
      'podway lab up --kubernetes --set families=dual',
      { exit: 2 },
    );
  const idle = KUBERNETES_ALONE.find((key) => !kubernetes && texts[key] !== undefined);
  if (idle === undefined) return;
  throw new LabError(
    'BAD_SETTING',
    `setting ${idle} is for a lab with a real Kubernetes`,
    `podway lab up --kubernetes --set ${idle}=${texts[idle]}`,
    { exit: 2 },
  );
}

export const isSettingKey = (key: string): key is SettingKey => Object.hasOwn(settingRows, key);

/** Throws LabError with the rule when the text is no value for the key. */
export function checkSetting(key: string, text: string): SettingKey {
  if (!isSettingKey(key)) {
    throw new LabError(
      'BAD_SETTING',
      `there is no setting "${key}"`,
      `settings: ${Object.keys(settingRows).join(', ')}`,
      { exit: 2 },
    );
  }
  try {
    settingRows[key].read(text);
  } catch (error) {
    throw new LabError(
      'BAD_SETTING',
      `setting ${key} ${(error as Error).message}, not "${text}"`,
      'podway lab up --help lists the settings',
      { exit: 2 },
    );
  }
  return key;
}

/** `--set KEY=VALUE` arguments as texts. */
export function parseSettingArguments(args: string[]): SettingTexts {
  const texts: SettingTexts = {};
  for (const arg of args) {
    const at = arg.indexOf('=');
    if (at < 1)
      throw new LabError('BAD_SETTING', `"${arg}" is not KEY=VALUE`, 'for example --set cooldown=30s', {
        exit: 2,
      });
    const text = arg.slice(at + 1);
    texts[checkSetting(arg.slice(0, at), text)] = text;
  }
  return texts;
}

export function readSettings(texts: SettingTexts): Settings {
  const read = <T>(key: SettingKey) => settingRows[key].read(texts[key] ?? settingRows[key].fallback) as T;
  return {
    cooldownMs: read('cooldown'),
    ec2Latency: read('ec2Latency'),
    ec2Throttle: read('ec2Throttle'),
    ec2ConsistencyMs: read('ec2Consistency'),
    imdsLag: read('imdsLag'),
    ec2Seed: read('ec2Seed'),
    snat: read('snat'),
    excludeSnatCidrs: read('excludeSnatCidrs'),
    repair: read('repair'),
    addressing: read('addressing'),
    families: read('families'),
    egress4: read('egress4'),
    policy: read('policy'),
    policyTimeout: read('policyTimeout'),
    flowLog: read('flowLog'),
    podSecurityGroupEnforcingMode: read('podSecurityGroupEnforcingMode'),
    missingGroups: read('missingGroups'),
    cniChain: read('cniChain'),
    env: read('env'),
    // Who installs the agents installs the controller.
    controller:
      texts.controller !== undefined ? read('controller') : texts.agent === 'none' ? 'none' : 'process',
    runtime: read('runtime'),
    agent: read('agent'),
    ...(texts.warm === undefined ? {} : { warm: read<number>('warm') }),
    ...(texts.idleRelease === undefined ? {} : { idleReleaseMs: read<number>('idleRelease') }),
    ...(texts.podMtu === undefined ? {} : { podMtu: read<number>('podMtu') }),
  };
}

export function settingsHelp(): string {
  const rows = Object.entries(settingRows).map(
    ([key, row]) => [`${key}=${row.example}`, `${row.meaning} (default ${row.fallback || 'none'})`] as const,
  );
  const width = Math.max(...rows.map(([example]) => example.length));
  return rows.map(([example, text]) => `  ${example.padEnd(width)}  ${text}`).join('\n');
}
