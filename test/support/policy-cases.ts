// The cases E01 to E51 of Kubernetes' own NetworkPolicy tests, as data: what is applied in each step, and which of the 72
// pairs then reach each other. A pod to itself is not asked.
import type {
  V1LabelSelector,
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
  V1NetworkPolicySpec,
} from '@kubernetes/client-node';
import type { Allow, PolicyGround, Protocol, Who } from './policy-ground.ts';

export type Step = {
  /** Everything that is in force in this step. */
  policies: (ground: PolicyGround) => V1NetworkPolicy[];
  /** Labels that are changed before. */
  before?: (ground: PolicyGround) => Promise<void>;
  protocol?: Protocol;
  ports?: readonly number[];
  allow: Allow;
  /** A second look, as for the other protocol. */
  also?: { protocol: Protocol; ports: readonly number[]; allow: Allow };
};
export type Case = {
  id: string;
  title: string;
  steps: readonly Step[];
  after?: (ground: PolicyGround) => Promise<void>;
};

const policy = (namespace: string, name: string, spec: V1NetworkPolicySpec): V1NetworkPolicy => ({
  metadata: { namespace, name },
  spec,
});
const pod = (...names: string[]): V1LabelSelector =>
  names.length === 1
    ? { matchLabels: { pod: names[0]! } }
    : { matchExpressions: [{ key: 'pod', operator: 'In', values: names }] };
const ns = (name: string): V1LabelSelector => ({ matchLabels: { ns: name } });
const nsNot = (name: string): V1LabelSelector => ({
  matchExpressions: [{ key: 'ns', operator: 'NotIn', values: [name] }],
});
const ingress = (from?: V1NetworkPolicyPeer[], ports?: V1NetworkPolicyPort[]) => ({
  ...(from ? { _from: from } : {}),
  ...(ports ? { ports } : {}),
});
const egress = (to?: V1NetworkPolicyPeer[], ports?: V1NetworkPolicyPort[]) => ({
  ...(to ? { to } : {}),
  ...(ports ? { ports } : {}),
});
const port = (
  number: number | string,
  protocol: Protocol = 'TCP',
  endPort?: number,
): V1NetworkPolicyPort => ({ port: number, protocol, ...(endPort ? { endPort } : {}) });
const IN = ['Ingress'];
const OUT = ['Egress'];
const BOTH = ['Ingress', 'Egress'];

/** Ingress of x/a. */
const toA = (name: string, rules: ReturnType<typeof ingress>[]) =>
  policy('x', name, { podSelector: pod('a'), policyTypes: IN, ingress: rules });
const fromA = (name: string, rules: ReturnType<typeof egress>[]) =>
  policy('x', name, { podSelector: pod('a'), policyTypes: OUT, egress: rules });
const denyIn = (name = 'deny') => policy('x', name, { podSelector: {}, policyTypes: IN, ingress: [] });

const is = (who: Who, key: string) => `${who.ns}/${who.pod}` === key;
const any = (who: Who, ...keys: string[]) => keys.some((key) => is(who, key));
/** x/a is reached by these alone; all else is open. */
const toAFrom =
  (may: (from: Who, port: number) => boolean): Allow =>
  (from, to, port) =>
    !is(to, 'x/a') || may(from, port);
const fromATo =
  (may: (to: Who, port: number) => boolean): Allow =>
  (from, to, port) =>
    !is(from, 'x/a') || may(to, port);
const open: Allow = () => true;
const intoX: Allow = (_, to) => to.ns !== 'x';
const both = [80, 81] as const;

const one = (
  id: string,
  title: string,
  policies: Step['policies'],
  allow: Allow,
  more: Partial<Step> = {},
): Case => ({
  id,
  title,
  steps: [{ policies, allow, ...more }],
});

function repeated(protocol: Protocol, ids: [string, string, string]): Case[] {
  return [
    one(ids[0], `deny all ingress, ${protocol}`, () => [denyIn()], intoX, { protocol }),
    one(
      ids[1],
      `a port from a namespace, ${protocol}`,
      () => [toA('p', [ingress([{ namespaceSelector: ns('y') }], [port(81, protocol)])])],
      toAFrom((from, at) => from.ns === 'y' && at === 81),
      { protocol, ports: both },
    ),
    one(
      ids[2],
      `a pod of a namespace, ${protocol}`,
      () => [toA('p', [ingress([{ namespaceSelector: ns('y'), podSelector: pod('a') }])])],
      toAFrom((from) => is(from, 'y/a')),
      { protocol },
    ),
  ];
}

export const cases: readonly Case[] = [
  one('E01', 'deny all ingress of a namespace', () => [denyIn()], intoX),
  one(
    'E02',
    'deny all of a namespace',
    () => [policy('x', 'deny', { podSelector: {}, policyTypes: BOTH, ingress: [], egress: [] })],
    (from, to) => from.ns !== 'x' && to.ns !== 'x',
  ),
  one(
    'E03',
    'from a pod of the namespace',
    () => [toA('p', [ingress([{ podSelector: pod('b') }])])],
    toAFrom((from) => is(from, 'x/b')),
  ),
  one(
    'E04',
    'deny all and allow any to one pod',
    () => [denyIn(), toA('allow', [ingress([{ podSelector: {}, namespaceSelector: {} }])])],
    (_, to) => to.ns !== 'x' || is(to, 'x/a'),
  ),
  one('E05', 'from all namespaces', () => [toA('p', [ingress([{ namespaceSelector: {} }])])], open),
  one(
    'E06',
    'from a namespace',
    () => [toA('p', [ingress([{ namespaceSelector: ns('y') }])])],
    toAFrom((from) => from.ns === 'y'),
  ),
  one(
    'E07',
    'from pods by expression',
    () => [
      toA('p', [
        ingress([{ podSelector: { matchExpressions: [{ key: 'pod', operator: 'In', values: ['b'] }] } }]),
      ]),
    ],
    toAFrom((from) => is(from, 'x/b')),
  ),
  one(
    'E08',
    'from namespaces by expression',
    () => [
      toA('p', [
        ingress([
          { namespaceSelector: { matchExpressions: [{ key: 'ns', operator: 'In', values: ['y'] }] } },
        ]),
      ]),
    ],
    toAFrom((from) => from.ns === 'y'),
  ),
  one(
    'E09',
    'either of two peers',
    () => [toA('p', [ingress([{ namespaceSelector: nsNot('x') }, { podSelector: pod('b') }])])],
    toAFrom((from) => from.ns !== 'x' || from.pod === 'b'),
  ),
  one(
    'E10',
    'both selectors of one peer',
    () => [toA('p', [ingress([{ namespaceSelector: nsNot('x'), podSelector: pod('b') }])])],
    toAFrom((from) => any(from, 'y/b', 'z/b')),
  ),
  one(
    'E11',
    'both selectors, more pods',
    () => [toA('p', [ingress([{ namespaceSelector: nsNot('x'), podSelector: pod('b', 'c') }])])],
    toAFrom((from) => from.ns !== 'x' && from.pod !== 'a'),
  ),
  one(
    'E12',
    'two pod selectors',
    () => [toA('p', [ingress([{ podSelector: pod('b') }, { podSelector: pod('c') }])])],
    toAFrom((from) => from.ns === 'x'),
  ),
  one(
    'E13',
    'a pod of a namespace',
    () => [toA('p', [ingress([{ namespaceSelector: ns('y'), podSelector: pod('a') }])])],
    toAFrom((from) => is(from, 'y/a')),
  ),
  one(
    'E14',
    'a port from a namespace',
    () => [toA('p', [ingress([{ namespaceSelector: ns('y') }], [port(81)])])],
    toAFrom((from, at) => from.ns === 'y' && at === 81),
    { ports: both },
  ),
  {
    id: 'E15',
    title: 'a second policy adds a port',
    steps: [
      {
        policies: () => [toA('p', [ingress([{ namespaceSelector: ns('y') }], [port(81)])])],
        allow: toAFrom((from, at) => from.ns === 'y' && at === 81),
        ports: both,
      },
      {
        policies: () => [
          toA('p', [ingress([{ namespaceSelector: ns('y') }], [port(81)])]),
          toA('q', [ingress([{ namespaceSelector: ns('y') }], [port(80)])]),
        ],
        allow: toAFrom((from) => from.ns === 'y'),
        ports: both,
      },
    ],
  },
  one(
    'E16',
    'an empty rule allows all',
    () => [policy('x', 'p', { podSelector: {}, policyTypes: IN, ingress: [{}] })],
    open,
    { ports: both },
  ),
  one(
    'E17',
    'a named port for all',
    () => [
      policy('x', 'p', {
        podSelector: {},
        policyTypes: IN,
        ingress: [ingress(undefined, [port('serve-81-tcp')])],
      }),
    ],
    (_, to, at) => to.ns !== 'x' || at === 81,
    { ports: both },
  ),
  one(
    'E18',
    'a named port from a namespace',
    () => [toA('p', [ingress([{ namespaceSelector: ns('y') }], [port('serve-80-tcp')])])],
    toAFrom((from, at) => from.ns === 'y' && at === 80),
    { ports: both },
  ),
  one(
    'E19',
    'egress to a named port',
    () => [
      policy('x', 'p', {
        podSelector: {},
        policyTypes: OUT,
        egress: [egress(undefined, [port('serve-80-tcp')])],
      }),
    ],
    (from, _, at) => from.ns !== 'x' || at === 80,
    { ports: both },
  ),
  {
    id: 'E20',
    title: 'a policy is updated in place',
    steps: [
      {
        policies: () => [policy('x', 'p', { podSelector: {}, policyTypes: IN, ingress: [{}] })],
        allow: open,
        ports: [81],
      },
      {
        policies: () => [policy('x', 'p', { podSelector: {}, policyTypes: IN, ingress: [] })],
        allow: intoX,
        ports: [81],
      },
    ],
  },
  {
    id: 'E21',
    title: 'a namespace gets the label',
    steps: [
      {
        policies: () => [toA('p', [ingress([{ namespaceSelector: { matchLabels: { ns2: 'updated' } } }])])],
        allow: toAFrom(() => false),
      },
      {
        policies: () => [toA('p', [ingress([{ namespaceSelector: { matchLabels: { ns2: 'updated' } } }])])],
        before: (ground) => ground.labelNamespace('y', { ns2: 'updated' }),
        allow: toAFrom((from) => from.ns === 'y'),
      },
    ],
    after: (ground) => ground.labelNamespace('y', { ns2: null }),
  },
  {
    id: 'E22',
    title: 'a pod gets the label',
    steps: [
      {
        policies: () => [
          toA('p', [ingress([{ podSelector: { matchLabels: { pod: 'b', pod2: 'updated' } } }])]),
        ],
        allow: toAFrom(() => false),
      },
      {
        policies: () => [
          toA('p', [ingress([{ podSelector: { matchLabels: { pod: 'b', pod2: 'updated' } } }])]),
        ],
        before: (ground) => ground.labelPod({ ns: 'x', pod: 'b' }, { pod2: 'updated' }),
        allow: toAFrom((from) => is(from, 'x/b')),
      },
    ],
    after: (ground) => ground.labelPod({ ns: 'x', pod: 'b' }, { pod2: null }),
  },
  one(
    'E23',
    'the namespace alone',
    () => [policy('x', 'p', { podSelector: {}, policyTypes: IN, ingress: [ingress([{ podSelector: {} }])] })],
    (from, to) => to.ns !== 'x' || from.ns === 'x',
  ),
  {
    id: 'E24',
    title: 'a pod becomes the subject by a label',
    steps: [
      {
        policies: () => [
          policy('x', 'p', {
            podSelector: { matchLabels: { target: 'isolated' } },
            policyTypes: IN,
            ingress: [],
          }),
        ],
        allow: open,
      },
      {
        policies: () => [
          policy('x', 'p', {
            podSelector: { matchLabels: { target: 'isolated' } },
            policyTypes: IN,
            ingress: [],
          }),
        ],
        before: (ground) => ground.labelPod({ ns: 'x', pod: 'a' }, { target: 'isolated' }),
        allow: toAFrom(() => false),
      },
    ],
    after: (ground) => ground.labelPod({ ns: 'x', pod: 'a' }, { target: null }),
  },
  one(
    'E25',
    'deny egress of one pod',
    () => [fromA('p', [])],
    fromATo(() => false),
  ),
  one(
    'E26',
    'deny egress of a namespace',
    () => [policy('x', 'p', { podSelector: {}, policyTypes: OUT, egress: [] })],
    (from) => from.ns !== 'x',
  ),
  one(
    'E27',
    'ingress from a pod and egress to a port',
    () => [
      policy('x', 'p', {
        podSelector: pod('a'),
        policyTypes: BOTH,
        ingress: [ingress([{ podSelector: pod('b') }])],
        egress: [egress(undefined, [port(80)])],
      }),
    ],
    (from, to, at) => (is(to, 'x/a') ? is(from, 'x/b') : !is(from, 'x/a') || at === 80),
    { ports: both },
  ),
  one(
    'E28',
    'egress within what ingress allows',
    () => [
      fromA('p', [egress([{ namespaceSelector: ns('y'), podSelector: pod('a') }])]),
      policy('y', 'q', {
        podSelector: pod('a', 'b'),
        policyTypes: IN,
        ingress: [ingress([{ namespaceSelector: ns('x'), podSelector: pod('a') }])],
      }),
    ],
    (from, to) => (is(from, 'x/a') ? is(to, 'y/a') : !any(to, 'y/a', 'y/b')),
  ),
  one(
    'E29',
    'egress to a pod of a namespace',
    () => [fromA('p', [egress([{ namespaceSelector: ns('y'), podSelector: pod('a') }])])],
    fromATo((to) => is(to, 'y/a')),
  ),
  one('E30', 'a protocol without a port', () => [toA('p', [{ ports: [{ protocol: 'TCP' }] }])], open, {
    ports: both,
    also: { protocol: 'UDP', ports: [80], allow: toAFrom(() => false) },
  }),
  {
    id: 'E31',
    title: 'allow-all ingress beside a port',
    steps: [
      {
        policies: () => [toA('p', [ingress(undefined, [port(80)])])],
        allow: toAFrom((_, at) => at === 80),
        ports: both,
      },
      {
        policies: () => [toA('p', [ingress(undefined, [port(80)])]), toA('q', [{}])],
        allow: open,
        ports: both,
      },
    ],
  },
  {
    id: 'E32',
    title: 'allow-all egress beside a port',
    steps: [
      {
        policies: () => [fromA('p', [egress(undefined, [port(80)])])],
        allow: fromATo((_, at) => at === 80),
        ports: both,
      },
      {
        policies: () => [fromA('p', [egress(undefined, [port(80)])]), fromA('q', [{}])],
        allow: open,
        ports: both,
      },
    ],
  },
  {
    id: 'E33',
    title: 'a policy is deleted',
    steps: [
      {
        policies: () => [
          policy('x', 'deny', { podSelector: {}, policyTypes: BOTH, ingress: [], egress: [] }),
        ],
        allow: (from, to) => from.ns !== 'x' && to.ns !== 'x',
      },
      { policies: () => [], allow: open },
    ],
  },
  one(
    'E34',
    'egress to an address',
    (ground) => [fromA('p', [egress([{ ipBlock: { cidr: `${ground.ipOf('y/b')}/32` } }])])],
    fromATo((to) => is(to, 'y/b')),
  ),
  one(
    'E35',
    'egress to a block with an exception',
    (ground) => [
      fromA('p', [egress([{ ipBlock: { cidr: '10.0.0.0/8', except: [`${ground.ipOf('x/b')}/32`] } }])]),
    ],
    fromATo((to) => !is(to, 'x/b')),
  ),
  {
    id: 'E36',
    title: 'the exception becomes the rule',
    steps: [
      {
        policies: (ground) => [
          fromA('p', [egress([{ ipBlock: { cidr: '10.0.0.0/8', except: [`${ground.ipOf('x/b')}/32`] } }])]),
        ],
        allow: fromATo((to) => !is(to, 'x/b')),
      },
      {
        policies: (ground) => [fromA('p', [egress([{ ipBlock: { cidr: `${ground.ipOf('x/b')}/32` } }])])],
        allow: fromATo((to) => is(to, 'x/b')),
      },
    ],
  },
  one(
    'E37',
    'allow egress and deny ingress of one pod',
    () => [fromA('p', [{}]), toA('q', [])],
    toAFrom(() => false),
  ),
  one(
    'E38',
    'deny ingress, allow SCTP 81',
    () => [
      denyIn(),
      policy('x', 'q', {
        podSelector: {},
        policyTypes: IN,
        ingress: [ingress(undefined, [port(81, 'SCTP')])],
      }),
    ],
    intoX,
    { ports: [81] },
  ),
  one(
    'E39',
    'an SCTP rule isolates for TCP',
    () => [toA('p', [ingress(undefined, [port(80, 'SCTP')])])],
    toAFrom(() => false),
    { ports: [81] },
  ),
  one(
    'E40',
    'a UDP rule isolates for TCP',
    () => [toA('p', [ingress(undefined, [port(81, 'UDP')])])],
    toAFrom(() => false),
    { ports: [81] },
  ),
  one(
    'E41',
    'a namespace by its name',
    () => [
      toA('p', [ingress([{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'y' } } }])]),
    ],
    toAFrom((from) => from.ns === 'y'),
  ),
  one(
    'E42',
    'egress to all but a namespace by its name',
    () => [
      fromA('p', [
        egress([
          {
            namespaceSelector: {
              matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['y'] }],
            },
          },
        ]),
      ]),
    ],
    fromATo((to) => to.ns !== 'y'),
  ),
  ...repeated('UDP', ['E43', 'E44', 'E45']),
  ...repeated('SCTP', ['E46', 'E47', 'E48']),
  one(
    'E51',
    'a range of ports',
    () => [fromA('p', [egress(undefined, [port(79, 'TCP', 80)])])],
    fromATo((_, at) => at === 80),
    { ports: both },
  ),
];
