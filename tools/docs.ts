// Writes the pages of docs/ that are made from tables in the code. `npm run docs`; tools/docs.test.ts compares them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ec2Calls } from '../src/agent/ec2-calls.ts';
import { incumbentMetrics } from '../src/agent/incumbent-metrics.ts';
import { createMetrics } from '../src/agent/metrics.ts';
import { policyMetrics } from '../src/agent/policy-metrics.ts';
import { type CauseRow, causes } from '../src/base/causes.ts';
import { labCauses } from '../src/lab/daemon/causes.ts';

const docs = join(import.meta.dirname, '../docs');
export const causesPage = join(docs, 'causes.md');
export const metricsPage = join(docs, 'metrics.md');

const kind = ({ transient }: { transient: boolean }): string =>
  transient ? 'passes by itself' : 'lasts until somebody acts';

function ownCause([name, row]: [string, CauseRow]): string {
  return [
    `### ${name}`,
    '',
    `CNI error ${row.cni}; ${kind(row)}${row.reserved ? '; reserved: no part of this version raises it' : ''}.`,
    '',
    row.meaning,
    '',
    `- Podway: ${row.does}`,
    `- You: ${row.next}`,
  ].join('\n');
}

const labCause = ([name, row]: [string, (typeof labCauses)[string]]): string =>
  [`### ${name}`, '', `${row.meaning} It ${kind(row)}.`, '', `- You: ${row.next}`].join('\n');

export function causesText(): string {
  const byNumber = (Object.entries(causes) as [string, CauseRow][]).sort((a, b) => a[1].cni - b[1].cni);
  return `${[
    '# Causes',
    '<!-- Made from src/base/causes.ts and src/lab/daemon/causes.ts by `npm run docs`. -->',
    [
      'What cannot be had is refused with a cause: a name, a sentence with the numbers, and the next step. The name is the same in',
      'the CNI error (`msg` begins with it; `details` is JSON), in the reason of the pod’s Event (`SubnetExhausted` is',
      '`SUBNET_EXHAUSTED`), in the label of `podway_cni_requests_total{result}` and `podway_pool_trouble{cause}`, in the field `cause`',
      'of the agent’s log, and in `podway explain NAME`.',
    ].join('\n'),
    [
      '`details` has `cause`; `object`, the id of what the cause is about; `has` and `limit`, where they can be counted; `since` and',
      '`nextAt`, milliseconds since 1970: when the cause began, and when Podway tries again by itself; `does`, what it does then;',
      '`next`, what you can do; and `doc`. Fields without a value are left out.',
    ].join('\n'),
    '`podway ipam explain POD` says which cause holds a pod now, and where in the line it stands.',
    '## Of the network',
    ...byNumber.map(ownCause),
    '## Of the lab and the command line',
    ...Object.entries(labCauses)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(labCause),
  ].join('\n\n')}\n`;
}

type MetricRow = { name: string; type: string; labels: string[]; help: string };

const metricTable = (rows: readonly MetricRow[]): string =>
  [
    '| Name | Type | Labels | Meaning |',
    '| --- | --- | --- | --- |',
    ...rows.map(
      ({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${labels.join(', ')} | ${help} |`,
    ),
  ].join('\n');

/** Labels that the format itself adds. */
const OF_THE_FORMAT = new Set(['le', 'quantile']);

/** A metrics text's families, with the labels of their samples. */
function familiesOf(text: string): MetricRow[] {
  return [...text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)\n((?:[^#\n].*\n)*)/gm)].map(
    ([, name = '', help = '', type = '', samples = '']) => {
      const labels = new Set([...samples.matchAll(/[{,](\w+)="/g)].map((match) => match[1]!));
      return { name, help, type, labels: [...labels].filter((label) => !OF_THE_FORMAT.has(label)) };
    },
  );
}

/** A node with one of everything, so that each name has its labels. */
function exampleText(): string {
  const ec2 = new Ec2Calls();
  ec2.note({ action: 'CreateNetworkInterface', result: 'RequestLimitExceeded', ms: 1 });
  const none = { held: 0, free: 0, cooling: 0 };
  return incumbentMetrics({
    version: '',
    pool: {
      limits: { enis: 1, ipv4PerEni: 1, addresses: 1, pods: 1 },
      totals: { ...none, quarantined: 0, foreign: 0 },
      foreignEnis: [],
      enis: [{ id: '', addresses: [], prefixes: [{ cidr: '', ...none }] }],
    },
    inProgress: { growing: 0, returning: 0 },
    ec2,
    requests: [],
    startSeconds: 1,
  });
}

export function metricsText(): string {
  const own = createMetrics().registry.getMetricsAsArray() as unknown as (MetricRow & {
    labelNames?: string[];
  })[];
  return `${[
    '# Metrics',
    '<!-- Made from src/agent/metrics.ts, policy-metrics.ts and incumbent-metrics.ts by `npm run docs`. -->',
    [
      'The agent serves them as `/metrics` on its socket, and on TCP where `--listen` says, for Prometheus. Labels are',
      'bounded: actions, verbs, causes, ENIs and prefixes of the node, and EC2’s error codes (twenty of each action, then `Other`).',
    ].join('\n'),
    '## Our own',
    metricTable(own.map((one) => ({ ...one, labels: one.labelNames ?? [] }))),
    '## Of network policy',
    'On nodes that have seen a policy ([policy.md](policy.md)); the counts are those of the kernel’s table, and begin anew with it.',
    metricTable(policyMetrics.map((one) => ({ ...one, labels: [...one.labels] }))),
    '## By the names of the AWS VPC CNI',
    [
      'The same values by the names that its dashboards and `cni-metrics-helper` read. Left out is what has no meaning here: counts of',
      'its reconcile steps, of its helper failures and of its connection marks, and of pod ENIs.',
    ].join('\n'),
    metricTable(familiesOf(exampleText())),
  ].join('\n\n')}\n`;
}

if (import.meta.main) {
  writeFileSync(causesPage, causesText());
  writeFileSync(metricsPage, metricsText());
}
