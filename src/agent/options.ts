// How the agent is told its configuration: flags, environment and a JSON file, in this order of precedence. One table is
// the source for reading, for the help text and for the docs. Pure but for the file. Fails with INVALID_CONFIG or USAGE.
import { readFileSync } from 'node:fs';
import { PodwayError } from '../base/errors.ts';
import { type AgentConfig, parseAgentConfig } from './config.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export type AgentOption = {
  /** Key of the file; below `settings` when it begins so. */
  readonly key: string;
  readonly flag: string;
  /** The first variable that is set and not empty counts. */
  readonly env: readonly string[];
  /** What stands for the value in the help text; absent: the flag alone turns it on. */
  readonly value?: string;
  readonly help: string;
  /** Throws TypeError with what the value should be. */
  readonly read: (text: string) => unknown;
};

const text = (value: string): string => value;
const whole = (value: string): number => {
  if (!/^\d+$/.test(value)) throw new TypeError('not a whole number');
  return Number(value);
};
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const duration = (value: string): number => {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(value);
  if (!match) throw new TypeError('not a duration as 30s, 500ms or 2m');
  return Math.round(Number(match[1]) * UNITS[match[2]!]!);
};
const yesOrNo = (value: string): boolean => {
  if (/^(1|true|yes)$/i.test(value)) return true;
  if (/^(0|false|no)$/i.test(value)) return false;
  throw new TypeError('not 1 or 0');
};
const list = (value: string): string[] =>
  value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

export const agentOptions: readonly AgentOption[] = [
  {
    key: 'nodeName',
    flag: '--node-name',
    env: ['NODE_NAME', 'MY_NODE_NAME'],
    value: 'NAME',
    help: 'name of the Node object; in a pod by the downward API',
    read: text,
  },
  {
    key: 'cluster',
    flag: '--cluster',
    env: ['PODWAY_CLUSTER', 'CLUSTER_NAME'],
    value: 'NAME',
    help: "name of the cluster: a tag of the node's ENIs",
    read: text,
  },
  {
    key: 'runDir',
    flag: '--run-dir',
    env: ['PODWAY_RUN_DIR'],
    value: 'DIR',
    help: 'sockets and journal, below /run; the host and the pod know it by one path (default /run/podway)',
    read: text,
  },
  {
    key: 'kubeconfig',
    flag: '--kubeconfig',
    env: ['PODWAY_KUBECONFIG'],
    value: 'FILE',
    help: "how the Kubernetes API is asked (default: the pod's service account)",
    read: text,
  },
  {
    key: 'imdsEndpoint',
    flag: '--imds-endpoint',
    env: ['AWS_EC2_METADATA_SERVICE_ENDPOINT'],
    value: 'URL',
    help: 'the metadata service (default http://169.254.169.254)',
    read: text,
  },
  {
    key: 'ec2Endpoint',
    flag: '--ec2-endpoint',
    env: ['PODWAY_EC2_ENDPOINT'],
    value: 'URL',
    help: "EC2's API (default: AWS_ENDPOINT_URL_EC2, else the region's)",
    read: text,
  },
  {
    key: 'region',
    flag: '--region',
    env: ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    value: 'NAME',
    help: "of EC2's API (default: the instance's)",
    read: text,
  },
  {
    key: 'listen',
    flag: '--listen',
    env: ['PODWAY_LISTEN'],
    value: 'ADDRESS:PORT',
    help: 'serve /healthz, /readyz and /metrics, and nothing else, on TCP; :9464 is every address (default off)',
    read: text,
  },
  {
    key: 'logLevel',
    flag: '--log-level',
    env: ['PODWAY_LOG_LEVEL'],
    value: 'LEVEL',
    help: 'debug, info, warn or error (default info)',
    read: text,
  },
  {
    key: 'install',
    flag: '--install',
    env: ['PODWAY_INSTALL'],
    help: 'install plugin and conflist on the host, and keep them there',
    read: yesOrNo,
  },
  {
    key: 'hostBinDir',
    flag: '--host-bin-dir',
    env: ['PODWAY_HOST_BIN_DIR'],
    value: 'DIR',
    help: "the host's plugins (default /host/opt/cni/bin)",
    read: text,
  },
  {
    key: 'hostConfDir',
    flag: '--host-conf-dir',
    env: ['PODWAY_HOST_CONF_DIR'],
    value: 'DIR',
    help: "the host's network configs (default /host/etc/cni/net.d)",
    read: text,
  },
  {
    key: 'chain',
    flag: '--chain',
    env: ['PODWAY_CHAIN'],
    value: 'PLUGIN,…',
    help: 'plugins behind ours in the conflist: portmap, bandwidth; none for no other (default: portmap if the host has it)',
    read: list,
  },
  {
    key: 'plugin',
    flag: '--plugin',
    env: ['PODWAY_PLUGIN'],
    value: 'FILE',
    help: 'the compiled plugin that is installed (default: the one in the package)',
    read: text,
  },
  {
    key: 'criSocket',
    flag: '--cri-socket',
    env: ['PODWAY_CRI_SOCKET'],
    value: 'FILE',
    help: "the container runtime's socket, which is asked which sandboxes exist (default off)",
    read: text,
  },
  {
    key: 'settings.warm',
    flag: '--warm',
    env: ['PODWAY_WARM'],
    value: 'N',
    help: 'free addresses to keep (default: what the forecast says)',
    read: whole,
  },
  {
    key: 'settings.cooldownMs',
    flag: '--cooldown',
    env: ['PODWAY_COOLDOWN'],
    value: 'TIME',
    help: 'rest of a released address (default 30s)',
    read: duration,
  },
  {
    key: 'settings.idleReleaseMs',
    flag: '--idle-release',
    env: ['PODWAY_IDLE_RELEASE'],
    value: 'TIME',
    help: 'after its cooldown, until an idle address goes back (default 60s)',
    read: duration,
  },
  {
    key: 'settings.addressing',
    flag: '--addressing',
    env: ['PODWAY_ADDRESSING'],
    value: 'KIND',
    help: 'secondary, prefix or auto (default secondary)',
    read: text,
  },
  {
    key: 'settings.families',
    flag: '--families',
    env: ['PODWAY_FAMILIES'],
    value: 'KIND',
    help: "ipv4, ipv6 or dual: the families of pods' addresses; IPv6 by a /80 of the ENI (default ipv4)",
    read: text,
  },
  {
    key: 'settings.primaryFamily',
    flag: '--primary-family',
    env: ['PODWAY_PRIMARY_FAMILY'],
    value: 'KIND',
    help: "which address of a pod of both families comes first: ipv4, ipv6, or auto, as the cluster's Services (default auto)",
    read: text,
  },
  {
    key: 'settings.egress4',
    flag: '--egress4',
    env: ['PODWAY_EGRESS4'],
    value: 'MODE',
    help: 'pods of IPv6 alone reach IPv4 hosts: node (with its address) or none, as with NAT64 of the VPC (default none)',
    read: text,
  },
  {
    key: 'settings.snat',
    flag: '--snat',
    env: ['PODWAY_SNAT'],
    value: 'MODE',
    help: 'source address outside the VPC: node, random or none (default node)',
    read: text,
  },
  {
    key: 'settings.snat6',
    flag: '--snat6',
    env: ['PODWAY_SNAT6'],
    value: 'MODE',
    help: 'the same of IPv6 (default none)',
    read: text,
  },
  {
    key: 'settings.excludeSnatCidrs',
    flag: '--exclude-snat-cidrs',
    env: ['PODWAY_EXCLUDE_SNAT_CIDRS'],
    value: 'CIDR,…',
    help: "destinations that see the pod's own address",
    read: list,
  },
  {
    key: 'settings.podMtu',
    flag: '--pod-mtu',
    env: ['PODWAY_POD_MTU'],
    value: 'BYTES',
    help: "MTU of pods' links (default: the primary ENI's)",
    read: whole,
  },
  {
    key: 'settings.repair',
    flag: '--repair',
    env: ['PODWAY_REPAIR'],
    value: 'MODE',
    help: 'enforce, or report: changes by others are only told (default enforce)',
    read: text,
  },
  {
    key: 'settings.policy',
    flag: '--policy',
    env: ['PODWAY_POLICY'],
    value: 'MODE',
    help: "enforce, audit (what is denied is told, and passes), or off: policies are another engine's (default enforce)",
    read: text,
  },
  {
    key: 'settings.policyTimeout',
    flag: '--policy-timeout',
    env: ['PODWAY_POLICY_TIMEOUT'],
    value: 'WHAT',
    help: 'a pod whose policies are not in force in time: fail (it does not start) or isolate (default fail)',
    read: text,
  },
  {
    key: 'settings.flowLog',
    flag: '--flow-log',
    env: ['PODWAY_FLOW_LOG'],
    value: 'WHAT',
    help: 'connections that podway observe tells: off, denied, or all that policies judge (default denied)',
    read: text,
  },
  {
    key: 'settings.podSecurityGroupEnforcingMode',
    flag: '--pod-security-group-enforcing-mode',
    env: ['PODWAY_POD_SECURITY_GROUP_ENFORCING_MODE'],
    value: 'MODE',
    help: 'pods with branch ENIs: strict (the VPC judges all that they begin), or standard (only what leaves the node; default strict)',
    read: text,
  },
  {
    key: 'settings.missingGroups',
    flag: '--missing-groups',
    env: ['PODWAY_MISSING_GROUPS'],
    value: 'ANSWER',
    help: 'a pod that a SecurityGroupPolicy selects and that was made while its webhook was away: refuse or allow (default refuse)',
    read: text,
  },
  {
    key: 'settings.existingConnections',
    flag: '--existing-connections',
    env: ['PODWAY_EXISTING_CONNECTIONS'],
    value: 'WHAT',
    help: 'cut, or keep those that policies no longer allow (default cut)',
    read: text,
  },
];

type Given = { option: AgentOption; text: string; from: string };

const usage = (message: string): PodwayError =>
  new PodwayError('INVALID_CONFIG', message, { next: 'podway agent --help lists flags and variables.' });

/** Flags as `--name value` or `--name=value`. */
function readFlags(args: readonly string[]): { given: Given[]; file?: string } {
  const given: Given[] = [];
  let file: string | undefined;
  for (let at = 0; at < args.length; at++) {
    const [, name = '', , inline] = /^(--[a-z0-9-]+)(=(.*))?$/s.exec(args[at]!) ?? [];
    const option = agentOptions.find((one) => one.flag === name);
    if (!option && name !== '--config') throw usage(`podway agent knows no ${args[at]}`);
    if (option && option.value === undefined) {
      given.push({ option, text: inline ?? '1', from: name });
      continue;
    }
    const value = inline ?? args[++at];
    if (value === undefined || value === '') throw usage(`${name} has no value`);
    if (option) given.push({ option, text: value, from: name });
    else file = value;
  }
  return { given, ...(file === undefined ? {} : { file }) };
}

function readVariables(env: Environment): Given[] {
  return agentOptions.flatMap((option) => {
    const name = option.env.find((one) => (env[one] ?? '') !== '');
    return name === undefined ? [] : [{ option, text: env[name]!, from: name }];
  });
}

function put(target: Record<string, unknown>, { option, text: given, from }: Given): void {
  const [section, inner] = option.key.split('.') as [string, string?];
  let value: unknown;
  try {
    value = option.read(given);
  } catch (error) {
    throw usage(`${from} is ${JSON.stringify(given)}, ${(error as Error).message}`);
  }
  if (inner === undefined) target[section] = value;
  else target[section] = { ...(target[section] as object | undefined), [inner]: value };
}

/** Throws INVALID_CONFIG, which names the flag, variable or key, its value and the rule. */
export function readAgentOptions(args: readonly string[], env: Environment): AgentConfig {
  const { given, file } = readFlags(args);
  const isInPod = (env['KUBERNETES_SERVICE_HOST'] ?? '') !== '';
  let source: unknown = { runDir: '/run/podway' };
  if (file !== undefined) {
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
  }
  if (typeof source === 'object' && source !== null && !Array.isArray(source)) {
    // A file is the whole of a configuration: variables of the surroundings add nothing to it.
    const all = file === undefined ? [...readVariables(env), ...given] : given;
    for (const one of all) put(source as Record<string, unknown>, one);
    const top = source as Record<string, unknown>;
    if (file === undefined && top['nodeName'] === undefined)
      throw usage('neither --node-name nor NODE_NAME says which node this is');
    if (file === undefined && isInPod && top['kubeconfig'] === undefined) top['inCluster'] = true;
  }
  return parseAgentConfig(source);
}

/** The help text: flags with their variables. */
export function agentHelp(): string {
  const rows = agentOptions.map(({ flag, value, env, help }) => {
    const left = value === undefined ? flag : `${flag} ${value}`;
    return `  ${left.padEnd(30)} ${env.join(', ')}\n${' '.repeat(33)}${help}`;
  });
  return [
    'Usage: podway agent [FLAG…]\n',
    'Runs the agent of one node in the foreground until SIGTERM, which leaves the network of its pods alone.',
    'Each flag has an environment variable, which counts where the flag is not given.\n',
    'Flags:',
    ...rows,
    `  ${'--config FILE'.padEnd(30)}`,
    `${' '.repeat(33)}all of it as JSON; then only flags add to it\n`,
    'Examples:',
    '  podway agent --node-name ip-10-0-1-20 --kubeconfig /etc/podway/kubeconfig',
    '  NODE_NAME=ip-10-0-1-20 PODWAY_INSTALL=1 podway agent --listen :9464',
    '  podway agent uninstall --help',
  ].join('\n');
}
