// The cases E23 to E51 of Kubernetes' own NetworkPolicy tests; E49 and E50 are the API's own, and stand in policy.test.ts.

import {
  allBut,
  any,
  BOTH,
  both,
  type Case,
  denyIn,
  egress,
  fromA,
  fromATo,
  hosts,
  IN,
  ingress,
  intoX,
  is,
  ns,
  OUT,
  one,
  open,
  pod,
  policy,
  port,
  toA,
  toAFrom,
} from './policy-case.ts';
import type { Protocol } from './policy-ground.ts';

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

export const changeCases: readonly Case[] = [
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
    (ground) => [fromA('p', [egress(hosts(ground, 'y/b'))])],
    fromATo((to) => is(to, 'y/b')),
  ),
  one(
    'E35',
    'egress to a block with an exception',
    (ground) => [fromA('p', [egress(allBut(ground, 'x/b'))])],
    fromATo((to) => !is(to, 'x/b')),
  ),
  {
    id: 'E36',
    title: 'the exception becomes the rule',
    steps: [
      {
        policies: (ground) => [fromA('p', [egress(allBut(ground, 'x/b'))])],
        allow: fromATo((to) => !is(to, 'x/b')),
      },
      {
        policies: (ground) => [fromA('p', [egress(hosts(ground, 'x/b'))])],
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
