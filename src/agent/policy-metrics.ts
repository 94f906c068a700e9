// Metrics of network policy as text, from one table that docs/metrics.md is made of too. The counts are the kernel's, read
// when somebody asks: counting costs no event. They begin anew when the table is made anew, as counters of a process that
// starts do. Loaded where there are policies.
import { type Tracked, trackedConnections } from '../kernel/tracked.ts';
import type { PolicyKeeper } from './policy-keeper.ts';

const VERDICTS: Readonly<Record<string, string>> = { allow: 'allowed', deny: 'denied', audit: 'audited' };

type Numbers = {
  counters: ReadonlyMap<string, number>;
  flows: { told: number; overrun: number };
  status: { generation: number; policies: number; classes: number; identities: number };
  isolated: number;
  silentMs: number;
  tracked: Tracked | null;
};
type PolicyMetric = {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly labels: readonly string[];
  readonly help: string;
  /** Labels' values, and the value. */
  readonly read: (numbers: Numbers) => readonly (readonly [values: readonly string[], value: number])[];
};

const single = (value: (numbers: Numbers) => number): PolicyMetric['read'] => {
  return (numbers) => [[[], value(numbers)]];
};
const ofTracked =
  (value: (tracked: Tracked) => number): PolicyMetric['read'] =>
  ({ tracked }) =>
    tracked ? [[[], value(tracked)]] : [];
const counted = (name: string) => single(({ counters }) => counters.get(name) ?? 0);

export const policyMetrics: readonly PolicyMetric[] = [
  {
    name: 'podway_policy_judged_packets_total',
    type: 'counter',
    labels: ['verdict', 'direction', 'tier'],
    help: 'Packets that begin a connection, by what policies decided; tier none is allowed because no tier decided.',
    read: ({ counters }) =>
      [...counters].flatMap(([name, packets]) => {
        const [word = '', direction = '', tier = ''] = name.split('_');
        const verdict = VERDICTS[word];
        return verdict ? [[[verdict, direction, tier], packets] as const] : [];
      }),
  },
  {
    name: 'podway_policy_cut_packets_total',
    type: 'counter',
    labels: [],
    help: 'Packets of connections that policies cut.',
    read: counted('cut_packets'),
  },
  {
    name: 'podway_policy_flows_total',
    type: 'counter',
    labels: [],
    help: 'Connections that the flow log told.',
    read: single(({ flows }) => flows.told),
  },
  {
    name: 'podway_policy_flows_repeated_total',
    type: 'counter',
    labels: [],
    help: 'Packets of connections that the flow log had told lately.',
    read: counted('flows_repeated'),
  },
  {
    name: 'podway_policy_flows_lost_total',
    type: 'counter',
    labels: [],
    help: 'Connections that came too fast for the flow log, and times that its reader was too slow.',
    read: single(({ counters, flows }) => (counters.get('flows_lost') ?? 0) + flows.overrun),
  },
  {
    name: 'podway_policy_generation',
    type: 'gauge',
    labels: [],
    help: "Of the policies in force: one more with each change of the node's table.",
    read: single(({ status }) => status.generation),
  },
  {
    name: 'podway_policy_objects',
    type: 'gauge',
    labels: ['kind'],
    help: 'Policies, classes of pods and identities of peers that are in force.',
    read: ({ status: { policies, classes, identities } }) => [
      [['policies'], policies],
      [['classes'], classes],
      [['identities'], identities],
    ],
  },
  {
    name: 'podway_policy_isolated_pods',
    type: 'gauge',
    labels: [],
    help: 'Pods that wait for their policies and reach their node alone.',
    read: single(({ isolated }) => isolated),
  },
  {
    name: 'podway_policy_silence_seconds',
    type: 'gauge',
    labels: [],
    help: 'Since the Kubernetes API told something of pods; longer than the cooldown, addresses that are given again may keep rights here.',
    read: single(({ silentMs }) => silentMs / 1000),
  },
  {
    name: 'podway_policy_tracked_connections',
    type: 'gauge',
    labels: [],
    help: "Connections in the node's table of them.",
    read: ofTracked(({ count }) => count),
  },
  {
    name: 'podway_policy_tracked_connections_limit',
    type: 'gauge',
    labels: [],
    help: 'Of that table: when it is full, the kernel drops what begins a connection.',
    read: ofTracked(({ limit }) => limit),
  },
  {
    name: 'podway_policy_tracked_connections_dropped_total',
    type: 'counter',
    labels: [],
    help: 'Packets that the kernel dropped because that table was full.',
    read: ofTracked(({ dropped }) => dropped),
  },
];

export async function policyMetricsText(keeper: PolicyKeeper, isolated: number): Promise<string> {
  const flows = (await keeper.flows)?.counts ?? { told: 0, overrun: 0 };
  const numbers = {
    counters: keeper.counters(),
    flows,
    status: keeper.engine.status,
    isolated,
    tracked: trackedConnections(),
    ...keeper.freshness,
  };
  return policyMetrics
    .flatMap(({ name, type, labels, help, read }) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...read(numbers).map(([values, value]) => {
        const pairs = values.map((one, at) => `${labels[at]}="${one}"`);
        return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
      }),
      '',
    ])
    .join('\n')
    .replaceAll('\n\n', '\n');
}
