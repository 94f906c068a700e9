// Objects as a hostile user writes them: a right one, in which some places have become something else.
import fc from 'fast-check';
import { cidrs, pick } from './testing.ts';

const selectorJson = fc.oneof(
  fc.constant({}),
  fc.record({ matchLabels: fc.dictionary(pick('pod', 'app'), pick('a', 'b')) }),
  fc.record({
    matchExpressions: fc.array(
      fc.record({
        key: pick('pod', 'app'),
        operator: pick('In', 'NotIn', 'Exists'),
        values: fc.subarray(['a', 'b']),
      }),
      { maxLength: 2 },
    ),
  }),
);
const blockJson = fc.record({
  cidr: pick(...cidrs, '10.1.2.3/8'),
  except: fc.subarray(['10.0.0.0/30', '10.0.0.2/32', 'fd00::4/126']),
});
const portJson = fc.oneof(
  fc.record({ port: pick<number | string>(80, 443, 'web'), protocol: pick('TCP', 'UDP', 'SCTP') }),
  fc.record({ port: pick(1, 80), endPort: pick(80, 65_535) }),
  fc.record({ protocol: pick('TCP') }),
);
const peerJson = fc.oneof(
  fc.record({ podSelector: selectorJson }),
  fc.record({ podSelector: selectorJson, namespaceSelector: selectorJson }),
  fc.record({ ipBlock: blockJson }),
);
const rulesJson = (peers: string) =>
  fc.array(
    fc.record(
      { [peers]: fc.array(peerJson, { maxLength: 3 }), ports: fc.array(portJson, { maxLength: 3 }) },
      { requiredKeys: [] },
    ),
    { maxLength: 3 },
  );
export const specOfNamespace: fc.Arbitrary<object> = fc.record({
  podSelector: selectorJson,
  policyTypes: fc.subarray(['Ingress', 'Egress'], { minLength: 1 }),
  ingress: rulesJson('from'),
  egress: rulesJson('to'),
});
const clusterPeerJson = fc.oneof(
  fc.record({ namespaces: selectorJson }),
  fc.record({ pods: fc.record({ namespaceSelector: selectorJson, podSelector: selectorJson }) }),
);
const clusterRulesJson = (peers: string) =>
  fc.array(
    fc.record({
      action: pick('Accept', 'Deny', 'Pass'),
      [peers]: fc.array(clusterPeerJson, { minLength: 1, maxLength: 2 }),
      protocols: fc.array(
        fc.oneof(
          fc.constant({ tcp: { destinationPort: { number: 80 } } }),
          fc.constant({ udp: { destinationPort: { range: { start: 50, end: 60 } } } }),
          fc.constant({ destinationNamedPort: 'web' }),
        ),
        { minLength: 1, maxLength: 2 },
      ),
    }),
    { maxLength: 3 },
  );
export const specOfCluster: fc.Arbitrary<object> = fc.record({
  tier: pick('Admin', 'Baseline'),
  priority: fc.nat(1_000),
  subject: clusterPeerJson,
  ingress: clusterRulesJson('from'),
  egress: clusterRulesJson('to'),
});

const junk: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    0,
    -1,
    65_536,
    1e9,
    1.5,
    true,
    [],
    {},
    [[]],
    'TCP ',
    '0.0.0.0/33',
    '::/129',
  ),
  fc.constantFrom<unknown>(
    '10.0.0.0/8; drop',
    '__proto__',
    'constructor',
    'a'.repeat(10_000),
    '\u0000',
    'web\n',
  ),
  fc.jsonValue(),
  fc.integer(),
  fc.string(),
);

/** At most three places have become junk, or have got a field that nobody knows. */
export const mutated = (object: fc.Arbitrary<object>): fc.Arbitrary<unknown> =>
  fc
    .tuple(object, fc.array(fc.tuple(fc.nat(1_000), junk, fc.boolean()), { minLength: 1, maxLength: 3 }))
    .map(([source, changes]) => {
      const root = { spec: structuredClone(source) as unknown };
      for (const [place, value, isField] of changes) {
        const places = placesOf(root);
        const { holder, key } = places[place % places.length]!;
        const now = holder[key];
        if (isField && typeof now === 'object' && now !== null && !Array.isArray(now))
          (now as Record<string, unknown>)['unknown'] = value;
        else holder[key] = value;
      }
      return root.spec;
    });

type Holder = Record<string | number, unknown>;

function placesOf(root: object): { holder: Holder; key: string }[] {
  return Object.keys(root).flatMap((key) => {
    const holder = root as Holder;
    const value = holder[key];
    const within = typeof value === 'object' && value !== null ? placesOf(value) : [];
    return [{ holder, key }, ...within];
  });
}
