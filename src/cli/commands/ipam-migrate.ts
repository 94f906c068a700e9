// podway ipam max-pods and ipam migrate-report: what an instance type takes, and what a node's pool would hold with the
// environment of an aws-node DaemonSet and with Podway. Both work without a lab or a cluster.
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { parseAllDocuments } from 'yaml';
import { type InstanceLimits, limitsFromTable } from '../../cloud/limits.ts';
import { type Environment, readEnvironment } from '../../ipam/config/incumbent-env.ts';
import { maxPods, podAddresses } from '../../ipam/config/max-pods.ts';
import { type MigrationReport, migrationReport } from '../../ipam/config/migrate.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { act, collect, command, wholeNumber, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { bold, type OutputOptions, print, printJson, table } from '../output.ts';

/** Pods that a report may ask for: more than any type takes with single addresses. */
const MOST_PODS = 2_000;
/** Rows when no count is asked for. */
const ROWS = 12;

function limitsOf(type: string): InstanceLimits {
  const limits = limitsFromTable(type);
  if (limits) return limits;
  throw usageError(
    `there is no instance type "${type}" in the table`,
    'for example --instance-type m5.large',
  );
}

export function maxPodsCommand(): Command {
  return withOutput(
    command('max-pods', 'pods that an instance type takes, for the kubelet and autoscalers', [
      'podway ipam max-pods --instance-type m5.large',
      'podway ipam max-pods --instance-type m5.large --prefixes --custom-networking -o json',
    ]),
  )
    .requiredOption('--instance-type <type>', 'the type')
    .option('--prefixes', 'addresses come as /28 prefixes')
    .option('--custom-networking', 'the primary ENI gives no pod address')
    .option(
      '--reserved-enis <n>',
      'ENIs that pods cannot have, such as a trunk',
      wholeNumber('--reserved-enis', 0, 100),
    )
    .action(
      act(
        async (
          options: OutputOptions & {
            instanceType: string;
            prefixes?: boolean;
            customNetworking?: boolean;
            reservedEnis?: number;
          },
        ) => {
          const limits = limitsOf(options.instanceType);
          const room = {
            prefixes: options.prefixes === true,
            customNetworking: options.customNetworking === true,
            reservedEnis: options.reservedEnis ?? 0,
          };
          if (room.prefixes && !limits.prefixes) {
            throw new LabError(
              'PREFIX_UNSUPPORTED',
              `${limits.instanceType} takes no prefixes: they need the Nitro hypervisor or bare metal`,
              'leave --prefixes out, or use another type',
            );
          }
          const answer = {
            instanceType: limits.instanceType,
            maxPods: maxPods(limits, room),
            podAddresses: podAddresses(limits, room),
            enis: limits.enis,
            ipv4PerEni: limits.ipv4PerEni,
          };
          if (options.output === 'json') printJson(answer);
          else print(String(answer.maxPods));
        },
      ),
    );
}

export function migrateReportCommand(): Command {
  return withOutput(
    command(
      'migrate-report',
      "a node's pool with the AWS VPC CNI's environment, and with Podway's defaults",
      [
        'podway ipam migrate-report --instance-type m5.large --env WARM_ENI_TARGET=1',
        'kubectl -n kube-system get daemonset aws-node -o yaml | podway ipam migrate-report --instance-type m5.4xlarge --from-daemonset -',
        'podway ipam migrate-report --instance-type m5.large --pods 0 --pods 10 --pods 29 -o json',
      ],
    ),
  )
    .requiredOption('--instance-type <type>', 'type of the node')
    .option('--from-daemonset <file>', 'aws-node as YAML or JSON; - is standard input')
    .option('--env <name=value>', 'a variable of aws-node; it wins over the file (repeatable)', collect)
    .option(
      '--pods <n>',
      `a row for this many pods that need an address (repeatable); ${ROWS} rows up to the type's pods by default`,
      collect,
    )
    .action(
      act(
        async (
          options: OutputOptions & {
            instanceType: string;
            fromDaemonset?: string;
            env?: string[];
            pods?: string[];
          },
        ) => {
          const limits = limitsOf(options.instanceType);
          const found =
            options.fromDaemonset === undefined ? null : environmentOfDaemonset(options.fromDaemonset);
          const env = { ...found?.env, ...parsePairs(options.env ?? []) };
          const counts = options.pods?.map(wholeNumber('--pods', 0, MOST_PODS)) ?? someCounts(limits, env);
          const report = migrationReport(limits, env, counts);
          report.before.warnings.unshift(...(found?.warnings ?? []));
          if (options.output === 'json') printJson(report);
          else print(reportText(report));
        },
      ),
    );
}

function parsePairs(pairs: string[]): Environment {
  const env: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1) throw usageError(`--env is "${pair}", not NAME=VALUE`, 'for example --env WARM_IP_TARGET=5');
    env[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return env;
}

function someCounts(limits: InstanceLimits, env: Environment): number[] {
  const { pool } = readEnvironment(env);
  const room = { prefixes: pool.usesPrefixes, customNetworking: pool.customNetworking !== null };
  // Two of a node's pods are on the host network.
  const most = Math.min(MOST_PODS, Math.max(maxPods(limits, room), maxPods(limits))) - 2;
  const counts = Array.from({ length: ROWS }, (_, i) => Math.round((i * most) / (ROWS - 1)));
  return [...new Set(counts)];
}

type Container = { name?: string; env?: { name?: string; value?: unknown; valueFrom?: unknown }[] };
type Manifest = {
  kind?: string;
  items?: Manifest[];
  spec?: { template?: { spec?: { containers?: Container[] } } };
};

/** The variables of the container `aws-node`, the only one or the one of that name. */
function environmentOfDaemonset(file: string): { env: Environment; warnings: string[] } {
  const name = file === '-' ? 'standard input' : file;
  const fail = (why: string) =>
    new LabError('BAD_DAEMONSET', `${name} ${why}`, 'kubectl -n kube-system get daemonset aws-node -o yaml', {
      exit: 2,
    });
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw fail(`cannot be read: ${(error as Error).message}`);
  }
  const documents = parseAllDocuments(text);
  const broken = 'empty' in documents ? undefined : documents.find((one) => one.errors.length > 0);
  if (broken) throw fail(`is no YAML: ${broken.errors[0]!.message.split('\n')[0]}`);
  const manifests = documents
    .map((one) => one.toJS() as Manifest | null)
    .flatMap((one) => (Array.isArray(one?.items) ? one.items : [one]));
  const daemonset = manifests.find((one) => one?.kind === 'DaemonSet');
  if (!daemonset) throw fail('holds no DaemonSet');
  const containers = daemonset.spec?.template?.spec?.containers;
  const list = Array.isArray(containers) ? containers : [];
  const container = list.find((one) => one.name === 'aws-node') ?? (list.length === 1 ? list[0] : undefined);
  if (!container) throw fail('holds a DaemonSet without a container aws-node');
  const env: Record<string, string> = {};
  const warnings: string[] = [];
  for (const one of container.env ?? []) {
    if (typeof one.name !== 'string') continue;
    if (one.valueFrom === undefined) env[one.name] = String(one.value ?? '');
    else if (!one.name.startsWith('MY_'))
      warnings.push(`${one.name} has no value in the file and is left out`);
  }
  return { env, warnings };
}

function reportText({ instanceType, before, after, rows }: MigrationReport): string {
  const { warmEnis, warmPrefixes, warmIps, minimumIps } = before.targets;
  const targets =
    warmIps + minimumIps > 0
      ? `WARM_IP_TARGET ${warmIps}, MINIMUM_IP_TARGET ${minimumIps}`
      : before.addressing === 'prefix'
        ? `WARM_PREFIX_TARGET ${warmPrefixes}`
        : `WARM_ENI_TARGET ${warmEnis}`;
  const custom = before.customNetworking ? ', custom networking' : '';
  return [
    `${bold(instanceType)} at rest, before: AWS VPC CNI, ${before.addressing} addresses, ${targets}${custom}, ${before.maxPods} pods; after: Podway's defaults, ${after.addressing} addresses, ${after.free} free, ${after.maxPods} pods`,
    ...before.warnings.map((one) => `  before: ${one}`),
    table(
      [
        'PODS',
        ...['ENIS', 'ADDRESSES', 'IDLE', 'WITHOUT ADDRESS'].flatMap((title) => [`${title} BEFORE`, 'AFTER']),
      ],
      rows.map((row) => [
        String(row.pods),
        ...(['enis', 'addresses', 'idle', 'waiting'] as const).flatMap((key) => [
          String(row.before[key]),
          String(row.after[key]),
        ]),
      ]),
    ),
  ].join('\n');
}
