// The cases E01 to E22 of Kubernetes' own NetworkPolicy tests.
import {
  BOTH,
  both,
  type Case,
  denyIn,
  egress,
  IN,
  ingress,
  intoX,
  is,
  ns,
  nsNot,
  OUT,
  one,
  open,
  pod,
  policy,
  port,
  toA,
  toAFrom,
} from './policy-case.ts';

export const connectionCases: readonly Case[] = [
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
    toAFrom((from) => from.ns !== 'x' && from.pod === 'b'),
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
];
