// How the controller is told its configuration: flags, then the environment. One table for reading and for the help text.
// Pure. Fails with INVALID_CONFIG naming the flag or variable, its value and the rule.
import { hostname } from 'node:os';
import { PodwayError } from '../base/errors.ts';
import { QUARANTINE } from './branch/vlans.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** `host` is empty for every address. */
export type Listen = { host: string; port: number };

export type ControllerConfig = {
  /** Who holds the lease: another process of the same identity takes it over at once, so two that run never share one. */
  identity: string;
  namespace: string;
  lease: string;
  kubeconfig?: string;
  region?: string;
  ec2Endpoint?: string;
  imdsEndpoint?: string;
  listen?: Listen;
  /** Between the two looks at a gone node's ENIs that must agree (ms). */
  sweepGap: number;
  branchController: 'auto' | 'on' | 'off';
  /** How long a branch's address and VLAN id rest after its pod (ms), at least QUARANTINE. */
  branchCooldown: number;
  /** Absent: no webhooks. */
  webhookListen?: Listen;
  /** Absent: the API reaches the webhooks by their Service. */
  webhookUrl?: string;
  /** EC2 calls a second that all nodes may make together. */
  ec2Reads: number;
  ec2Changes: number;
  logLevel: string;
};

/** A VLAN id rests as long: an interface that is there keeps its id also where the leader is a new one. */
function rest(text: string): number {
  const ms = duration(text);
  if (ms < QUARANTINE) throw new TypeError(`less than ${QUARANTINE / 1000}s`);
  return ms;
}

const oneOf =
  (...words: string[]) =>
  (text: string): string => {
    if (!words.includes(text)) throw new TypeError(`not ${words.join(', ')}`);
    return text;
  };

function httpsUrl(text: string): string {
  if (!URL.canParse(text) || new URL(text).protocol !== 'https:') throw new TypeError('not an URL of https');
  return text;
}

type Row = {
  key: keyof ControllerConfig;
  flag: string;
  env: readonly string[];
  value: string;
  help: string;
  read?: (text: string) => unknown;
};

const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const name = (text: string): string => {
  if (!NAME.test(text)) throw new TypeError('not a name of small letters, digits, dashes and dots');
  return text;
};
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const DAY_MS = 86_400_000;
function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const ms = match ? Math.round(Number(match[1]) * UNITS[match[2]!]!) : 0;
  if (ms < 1 || ms > DAY_MS) throw new TypeError('not a duration from 1ms to 24h, as 30s or 2m');
  return ms;
}
function rate(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value < 0.1 || value > 1_000)
    throw new TypeError('not a number from 0.1 to 1000');
  return value;
}
const LEVELS = ['debug', 'info', 'warn', 'error'];

function listen(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535)
    throw new TypeError('not ADDRESS:PORT as 10.0.0.1:9465, [::1]:9465 or :9465');
  return { host: match[1] ?? match[2] ?? '', port };
}

const rows: readonly Row[] = [
  {
    key: 'kubeconfig',
    flag: '--kubeconfig',
    env: ['PODWAY_KUBECONFIG'],
    value: 'FILE',
    help: "how the Kubernetes API is asked (default: the pod's service account)",
  },
  {
    key: 'namespace',
    flag: '--namespace',
    env: ['POD_NAMESPACE'],
    value: 'NAME',
    help: 'of the Lease (default kube-system)',
    read: name,
  },
  {
    key: 'lease',
    flag: '--lease',
    env: ['PODWAY_LEASE'],
    value: 'NAME',
    help: 'the Lease by which one of several leads (default podway-controller)',
    read: name,
  },
  {
    key: 'identity',
    flag: '--identity',
    env: ['POD_NAME'],
    value: 'NAME',
    help: 'who holds the Lease; no two that run may have the same (default: host name and process id)',
  },
  {
    key: 'region',
    flag: '--region',
    env: ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    value: 'NAME',
    help: "of EC2's API (default: the instance's, by the metadata service)",
  },
  {
    key: 'ec2Endpoint',
    flag: '--ec2-endpoint',
    env: ['PODWAY_EC2_ENDPOINT'],
    value: 'URL',
    help: "EC2's API (default: AWS_ENDPOINT_URL_EC2, else the region's)",
  },
  {
    key: 'imdsEndpoint',
    flag: '--imds-endpoint',
    env: ['AWS_EC2_METADATA_SERVICE_ENDPOINT'],
    value: 'URL',
    help: 'the metadata service (default http://169.254.169.254)',
  },
  {
    key: 'listen',
    flag: '--listen',
    env: ['PODWAY_LISTEN'],
    value: 'ADDRESS:PORT',
    help: 'serve /healthz, /readyz and /metrics on TCP; :9465 is every address (default off)',
    read: listen,
  },
  {
    key: 'sweepGap',
    flag: '--sweep-gap',
    env: ['PODWAY_SWEEP_GAP'],
    value: 'TIME',
    help: "between the two looks that must agree before a gone node's ENI is deleted, twice as long after the node went (default 30s; less is for trying)",
    read: duration,
  },
  {
    key: 'branchController',
    flag: '--branch-controller',
    env: ['PODWAY_BRANCH_CONTROLLER'],
    value: 'MODE',
    help: "security groups per pod: auto makes trunks from the first SecurityGroupPolicy on and leaves them to EKS's controller where it is; on; off (default auto)",
    read: oneOf('auto', 'on', 'off'),
  },
  {
    key: 'branchCooldown',
    flag: '--branch-cooldown',
    env: ['PODWAY_BRANCH_COOLDOWN'],
    value: 'TIME',
    help: 'how long address and VLAN id of a branch rest after its pod, before the interface is deleted (default 30s, and not less)',
    read: rest,
  },
  {
    key: 'webhookListen',
    flag: '--webhook-listen',
    env: ['PODWAY_WEBHOOK_LISTEN'],
    value: 'ADDRESS:PORT',
    help: 'serve the webhooks of security groups per pod by TLS (default off: pods ask for a branch by themselves)',
    read: listen,
  },
  {
    key: 'webhookUrl',
    flag: '--webhook-url',
    env: ['PODWAY_WEBHOOK_URL'],
    value: 'URL',
    help: 'where the API reaches the webhooks (default: the Service podway-webhook)',
    read: httpsUrl,
  },
  {
    key: 'ec2Reads',
    flag: '--ec2-reads',
    env: ['PODWAY_EC2_READS'],
    value: 'N',
    help: "describes a second that all nodes may make together: of the account's, what others leave (default 15)",
    read: rate,
  },
  {
    key: 'ec2Changes',
    flag: '--ec2-changes',
    env: ['PODWAY_EC2_CHANGES'],
    value: 'N',
    help: 'the same of changes (default 10)',
    read: rate,
  },
  {
    key: 'logLevel',
    flag: '--log-level',
    env: ['PODWAY_LOG_LEVEL'],
    value: 'LEVEL',
    help: 'debug, info, warn or error (default info)',
    read: (text) => {
      if (!LEVELS.includes(text)) throw new TypeError('not debug, info, warn or error');
      return text;
    },
  },
];

const usage = (message: string): PodwayError =>
  new PodwayError('INVALID_CONFIG', message, { next: 'podway controller --help lists flags and variables.' });

/** Flags as `--name value` or `--name=value`. */
function readFlags(args: readonly string[]): Map<Row, { text: string; from: string }> {
  const given = new Map<Row, { text: string; from: string }>();
  for (let at = 0; at < args.length; at++) {
    const [, flag = '', , inline] = /^(--[a-z0-9-]+)(=(.*))?$/s.exec(args[at]!) ?? [];
    const row = rows.find((one) => one.flag === flag);
    if (!row) throw usage(`podway controller knows no ${args[at]}`);
    const text = inline ?? args[++at];
    if (text === undefined || text === '') throw usage(`${flag} has no value`);
    given.set(row, { text, from: flag });
  }
  return given;
}

/** Throws INVALID_CONFIG. */
export function readControllerOptions(args: readonly string[], env: Environment): ControllerConfig {
  const given = readFlags(args);
  const config: Record<string, unknown> = {
    identity: `${hostname()}-${process.pid}`,
    namespace: 'kube-system',
    lease: 'podway-controller',
    sweepGap: 30_000,
    branchController: 'auto',
    branchCooldown: QUARANTINE,
    ec2Reads: 15,
    ec2Changes: 10,
    logLevel: 'info',
  };
  for (const row of rows) {
    const variable = row.env.find((one) => (env[one] ?? '') !== '');
    const found =
      given.get(row) ?? (variable === undefined ? undefined : { text: env[variable]!, from: variable });
    if (!found) continue;
    try {
      config[row.key] = row.read ? row.read(found.text) : found.text;
    } catch (error) {
      throw usage(`${found.from} is ${JSON.stringify(found.text)}, ${(error as Error).message}`);
    }
  }
  return config as ControllerConfig;
}

export function controllerHelp(): string {
  const lines = rows.map(
    ({ flag, value, env, help }) =>
      `  ${`${flag} ${value}`.padEnd(30)} ${env.join(', ')}\n${' '.repeat(33)}${help}`,
  );
  return [
    'Usage: podway controller [FLAG…]\n',
    'Runs the controller of a cluster in the foreground until SIGTERM. Of several one leads, by a Lease. Without it pods',
    'start all the same. Each flag has an environment variable, which counts where the flag is not given.\n',
    'Flags:',
    ...lines,
    '',
    'Examples:',
    '  podway controller --kubeconfig /etc/podway/kubeconfig --region eu-central-1',
    '  POD_NAME=a podway controller --listen :9465',
    '  podway controller clear --help',
  ].join('\n');
}
