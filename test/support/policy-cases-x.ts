// Cases of our own that are data: names that resemble each other, many ports, CIDRs that overlap, families, named ports.
import {
  type Addresses,
  type Case,
  fromA,
  IN,
  ingress,
  OUT,
  pod,
  policy,
  port,
  type Step,
  toA,
} from './policy-case.ts';
import { servedPorts } from './policy-ground.ts';

const said = (policies: Step['policies'], before?: Step['before']): Step => ({
  policies,
  allow: null,
  ...(before ? { before } : {}),
});
const role = (name: string) => ({ matchLabels: { role: name } });
const web = (number: number) => [{ name: 'web', containerPort: number, protocol: 'TCP' }];
const isFour = (text: string): boolean => text.includes('.');

/** Peers of both families; `four` and `six` are CIDRs. */
const blocks = (four: string, six: string, but: readonly string[] = []) =>
  [four, six].map((cidr) => {
    const except = but.filter((one) => isFour(one) === isFour(cidr));
    return { ipBlock: { cidr, ...(except.length > 0 ? { except } : {}) } };
  });
const many = (last: number) => Array.from({ length: 40 }, (_, at) => port(last - at));

/** As a CronJob names the pods of two runs. */
const RUNS = ['29012345-abcde', '29012346-fghij'].map((run) => ({
  ns: 'x',
  pod: `${'j'.repeat(52)}-${run}`,
}));
/** Joined by a hyphen, both are one text. */
const ALIKE = [
  { ns: 'v', pod: 'a-w' },
  { ns: 'w-v', pod: 'a' },
];

export const ownCases: readonly Case[] = [
  {
    id: 'X10',
    title: 'pods of one prefix on one node, of which a policy selects one',
    steps: [
      said(
        () => [policy('x', 'p', { podSelector: role('one'), policyTypes: IN, ingress: [] })],
        async (ground) => {
          const node = 'node-1';
          await ground.addPods(
            [
              { ns: 'x', pod: 'web-7f9-one' },
              { labels: { role: 'one' }, node },
            ],
            [
              { ns: 'x', pod: 'web-7f9-two' },
              { labels: { role: 'two' }, node },
            ],
          );
        },
      ),
      said(() => [policy('x', 'p', { podSelector: role('two'), policyTypes: OUT, egress: [] })]),
    ],
    after: (ground) => ground.removePods({ ns: 'x', pod: 'web-7f9-one' }, { ns: 'x', pod: 'web-7f9-two' }),
  },
  {
    id: 'X11',
    title: 'a pod that is made again with its name and other labels',
    steps: [
      said(
        () => [policy('x', 'p', { podSelector: role('one'), policyTypes: IN, ingress: [] })],
        (ground) => ground.addPods([{ ns: 'x', pod: 'job' }, { labels: { role: 'one' } }]),
      ),
      said(
        () => [policy('x', 'p', { podSelector: role('one'), policyTypes: IN, ingress: [] })],
        async (ground) => {
          await ground.removePod({ ns: 'x', pod: 'job' });
          await ground.addPods([{ ns: 'x', pod: 'job' }, { labels: { role: 'two' } }]);
        },
      ),
    ],
    after: (ground) => ground.removePod({ ns: 'x', pod: 'job' }),
  },
  {
    id: 'X12',
    title: 'two runs of a job with a long name',
    steps: [
      said(
        () => [
          policy('x', 'p', {
            podSelector: role('run'),
            policyTypes: ['Ingress', 'Egress'],
            ingress: [ingress([{ podSelector: role('run') }])],
            egress: [{ to: [{ podSelector: {} }] }],
          }),
        ],
        (ground) => ground.addPods(...RUNS.map((who) => [who, { labels: { role: 'run' } }] as const)),
      ),
    ],
    after: (ground) => ground.removePods(...RUNS),
  },
  {
    id: 'X13',
    title: 'names of pods and namespaces that join to one text',
    steps: [
      said(
        () => [],
        async (ground) => {
          await Promise.all(ALIKE.map(({ ns }) => ground.addNamespace(ns)));
          await ground.addPods(...ALIKE.map((who) => [who] as const));
        },
      ),
      said(() => [policy('v', 'p', { podSelector: {}, policyTypes: IN, ingress: [] })]),
    ],
    after: async (ground) => {
      await ground.policies([]);
      for (const ns of ['v', 'w-v']) await ground.removeNamespace(ns);
    },
  },
  {
    id: 'X17',
    title: 'forty ports for one peer',
    steps: [
      said(() => [toA('p', [ingress([{ podSelector: pod('b') }], many(80))])]),
      said(() => [toA('p', [ingress([{ podSelector: pod('b') }], many(90))])]),
    ],
  },
  {
    id: 'X18',
    title: 'CIDRs that overlap, each with its port',
    steps: [
      said((ground: Addresses) => [
        toA('p', [
          ingress(blocks('10.0.0.0/8', '::/0'), [port(80)]),
          ingress(blocks('10.0.0.0/16', '::/1'), [port(81)]),
          ingress(blocks('0.0.0.0/0', '::/0', ground.hostsOf('x/b')), [port(80, 'UDP')]),
        ]),
      ]),
      said((ground: Addresses) => [
        fromA('p', [
          { to: blocks('10.0.0.0/8', '::/0', ground.hostsOf('y/a')), ports: [port(80)] },
          { to: blocks('10.0.0.0/9', '::/1', ground.hostsOf('z/b')) },
        ]),
      ]),
    ],
  },
  {
    id: 'X19',
    embedded: true,
    title: 'a CIDR with host bits',
    steps: [said(() => [toA('p', [ingress(blocks('10.1.2.3/8', 'fd12::1/1'), [port(80)])])])],
  },
  {
    id: 'X24',
    title: 'a block of IPv4 alone, and a selector of pods',
    steps: [
      said(() => [toA('p', [ingress([{ ipBlock: { cidr: '0.0.0.0/0' } }])])]),
      said(() => [toA('p', [ingress([{ podSelector: pod('b') }])])]),
    ],
  },
  {
    id: 'X27',
    title: 'a named port with another number on each target',
    steps: [
      said(
        () => [
          policy('x', 'p', {
            podSelector: role('web'),
            policyTypes: IN,
            ingress: [ingress(undefined, [port('web')])],
          }),
        ],
        async (ground) => {
          const labels = { role: 'web' };
          await ground.addPods(
            [
              { ns: 'x', pod: 'web-80' },
              { labels, ports: [...servedPorts(), ...web(80)] },
            ],
            [
              { ns: 'x', pod: 'web-81' },
              { labels, ports: [...servedPorts(), ...web(81)] },
            ],
          );
        },
      ),
      said(() => [fromA('p', [{ to: [{ podSelector: {} }], ports: [port('web')] }])]),
    ],
    after: (ground) => ground.removePods({ ns: 'x', pod: 'web-80' }, { ns: 'x', pod: 'web-81' }),
  },
];
