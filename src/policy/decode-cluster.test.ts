// ClusterNetworkPolicies, from the object to the verdict: the cases of the API's conformance suite that need no packets,
// by the same names (K01 to K28), and what is refused.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseIp } from '../base/ip.ts';
import { compile } from './compile.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { decodeClusterNetworkPolicy } from './decode-cluster.ts';
import { evaluate } from './evaluate.ts';
import { type Direction, type PodView, type Policy, SCTP, TCP, UDP } from './model.ts';

const HOUSES = ['G', 'S', 'H', 'R'];
const labelsOf = (house: string) => ({ house, 'kubernetes.io/metadata.name': house.toLowerCase() });
const namespaces = new Map(HOUSES.map((house) => [house, labelsOf(house)]));
const pods = HOUSES.flatMap((house, at) =>
  [0, 1].map(
    (n): PodView => ({
      namespace: house,
      name: `${house}${n}`,
      uid: `${house}${n}`,
      labels: { n: `${n}` },
      node: 'here',
      ips: [parseIp(`10.0.${at}.${n}`), parseIp(`fd00:${at}::${n}`)],
      ports: [
        { name: 'web', protocol: TCP, port: 80 },
        { name: 'dns', protocol: UDP, port: 53 },
      ],
      hostNetwork: false,
      ended: false,
    }),
  ),
);

/** Two ports that the houses serve. */
const PORTS = { tcp: [80, 8080], udp: [53, 5353], sctp: [9003, 9005] } as const;
const NUMBERS = { tcp: TCP, udp: UDP, sctp: SCTP } as const;
type Protocol = keyof typeof PORTS;
const PROTOCOLS = Object.keys(PORTS) as Protocol[];
const DIRECTIONS: Direction[] = ['ingress', 'egress'];

type Rule = { name?: string; action: string; protocols?: unknown[]; peers: unknown[] };
const house = (name: string) => ({ namespaces: { matchLabels: { house: name } } });
const port = (protocol: Protocol, place: 0 | 1) => ({
  [protocol]: { destinationPort: { number: PORTS[protocol][place] } },
});

function cnp(
  spec: { tier?: string; priority?: number; ingress?: Rule[]; egress?: Rule[]; subject?: unknown },
  name = 'p',
): Policy {
  const written = (rules: Rule[] | undefined, field: string) =>
    rules?.map(({ peers, ...rule }) => ({ ...rule, [field]: peers }));
  const { policy, problems } = decodeClusterNetworkPolicy({
    metadata: { name },
    spec: {
      tier: spec.tier ?? 'Admin',
      priority: spec.priority ?? 50,
      subject: spec.subject ?? house('G'),
      ingress: written(spec.ingress, 'from'),
      egress: written(spec.egress, 'to'),
    },
  });
  assert.deepEqual(problems, []);
  return policy!;
}

const ipOf = (name: string, six = false) => pods.find((pod) => pod.name === name)!.ips[six ? 1 : 0]!;

/** True when the peer and G reach each other in the direction, as seen from G. */
function reaches(
  policies: Policy[],
  direction: Direction,
  peer: string,
  protocol: Protocol,
  number: number,
  { six = false, labels = namespaces }: { six?: boolean; labels?: typeof namespaces } = {},
): boolean {
  const program = compile({ node: 'here', policies, namespaces: labels, pods, held: new Map() });
  const [src, dst] = direction === 'egress' ? ['G0', peer] : [peer, 'G0'];
  const packet = {
    src: ipOf(src!, six),
    dst: ipOf(dst!, six),
    protocol: NUMBERS[protocol],
    port: number,
  };
  return evaluate(program, packet).verdict === 'allow';
}

const both = (policies: Policy[], direction: Direction, peer: string, protocol: Protocol) =>
  PORTS[protocol].map((number) => reaches(policies, direction, peer, protocol, number));

/** The suite's rules; `only` one protocol, or all of them in one policy. */
function rules(protocols: readonly Protocol[], tier: string): Rule[] {
  const at = (place: 0 | 1) => protocols.map((protocol) => port(protocol, place));
  const all: (Rule | null)[] = [
    { action: 'Accept', peers: [house('R')] },
    { action: 'Deny', peers: [house('R')] },
    tier === 'Admin' ? { action: 'Pass', peers: [house('R')] } : null,
    { action: 'Deny', peers: [house('S')], protocols: at(0) },
    tier === 'Admin' ? { action: 'Pass', peers: [house('S')], protocols: at(0) } : null,
    { action: 'Accept', peers: [house('H')], protocols: at(1) },
    { action: 'Deny', peers: [house('H')] },
  ];
  return all.filter((rule) => rule !== null);
}

const swapped = (all: Rule[], a: number, b: number): Rule[] =>
  all.map((rule, at) => (at === a ? all[b]! : at === b ? all[a]! : rule));

describe('ClusterNetworkPolicies', () => {
  for (const tier of ['Admin', 'Baseline'])
    for (const direction of DIRECTIONS)
      for (const some of [...PROTOCOLS.map((one) => [one]), PROTOCOLS])
        it(`K01 to K12: rules in their order (${tier}, ${direction}, ${some.join()})`, () => {
          const all = rules(some, tier);
          const by = (its: Rule[]) => [cnp({ tier, [direction]: its })];
          for (const protocol of some) {
            const of = (its: Rule[], peer: string) => both(by(its), direction, peer, protocol);
            assert.deepEqual(of(all, 'R0'), [true, true], 'the first of two decides');
            assert.deepEqual(of(all, 'H0'), [false, true], 'one port, and the rest');
            assert.deepEqual(of(swapped(all, 0, 1), 'R0'), [false, false], 'the other is the first');
            assert.deepEqual(of(all, 'S0'), [false, true], 'what nothing matches is allowed');
            if (tier === 'Baseline') continue;
            assert.deepEqual(of(swapped(all, 0, 2), 'R0'), [true, true], 'passed, and nothing below');
            assert.deepEqual(of(swapped(all, 3, 4), 'S0'), [true, true], 'passed at one port');
          }
        });

  const toS = (action: string): Rule[] => [{ action, peers: [house('S')] }];
  const both2 = (action: string) => ({ ingress: toS(action), egress: toS(action) });

  it('K13: the lower priority number is judged first', () => {
    const deny = cnp({ priority: 50, ...both2('Deny') }, 'deny');
    const base = cnp({ tier: 'Baseline', ...both2('Accept') }, 'base');
    const pass = (priority: number) => cnp({ priority, ...both2('Pass') }, 'pass');
    for (const direction of DIRECTIONS) {
      assert.deepEqual(both([deny, pass(60), base], direction, 'S0', 'tcp'), [false, false]);
      assert.deepEqual(both([deny, pass(40), base], direction, 'S0', 'tcp'), [true, true]);
    }
  });

  it('K14 to K18: admin, then NetworkPolicy, then baseline', () => {
    const { policy: np } = decodeNetworkPolicy({
      metadata: { namespace: 'G', name: 'np' },
      spec: {
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ namespaceSelector: { matchLabels: { house: 'S' } } }] }],
        egress: [{ to: [{ namespaceSelector: { matchLabels: { house: 'S' } } }] }],
      },
    });
    const admin = (ingress: string, egress: string) =>
      cnp({ ingress: toS(ingress), egress: toS(egress) }, 'admin');
    const base = cnp({ tier: 'Baseline', ...both2('Deny') }, 'base');
    const ask = (policies: Policy[]) =>
      DIRECTIONS.map((direction) => both(policies, direction, 'S0', 'tcp').every((one) => one));
    assert.deepEqual(ask([admin('Deny', 'Deny'), np!, base]), [false, false]);
    assert.deepEqual(ask([admin('Pass', 'Deny'), np!, base]), [true, false]);
    assert.deepEqual(ask([admin('Pass', 'Pass'), np!, base]), [true, true]);
    assert.deepEqual(ask([admin('Pass', 'Pass'), base]), [false, false]);
  });

  for (const tier of ['Admin', 'Baseline'])
    it(`K19 to K24: networks are addresses, of pods too (${tier})`, () => {
      const world: Rule = { action: 'Deny', peers: [{ networks: ['0.0.0.0/0', '::/0'] }] };
      const some = cnp({ tier, egress: [{ action: 'Accept', peers: [house('S')] }, world] });
      const renamed = new Map([...namespaces, ['S', labelsOf('other')]]);
      for (const protocol of PROTOCOLS)
        for (const six of [false, true]) {
          const to = (policies: Policy[], peer: string, labels = namespaces) =>
            reaches(policies, 'egress', peer, protocol, PORTS[protocol][0], { six, labels });
          assert.deepEqual(
            ['R0', 'H0', 'S0'].map((peer) => to([some], peer)),
            [false, false, true],
          );
          assert.equal(to([some], 'S0', renamed), false);
          const first: Rule = {
            action: 'Accept',
            peers: [{ networks: ['10.0.3.0/32', '10.0.2.0/32', 'fd00:3::/128', 'fd00:2::/128'] }],
          };
          const more = cnp({ tier, egress: [first, { action: 'Accept', peers: [house('S')] }, world] });
          assert.deepEqual(
            ['R0', 'H0', 'R1', 'H1'].map((peer) => to([more], peer)),
            [true, true, false, false],
          );
        }
    });

  for (const tier of ['Admin', 'Baseline'])
    it(`K25 to K28: names of ports (${tier})`, () => {
      const by = (destinationNamedPort: string): Rule[] => [
        { action: 'Accept', peers: [house('H')], protocols: [{ destinationNamedPort }] },
        { action: 'Deny', peers: [house('H')] },
      ];
      assert.deepEqual(both([cnp({ tier, egress: by('web') })], 'egress', 'H0', 'tcp'), [true, false]);
      assert.deepEqual(both([cnp({ tier, ingress: by('dns') })], 'ingress', 'H0', 'udp'), [true, false]);
    });

  it('X33: equal priorities are decided the same in any order', () => {
    const two = [cnp(both2('Deny'), 'a'), cnp(both2('Accept'), 'b')];
    for (const policies of [two, two.toReversed()])
      assert.deepEqual(both(policies, 'egress', 'S0', 'tcp'), [false, false]);
  });

  it('subjects are pods of namespaces; ranges have both ends', () => {
    const subject = {
      pods: {
        namespaceSelector: { matchLabels: { house: 'G' } },
        podSelector: { matchLabels: { n: '1' } },
      },
    };
    const range = [{ tcp: { destinationPort: { range: { start: 80, end: 81 } } } }];
    const egress = [{ action: 'Deny', peers: [house('S')], protocols: range }];
    assert.equal(reaches([cnp({ subject, egress })], 'egress', 'S0', 'tcp', 80), true);
    const ask = (number: number) => reaches([cnp({ egress })], 'egress', 'S0', 'tcp', number);
    assert.deepEqual([79, 80, 81, 82].map(ask), [true, false, false, true]);
  });
});

describe('nodes as peers', () => {
  const nodes = new Map([
    ['here', { labels: { pool: 'a' }, ips: [parseIp('192.0.2.1'), parseIp('2001:db8::1')] }],
    ['there', { labels: { pool: 'b' }, ips: [parseIp('192.0.2.2')] }],
  ]);
  const world = { networks: ['0.0.0.0/0', '::/0'] };
  const ask = (policy: Policy, to: string, protocol: Protocol, number: number) =>
    evaluate(compile({ node: 'here', policies: [policy], namespaces, nodes, pods, held: new Map() }), {
      src: ipOf('G0', to.includes(':')),
      dst: parseIp(to),
      protocol: NUMBERS[protocol],
      port: number,
    }).verdict;
  const tcp = (start: number, end: number) => ({ tcp: { destinationPort: { range: { start, end } } } });

  it('K29: accept, pass and deny, before what is denied of the world', () => {
    const policy = cnp({
      egress: [
        {
          action: 'Accept',
          peers: [{ nodes: {} }],
          protocols: [{ tcp: { destinationPort: { number: 34345 } } }],
        },
        {
          action: 'Pass',
          peers: [{ nodes: {} }],
          protocols: [{ udp: { destinationPort: { number: 34346 } } }],
        },
        { action: 'Deny', peers: [{ nodes: {} }, house('S'), world] },
      ],
    });
    for (const node of ['192.0.2.1', '192.0.2.2', '2001:db8::1']) {
      assert.equal(ask(policy, node, 'tcp', 34345), 'allow', node);
      assert.equal(ask(policy, node, 'udp', 34346), 'allow', node);
      for (const [protocol, number] of [
        ['tcp', 34346],
        ['udp', 34345],
        ['sctp', 34345],
      ] as const)
        assert.equal(ask(policy, node, protocol, number), 'deny', `${node} ${protocol}`);
    }
    assert.equal(ask(policy, '203.0.113.9', 'tcp', 34345), 'deny');
  });

  it('K30: a range of ports of nodes, the rest denied; and nodes by their labels', () => {
    const of = (selector: object) =>
      cnp({
        tier: 'Baseline',
        egress: [
          { action: 'Accept', peers: [{ nodes: selector }], protocols: [tcp(34345, 34347)] },
          { action: 'Deny', peers: [{ nodes: {} }, world] },
        ],
      });
    const ports = [34344, 34345, 34347, 34348];
    const allowed = [false, true, true, false];
    assert.deepEqual(
      ports.map((port) => ask(of({}), '192.0.2.2', 'tcp', port) === 'allow'),
      allowed,
    );
    const some = of({ matchLabels: { pool: 'a' } });
    assert.deepEqual(
      ports.map((port) => ask(some, '192.0.2.1', 'tcp', port) === 'allow'),
      allowed,
    );
    assert.equal(ask(some, '192.0.2.2', 'tcp', 34345), 'deny');
  });

  it('are no peers of ingress, and names of hosts are refused as what they are', () => {
    const { problems } = decodeClusterNetworkPolicy({
      metadata: { name: 'p' },
      spec: {
        ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
        ingress: [{ action: 'Accept', from: [{ nodes: {} }] }],
        egress: [{ action: 'Accept', to: [{ domainNames: ['example.com'] }] }],
      },
    });
    assert.deepEqual(
      problems.map(({ field, because }) => [field, because]),
      [
        ['spec.egress[0].to[0].domainNames', 'is not enforced: Podway does not follow names'],
        ['spec.ingress[0].from[0].nodes', 'is not a field that is known'],
      ],
    );
  });
});

describe('what is refused of a ClusterNetworkPolicy', () => {
  const decode = (change: Record<string, unknown>) =>
    decodeClusterNetworkPolicy({
      metadata: { name: 'p' },
      spec: { tier: 'Admin', priority: 1, subject: { namespaces: {} }, ...change },
    });
  const deny = [{ index: 0, verdict: 'deny', peers: [{ kind: 'any' }], ports: null }];

  it('X34: a peer, a protocol or a field that is not known closes its rule', () => {
    const broken = [
      { to: [{}] },
      { to: [{ universe: {} }] },
      { to: [{ domainNames: ['example.com'] }] },
      { to: [] },
      { to: [{ namespaces: {}, networks: ['10.0.0.0/8'] }] },
      { to: [{ networks: ['10.0.0.0/33'] }] },
      { to: [{ namespaces: {} }], protocols: [] },
      { to: [{ namespaces: {} }], protocols: [{ tcp: {} }] },
      { to: [{ namespaces: {} }], protocols: [{ icmp: {} }] },
      { to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { number: 0 } } }] },
      {
        to: [{ namespaces: {} }],
        protocols: [{ udp: { destinationPort: { range: { start: 9, end: 9 } } } }],
      },
      { to: [{ networks: ['10.0.0.0/8'] }], protocols: [{ destinationNamedPort: 'web' }] },
      { to: [{ nodes: {} }], protocols: [{ destinationNamedPort: 'web' }] },
      { to: [{ nodes: { matchLabels: { a: 1 } } }] },
      { to: [{ namespaces: {} }], when: 'later' },
    ];
    for (const rule of broken) {
      const of = (action: unknown) => decode({ egress: [{ action, ...rule }] });
      const text = JSON.stringify(rule);
      assert.equal(of('Accept').problems.length, 1, text);
      assert.equal(of('Accept').policy!.egress, null, text);
      for (const action of ['Deny', 'Pass', 'Log', undefined])
        assert.deepEqual(of(action).policy!.egress, deny, `${action} ${text}`);
    }
  });

  it('without tier, priority or subject it is not in force; another field of spec is told alone', () => {
    for (const [field, value] of [
      ['tier', 'Default'],
      ['priority', 1001],
      ['priority', undefined],
      ['subject', {}],
      ['subject', { namespaces: {}, pods: {} }],
    ] as const) {
      const { policy, problems } = decode({ [field]: value });
      assert.equal(policy, null, field);
      assert.equal(problems[0]?.field, `spec.${field}`);
    }
    const { policy, problems } = decode({ mood: 1, ingress: [{ action: 'Deny', from: [{ pods: {} }] }] });
    assert.equal(policy!.ingress?.[0]?.verdict, 'deny');
    assert.deepEqual(
      problems.map(({ field }) => field),
      ['spec.mood'],
    );
    assert.deepEqual(decode({ egress: Array(26).fill({ action: 'Accept' }) }).policy!.egress, deny);
  });

  it('never throws', () => {
    fc.assert(
      fc.property(fc.anything(), (spec) => {
        decodeClusterNetworkPolicy({ metadata: { name: 'p' }, spec });
        decode({ egress: spec, ingress: [spec] });
        decode({ egress: [{ action: 'Accept', to: [spec], protocols: [spec] }] });
      }),
      { numRuns: 300 },
    );
  });
});
