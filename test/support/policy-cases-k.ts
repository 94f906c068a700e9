// The cases K01 to K30 of the ClusterNetworkPolicy conformance tests, of x (the subject) with y, z and w, on ports 80
// and 81: for both directions and each protocol. What `allow` says is the case's; all else is as the objects say.
import type { V1NetworkPolicy } from '@kubernetes/client-node';
import { type Addresses, IN, OUT, policy } from './policy-case.ts';
import type { Allow, PolicyGround, Protocol, Who } from './policy-ground.ts';
import { NODE_PORTS } from './policy-nodes.ts';
import type { ClusterPeer, ClusterPolicy, ClusterProtocol, ClusterRule } from './policy-oracle.ts';

export type ClusterStep = {
  cluster: (ground: Addresses) => ClusterPolicy[];
  policies?: V1NetworkPolicy[];
  before?: (ground: PolicyGround) => Promise<void>;
  allow: Allow;
  /** Whether the pods of x reach nodes that are not their own. */
  toNodes?: (port: number, protocol: Protocol) => boolean;
};
export type ClusterCase = {
  id: string;
  title: string;
  steps: readonly ClusterStep[];
  after?: (ground: PolicyGround) => Promise<void>;
};

type Side = 'ingress' | 'egress';
type Tier = 'Admin' | 'Baseline';
const SIDES = ['ingress', 'egress'] as const;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const TIERS = ['Admin', 'Baseline'] as const;

const namespace = (name: string): ClusterPeer => ({ namespaces: { matchLabels: { ns: name } } });
const WORLD: ClusterPeer = { networks: ['0.0.0.0/0', '::/0'] };
const at = (protocol: Protocol, number: number): ClusterProtocol => ({
  [protocol.toLowerCase()]: { destinationPort: { number } },
});
const rule = (
  side: Side,
  action: ClusterRule['action'],
  peers: ClusterPeer[],
  protocols?: ClusterProtocol[],
): ClusterRule => ({
  action,
  [side === 'ingress' ? 'from' : 'to']: peers,
  ...(protocols ? { protocols } : {}),
});
const made = (
  name: string,
  tier: Tier,
  priority: number,
  rules: Partial<Record<Side, ClusterRule[]>>,
): ClusterPolicy => ({
  metadata: { name },
  spec: { tier, priority, subject: namespace('x'), ...rules },
});

/** The rule list of the conformance tests; p1 is 80, p2 is 81. */
function template(side: Side, protocols: readonly Protocol[], tier: Tier): ClusterRule[] {
  const [y, z, w] = ['y', 'z', 'w'].map((name) => [namespace(name)]);
  const p1 = protocols.map((one) => at(one, 80));
  const p2 = protocols.map((one) => at(one, 81));
  const pass = (peers: ClusterPeer[], its?: ClusterProtocol[]) =>
    tier === 'Admin' ? [rule(side, 'Pass', peers, its)] : [];
  return [
    rule(side, 'Accept', z!),
    rule(side, 'Deny', z!),
    ...pass(z!),
    rule(side, 'Deny', y!, p1),
    ...pass(y!, p1),
    rule(side, 'Accept', w!, p2),
    rule(side, 'Deny', w!),
  ];
}
const swapped = (rules: ClusterRule[], one: number, other: number): ClusterRule[] => {
  const next = [...rules];
  [next[one], next[other]] = [next[other]!, next[one]!];
  return next;
};

/** The pair's other end, where one of them is of x; null else. */
const peerOf = (side: Side, from: Who, to: Who): string | null => {
  const [own, peer] = side === 'ingress' ? [to, from] : [from, to];
  return own.ns === 'x' && peer.ns !== 'x' ? peer.ns : null;
};
/** Speaks of the pairs of x with one namespace. */
const between =
  (
    side: Side,
    protocols: readonly Protocol[],
    may: (peer: string, port: number) => boolean | undefined,
  ): Allow =>
  (from, to, port, { protocol }) => {
    const peer = peerOf(side, from, to);
    return peer === null || !protocols.includes(protocol) ? undefined : may(peer, port);
  };

function templateCase(
  id: string,
  title: string,
  tier: Tier,
  change: (rules: ClusterRule[]) => ClusterRule[],
  may: (peer: string, port: number) => boolean | undefined,
): ClusterCase[] {
  return SIDES.flatMap((side) =>
    PROTOCOLS.map((protocol): ClusterCase => {
      const rules = change(template(side, [protocol], tier));
      return {
        id,
        title: `${title}, ${side} of ${protocol}`,
        steps: [
          {
            cluster: () => [made('t', tier, 50, { [side]: rules })],
            allow: between(side, [protocol], may),
          },
        ],
      };
    }),
  );
}
const same = (rules: ClusterRule[]): ClusterRule[] => rules;
const of =
  (name: string, may: (port: number) => boolean) =>
  (peer: string, port: number): boolean | undefined =>
    peer === name ? may(port) : undefined;

const ordered: ClusterCase[] = [
  ...templateCase(
    'K01',
    'accept before deny',
    'Admin',
    same,
    of('z', () => true),
  ),
  ...templateCase(
    'K02',
    'accept a port, deny the rest',
    'Admin',
    same,
    of('w', (port) => port === 81),
  ),
  ...templateCase(
    'K03',
    'deny before accept',
    'Admin',
    (all) => swapped(all, 0, 1),
    of('z', () => false),
  ),
  ...templateCase(
    'K04',
    'deny a port',
    'Admin',
    same,
    of('y', (port) => port === 81),
  ),
  ...templateCase(
    'K05',
    'pass before deny',
    'Admin',
    (all) => swapped(all, 0, 2),
    of('z', () => true),
  ),
  ...templateCase(
    'K06',
    'pass a port',
    'Admin',
    (all) => swapped(all, 3, 4),
    of('y', () => true),
  ),
  ...templateCase(
    'K07',
    'accept before deny',
    'Baseline',
    same,
    of('z', () => true),
  ),
  ...templateCase(
    'K08',
    'accept a port, deny the rest',
    'Baseline',
    same,
    of('w', (port) => port === 81),
  ),
  ...templateCase(
    'K09',
    'deny before accept',
    'Baseline',
    (all) => swapped(all, 0, 1),
    of('z', () => false),
  ),
  ...templateCase(
    'K10',
    'deny a port',
    'Baseline',
    same,
    of('y', (port) => port === 81),
  ),
];

const combined: ClusterCase[] = TIERS.map((tier): ClusterCase => {
  const step = (
    change: (rules: ClusterRule[]) => ClusterRule[],
    z: boolean,
    yAt80: boolean,
  ): ClusterStep => ({
    cluster: () => [
      made('t', tier, 50, {
        ingress: change(template('ingress', PROTOCOLS, tier)),
        egress: change(template('egress', PROTOCOLS, tier)),
      }),
    ],
    allow: (from, to, port) => {
      const peer = peerOf('ingress', from, to) ?? peerOf('egress', from, to);
      if (peer === null) return undefined;
      if (peer === 'z') return z;
      return peer === 'y' ? port === 81 || yAt80 : port === 81;
    },
  });
  return {
    id: tier === 'Admin' ? 'K11' : 'K12',
    title: `both directions and all protocols in one, ${tier}`,
    steps: [
      step(same, true, false),
      step((all) => swapped(all, 0, 1), false, false),
      ...(tier === 'Admin'
        ? [step((all) => swapped(all, 0, 2), true, false), step((all) => swapped(all, 3, 4), true, true)]
        : []),
    ],
  };
});

const both = (action: ClusterRule['action']): Record<Side, ClusterRule[]> => ({
  ingress: [rule('ingress', action, [namespace('y')])],
  egress: [rule('egress', action, [namespace('y')])],
});
const withY =
  (may: (side: Side) => boolean): Allow =>
  (from, to) => {
    for (const side of SIDES) if (peerOf(side, from, to) === 'y') return may(side);
    return undefined;
  };
const allowY: V1NetworkPolicy[] = [
  policy('x', 'np', {
    podSelector: {},
    policyTypes: [...IN, ...OUT],
    ingress: [{ _from: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }] }],
    egress: [{ to: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }] }],
  }),
];
const baseDeny = made('base', 'Baseline', 10, both('Deny'));
const admin = (ingress: ClusterRule['action'], egress: ClusterRule['action']): ClusterPolicy =>
  made('admin', 'Admin', 50, { ingress: both(ingress).ingress, egress: both(egress).egress });

const tiers: ClusterCase[] = [
  {
    id: 'K13',
    title: 'a lower number is judged first',
    steps: [60, 40].map((priority) => ({
      cluster: () => [
        made('deny', 'Admin', 50, both('Deny')),
        made('pass', 'Admin', priority, both('Pass')),
        made('base', 'Baseline', 10, both('Accept')),
      ],
      allow: withY(() => priority < 50),
    })),
  },
  {
    id: 'K14',
    title:
      'admin denies what a NetworkPolicy allows; K15 and K16 pass it on; K17 and K18 leave it to the baseline',
    steps: [
      { cluster: () => [admin('Deny', 'Deny'), baseDeny], policies: allowY, allow: withY(() => false) },
      {
        cluster: () => [admin('Pass', 'Deny'), baseDeny],
        policies: allowY,
        allow: withY((side) => side === 'ingress'),
      },
      { cluster: () => [admin('Pass', 'Pass'), baseDeny], policies: allowY, allow: withY(() => true) },
      { cluster: () => [admin('Pass', 'Pass'), baseDeny], allow: withY(() => false) },
    ],
  },
];

const cidrs: ClusterCase[] = TIERS.flatMap((tier, index): ClusterCase[] => {
  const accept = rule('egress', 'Accept', [namespace('y')]);
  const deny = rule('egress', 'Deny', [WORLD]);
  const plain = () => [made('cidr', tier, 50, { egress: [accept, deny] })];
  const out =
    (may: (to: Who) => boolean): Allow =>
    (from, to) =>
      from.ns === 'x' ? may(to) : undefined;
  return [
    {
      id: `K${19 + index * 3}`,
      title: `networks deny all but a namespace, ${tier}; K${20 + index * 3} by its label`,
      steps: [
        { cluster: plain, allow: out((to) => to.ns === 'y') },
        {
          cluster: plain,
          before: (ground) => ground.labelNamespace('y', { ns: 'other' }),
          allow: out(() => false),
        },
        {
          cluster: plain,
          before: (ground) => ground.labelNamespace('y', { ns: 'y' }),
          allow: out((to) => to.ns === 'y'),
        },
      ],
    },
    {
      id: `K${21 + index * 3}`,
      title: `single addresses before networks, ${tier}`,
      steps: [
        {
          cluster: (ground) => [
            made('cidr', tier, 50, {
              egress: [
                rule('egress', 'Accept', [
                  { networks: [...ground.hostsOf('z/a'), ...ground.hostsOf('w/a')] },
                ]),
                accept,
                deny,
              ],
            }),
          ],
          allow: out((to) => to.ns === 'y' || ((to.ns === 'z' || to.ns === 'w') && to.pod === 'a')),
        },
      ],
    },
  ];
});

const named: ClusterCase[] = TIERS.flatMap((tier, index) =>
  SIDES.map((side, place): ClusterCase => {
    const name = side === 'egress' ? 'serve-80-tcp' : 'serve-81-udp';
    const protocol = side === 'egress' ? 'TCP' : 'UDP';
    const open = side === 'egress' ? 80 : 81;
    return {
      id: `K${25 + index * 2 + (1 - place)}`,
      title: `a named port, ${side}, ${tier}`,
      steps: [
        {
          cluster: () => [
            made('named', tier, 50, {
              [side]: [
                rule(side, 'Accept', [namespace('w')], [{ destinationNamedPort: name }]),
                rule(side, 'Deny', [namespace('w')]),
              ],
            }),
          ],
          allow: between(side, [protocol], (peer, port) => (peer === 'w' ? port === open : undefined)),
        },
      ],
    };
  }),
);

const NODES: ClusterPeer = { nodes: {} };
const [P0, P1, P2] = NODE_PORTS;
const range = { tcp: { destinationPort: { range: { start: P0, end: P1 } } } };
const toNodes = (
  tier: Tier,
  rules: ClusterRule[],
  may: NonNullable<ClusterStep['toNodes']>,
): ClusterCase => ({
  id: tier === 'Admin' ? 'K29' : 'K30',
  title: `nodes, ${tier}`,
  steps: [
    {
      cluster: () => [
        made('nodes', tier, 50, {
          egress: [...rules, rule('egress', 'Deny', [NODES, namespace('y'), WORLD])],
        }),
      ],
      allow: (from) => (from.ns === 'x' ? false : undefined),
      toNodes: may,
    },
  ],
});
const nodes: ClusterCase[] = [
  toNodes(
    'Admin',
    [rule('egress', 'Accept', [NODES], [at('TCP', P0)]), rule('egress', 'Pass', [NODES], [at('UDP', P2)])],
    (port, protocol) => (protocol === 'TCP' ? port === P0 : protocol === 'UDP' && port === P2),
  ),
  toNodes(
    'Baseline',
    [rule('egress', 'Accept', [NODES], [range])],
    (port, protocol) => protocol === 'TCP' && port <= P1,
  ),
];

export const clusterCases: readonly ClusterCase[] = [
  ...[...ordered, ...combined, ...tiers],
  ...[...cidrs, ...named, ...nodes],
];
