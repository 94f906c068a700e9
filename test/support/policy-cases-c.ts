// The families C01 to C30 of generated cases, for ingress and egress of x/a: targets, rules, ports, peers, conflicts and
// actions. Which pairs reach each other is what the objects say (policy-oracle.ts), in every protocol.
import type { V1LabelSelector, V1NetworkPolicyPeer, V1NetworkPolicyPort } from '@kubernetes/client-node';
import {
  type Addresses,
  allBut,
  type Case,
  egress,
  hosts,
  IN,
  ingress,
  ns,
  nsNot,
  OUT,
  pod,
  policy,
  port,
  type Step,
} from './policy-case.ts';
import type { PolicyGround } from './policy-ground.ts';
import { PROTOCOLS } from './policy-probes.ts';

type Side = 'ingress' | 'egress';
const SIDES = ['ingress', 'egress'] as const;
const UNREACHABLE: V1NetworkPolicyPeer[] = [
  { ipBlock: { cidr: '192.0.2.0/24' } },
  { ipBlock: { cidr: '2001:db8:dead::/48' } },
];

type Rule = { peers?: V1NetworkPolicyPeer[]; ports?: V1NetworkPolicyPort[] };
/** A policy of one direction; undefined rules: the field is absent. */
function sided(
  side: Side,
  rules: Rule[] | undefined,
  target: V1LabelSelector = pod('a'),
  namespace = 'x',
  name = 'p',
) {
  const made = rules?.map(({ peers, ports }) =>
    side === 'ingress' ? ingress(peers, ports) : egress(peers, ports),
  );
  return policy(namespace, name, {
    podSelector: target,
    policyTypes: side === 'ingress' ? IN : OUT,
    ...(made ? { [side]: made } : {}),
  });
}
const step = (policies: Step['policies'], before?: (ground: PolicyGround) => Promise<void>): Step => ({
  policies,
  allow: null,
  ...(before ? { before } : {}),
});
const single = (id: string, title: string, policies: Step['policies']): Case => ({
  id,
  title,
  steps: [step(policies)],
});
const eachSide = (id: string, title: string, policies: (side: Side) => Step['policies']): Case[] =>
  SIDES.map((side) => single(id, `${title}, ${side}`, policies(side)));
/** One rule with these ports or peers, in both directions. */
const withPorts = (id: string, title: string, ports: V1NetworkPolicyPort[]): Case[] =>
  eachSide(id, title, (side) => () => [sided(side, [{ ports }])]);
const pairsOf = <T>(all: readonly T[]): [T, T][] =>
  all.flatMap((one, at) => all.slice(at + 1).map((other): [T, T] => [one, other]));

const targets: Case[] = [
  ...['x', 'y', 'z'].flatMap((its) =>
    eachSide('C01', `a policy of ${its}`, (side) => () => [sided(side, [], {}, its)]),
  ),
  ...Object.entries({ 'all pods': {}, 'one pod': pod('a'), 'two pods': pod('a', 'b') }).flatMap(
    ([title, target]) => eachSide('C02', title, (side) => () => [sided(side, [], target)]),
  ),
  ...eachSide('C03', 'no rules', (side) => () => [sided(side, [])]),
  ...eachSide('C03', 'absent rules', (side) => () => [sided(side, undefined)]),
  ...eachSide('C04', 'an empty rule', (side) => () => [sided(side, [{}])]),
  ...eachSide('C05', 'empty ports', (side) => () => [
    sided(side, [{ ports: [], peers: [{ podSelector: pod('b') }] }]),
  ]),
  ...eachSide('C06', 'empty peers', (side) => () => [sided(side, [{ peers: [], ports: [port(80)] }])]),
];

const numbers = [undefined, 80, 81];
const protocols = [undefined, ...PROTOCOLS];
const small: V1NetworkPolicyPort[] = [port(80), port(81), port(80, 'UDP'), port('serve-81-sctp', 'SCTP')];
const portCases: Case[] = [
  ...numbers.flatMap((number) =>
    protocols.flatMap((protocol) =>
      withPorts('C07', `port ${number ?? 'none'}, protocol ${protocol ?? 'none'}`, [
        { ...(number === undefined ? {} : { port: number }), ...(protocol ? { protocol } : {}) },
      ]),
    ),
  ),
  ...[80, 81].flatMap((number) =>
    PROTOCOLS.flatMap((protocol) => {
      const name = `serve-${number}-${protocol.toLowerCase()}`;
      return withPorts('C08', name, [port(name, protocol)]);
    }),
  ),
  ...[80, 84].flatMap((end) =>
    PROTOCOLS.flatMap((protocol) =>
      withPorts('C09', `53 to ${end} of ${protocol}`, [port(53, protocol, end)]),
    ),
  ),
  ...pairsOf(small).flatMap((pair) =>
    withPorts('C10', pair.map(({ port: of, protocol }) => `${of}/${protocol}`).join(' and '), pair),
  ),
  ...withPorts('C11', 'a name of another protocol', [port('serve-80-udp', 'TCP')]),
  ...withPorts('C12', 'a name that nobody has', [port('serve-7-tcp')]),
  ...withPorts('C13', 'a port that nobody serves', [port(7981)]),
];

/** As the API means them: absent, all, or by label. */
const podSelectors = { 'no pods': undefined, 'all pods': {}, 'pods by label': pod('b', 'c') };
const nsSelectors = { 'no namespaces': undefined, 'all namespaces': {}, 'namespaces by label': nsNot('x') };
const selectorPeers: [string, V1NetworkPolicyPeer][] = Object.entries(podSelectors).flatMap(
  ([podTitle, podSelector]) =>
    Object.entries(nsSelectors).flatMap(([nsTitle, namespaceSelector]) =>
      podSelector || namespaceSelector
        ? [
            [
              `${podTitle}, ${nsTitle}`,
              {
                ...(podSelector ? { podSelector } : {}),
                ...(namespaceSelector ? { namespaceSelector } : {}),
              },
            ] as [string, V1NetworkPolicyPeer],
          ]
        : [],
    ),
);
type Peers = [string, (ground: Addresses) => V1NetworkPolicyPeer[]];
const peers: Peers[] = [
  ['the block of y/b', (ground) => hosts(ground, 'y/b')],
  ['a block without x/b', (ground) => allBut(ground, 'x/b')],
  ...selectorPeers.map(([title, peer]): Peers => [title, () => [peer]]),
];
const expressions: [string, V1LabelSelector][] = [
  ['In', { matchExpressions: [{ key: 'pod', operator: 'In', values: ['a', 'b'] }] }],
  ['NotIn', { matchExpressions: [{ key: 'pod', operator: 'NotIn', values: ['a', 'b'] }] }],
  ['Exists', { matchExpressions: [{ key: 'pod', operator: 'Exists' }] }],
  ['DoesNotExist', { matchExpressions: [{ key: 'pod', operator: 'DoesNotExist' }] }],
];
const nsExpressions = expressions.map(([title, { matchExpressions }]): [string, V1LabelSelector] => [
  title,
  {
    matchExpressions: matchExpressions!.map((one) => ({
      ...one,
      key: 'ns',
      ...(one.values ? { values: ['x', 'y'] } : {}),
    })),
  },
]);
const peerCases: Case[] = [
  ...peers.flatMap(([title, of], at) =>
    eachSide(at === 0 ? 'C14' : at === 1 ? 'C15' : 'C16', title, (side) => (ground) => [
      sided(side, [{ peers: of(ground) }]),
    ]),
  ),
  ...pairsOf(peers).flatMap(([[one, ofOne], [other, ofOther]]) =>
    eachSide('C17', `${one}; or ${other}`, (side) => (ground) => [
      sided(side, [{ peers: [...ofOne(ground), ...ofOther(ground)] }]),
    ]),
  ),
  ...expressions.flatMap(([title, selector]) => [
    ...eachSide('C18', `target by ${title}`, (side) => () => [sided(side, [], selector)]),
    ...eachSide('C18', `peers by ${title}`, (side) => () => [
      sided(side, [{ peers: [{ podSelector: selector }] }]),
    ]),
  ]),
  ...nsExpressions.flatMap(([title, selector]) =>
    eachSide('C18', `namespaces by ${title}`, (side) => () => [
      sided(side, [{ peers: [{ namespaceSelector: selector }] }]),
    ]),
  ),
];

const NEVER: Record<string, V1NetworkPolicyPeer[]> = {
  'an address': UNREACHABLE,
  'a pod': [{ podSelector: { matchLabels: { never: 'matches' } } }],
};
const ALL: Record<string, V1NetworkPolicyPeer[]> = {
  'all pods': [{ podSelector: {}, namespaceSelector: {} }],
  'all addresses': [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: '::/0' } }],
};
const other = (side: Side): Side => (side === 'ingress' ? 'egress' : 'ingress');
const conflicts: Case[] = [
  ...SIDES.map((side) =>
    single('C19', `${side} denies all, the other side allows all`, () => [
      sided(side, [], {}, 'x', 'deny'),
      sided(other(side), [{}], {}, 'y', 'allow'),
    ]),
  ),
  ...eachSide('C20', 'deny all and allow all', (side) => () => [
    sided(side, [], pod('a'), 'x', 'deny'),
    sided(side, [{}], pod('a'), 'x', 'allow'),
  ]),
  ...Object.entries(NEVER).flatMap(([never, none]) =>
    Object.entries(ALL).flatMap(([all, those]) =>
      eachSide('C21', `deny by ${never}, allow by ${all}`, (side) => () => [
        sided(side, [{ peers: none }], pod('a'), 'x', 'deny'),
        sided(side, [{ peers: those }], pod('a'), 'x', 'allow'),
      ]),
    ),
  ),
  ...Object.entries(NEVER).flatMap(([never, none]) =>
    eachSide('C22', `deny all by ${never}`, (side) => () => [sided(side, [{ peers: none }])]),
  ),
  ...eachSide('C23', 'a namespace by its own label', (side) => () => [
    sided(side, [
      { peers: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'y' } } }] },
    ]),
  ]),
];

const moving: Rule[] = [{ peers: [{ namespaceSelector: { matchLabels: { moves: 'yes' } } }] }];
const labelled: Rule[] = [{ peers: [{ podSelector: { matchLabels: { moves: 'yes' } } }] }];
const target = { matchLabels: { target: 'yes' } };
const actions: Case[] = SIDES.flatMap((side): Case[] => {
  const named = (id: string, title: string, steps: Step[], after?: Case['after']): Case => ({
    ...{ id, title: `${title}, ${side}`, steps },
    ...(after ? { after } : {}),
  });
  return [
    named('C24', 'made and deleted', [step(() => [sided(side, [])]), step(() => [])]),
    named('C25', 'made and updated', [
      step(() => [sided(side, [])]),
      step(() => [sided(side, [{ ports: [port(81, 'UDP')] }])]),
    ]),
    named('C26', 'a namespace with a pod comes and goes', [
      step(() => [sided(side, [{ peers: [{ namespaceSelector: ns('w') }] }])]),
      step(
        () => [sided(side, [{ peers: [{ namespaceSelector: ns('w') }] }])],
        async (ground) => {
          await ground.addNamespace('w');
          await ground.addPods([{ ns: 'w', pod: 'a' }]);
        },
      ),
      step(
        () => [sided(side, [{ peers: [{ namespaceSelector: ns('w') }] }])],
        async (ground) => {
          await ground.removeNamespace('w');
          await ground.namespaceGone('w');
        },
      ),
    ]),
    named('C27', "a namespace's labels match, and match no more", [
      step(() => [sided(side, moving)]),
      step(
        () => [sided(side, moving)],
        (ground) => ground.labelNamespace('z', { moves: 'yes' }),
      ),
      step(
        () => [sided(side, moving)],
        (ground) => ground.labelNamespace('z', { moves: null }),
      ),
    ]),
    named('C28', 'a pod comes that is a peer, and one that is the target', [
      step(
        () => [sided(side, labelled)],
        (ground) => ground.addPods([{ ns: 'x', pod: 'd' }, { labels: { moves: 'yes' } }]),
      ),
      step(
        () => [sided(side, labelled, target)],
        (ground) => ground.addPods([{ ns: 'x', pod: 'e' }, { labels: { target: 'yes' } }]),
      ),
      step(
        () => [sided(side, labelled)],
        (ground) => ground.removePods({ ns: 'x', pod: 'd' }, { ns: 'x', pod: 'e' }),
      ),
    ]),
    named('C29', 'a pod becomes the target, and is it no more', [
      step(
        () => [sided(side, [], target)],
        (ground) => ground.labelPod({ ns: 'x', pod: 'b' }, { target: 'yes' }),
      ),
      step(
        () => [sided(side, [], target)],
        (ground) => ground.labelPod({ ns: 'x', pod: 'b' }, { target: null }),
      ),
    ]),
    named('C30', 'all is denied but one port, by UDP and TCP', [
      step(() => [
        sided(side, [], {}, 'x', 'deny'),
        sided(side, [{ ports: [port(80, 'UDP'), port(80)] }], {}, 'x', 'names'),
      ]),
    ]),
  ];
});

export const generatedCases: readonly Case[] = [
  ...targets,
  ...portCases,
  ...peerCases,
  ...conflicts,
  ...actions,
];
