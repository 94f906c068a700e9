import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import type { NodeNetwork } from '../../kube/networks.ts';
import { chooseNetwork, isRefused, readNodeNetwork, type ValidNetwork } from './node-network.ts';

const network = (spec: unknown, name = 'general', created = '2026-01-01T00:00:00Z'): NodeNetwork => ({
  metadata: { name, generation: 1, creationTimestamp: created },
  spec: spec as NonNullable<NodeNetwork['spec']>,
});
const valid = (spec: unknown, name?: string, created?: string): ValidNetwork => {
  const read = readNodeNetwork(network(spec, name, created));
  assert.ok(!isRefused(read), JSON.stringify(read));
  return read;
};

test('an empty spec selects every node and has the defaults', () => {
  assert.deepEqual(valid({}), {
    name: 'general',
    generation: 1,
    created: '2026-01-01T00:00:00Z',
    selector: [],
    families: 'ipv4',
    egress4: 'none',
    addressing: 'secondary',
    subnets: null,
    securityGroups: null,
    changesExistingEnis: false,
    usesPrimaryEni: true,
    podsPerMinute: null,
    maxIdlePercent: null,
    minIdle: null,
    maxPods: null,
    maxAddresses: null,
    maxSubnetPercent: null,
    cooldownMs: 30_000,
    policy: null,
    policyTimeout: null,
    flowLog: null,
    nodeLocalAddresses: [],
  });
});

test('every field is read', () => {
  const read = valid({
    nodeSelector: { matchLabels: { pool: 'web' } },
    addressing: 'auto',
    subnets: { tags: { tier: 'pods' } },
    securityGroups: { ids: ['sg-0123456789abcdef0'], existingENIs: 'change' },
    usePrimaryENI: false,
    capacity: { podsPerMinute: 20, maxIdlePercent: 25, minIdle: 2, maxPods: 60 },
    bounds: { maxAddresses: 100, maxSubnetPercent: 10 },
    cooldown: '500ms',
    policy: 'audit',
    policyTimeout: 'isolate',
    flowLog: 'all',
    nodeLocalAddresses: ['FD00::A', '10.100.0.10', '10.100.0.10'],
  });
  assert.deepEqual(read.nodeLocalAddresses, ['10.100.0.10', 'fd00::a']);
  assert.deepEqual([read.policy, read.policyTimeout, read.flowLog], ['audit', 'isolate', 'all']);
  assert.deepEqual(
    [read.addressing, read.subnets, read.securityGroups, read.changesExistingEnis, read.usesPrimaryEni],
    ['auto', { tags: { tier: 'pods' } }, { ids: ['sg-0123456789abcdef0'] }, true, false],
  );
  assert.deepEqual(
    [
      read.podsPerMinute,
      read.maxIdlePercent,
      read.minIdle,
      read.maxPods,
      read.maxAddresses,
      read.maxSubnetPercent,
    ],
    [20, 25, 2, 60, 100, 10],
  );
  assert.equal(read.cooldownMs, 500);
});

const refused: [spec: unknown, says: RegExp][] = [
  [[], /^spec is \[\], not a map$/],
  [{ colour: 'red' }, /spec\.colour is not known/],
  [{ addressing: 'ipv6' }, /spec\.addressing is "ipv6", not one of secondary, prefix, auto/],
  [{ subnets: {} }, /spec\.subnets has neither ids nor tags/],
  [{ subnets: { ids: ['subnet-01234567'], tags: { a: 'b' } } }, /spec\.subnets has both ids and tags/],
  [{ subnets: { ids: ['vpc-1'] } }, /spec\.subnets\.ids is "vpc-1", not the id of a subnet/],
  [{ subnets: { ids: [] } }, /not a list of ids/],
  [{ subnets: { tags: {} } }, /not a map of tags to texts/],
  [{ securityGroups: { existingENIs: 'keep' } }, /spec\.securityGroups has neither/],
  [{ securityGroups: { ids: ['sg-01234567'], existingENIs: 'maybe' } }, /existingENIs is "maybe"/],
  [{ capacity: { podsPerMinute: -1 } }, /podsPerMinute is -1, not a whole number from 0 to 1000/],
  [{ capacity: { minIdle: 1.5 } }, /minIdle is 1\.5/],
  [{ capacity: { minIdle: 9, maxPods: 8 } }, /minIdle is 9, greater than maxPods 8/],
  [{ bounds: { maxSubnetPercent: 101 } }, /maxSubnetPercent is 101/],
  [{ nodeLocalAddresses: '10.0.0.1' }, /nodeLocalAddresses is "10\.0\.0\.1", not a list of at most 32/],
  [{ nodeLocalAddresses: ['10.0.0.0/8'] }, /nodeLocalAddresses is "10\.0\.0\.0\/8", not an IPv4 or IPv6/],
  [{ nodeLocalAddresses: [7] }, /nodeLocalAddresses is 7, not/],
  [{ cooldown: '30' }, /cooldown is "30", not a duration/],
  [{ cooldown: '25h' }, /cooldown is "25h"/],
  [{ usePrimaryENI: 'no' }, /usePrimaryENI is "no", not true or false/],
  [{ nodeSelector: { matchExpressions: [{ key: 'a', operator: 'Near' }] } }, /"Near" is not a valid/],
  [{ nodeSelector: { matchLabels: { a: 1 } } }, /not a label selector/],
  [{ nodeSelector: { matchLabels: { 'a b': 'c' } } }, /a key is "a b", not a label's name/],
  [{ nodeSelector: { matchLabels: { a: '-b' } } }, /a value is "-b", not a label's value/],
];
for (const [spec, says] of refused) {
  test(`${JSON.stringify(spec)}: refused`, () => {
    const read = readNodeNetwork(network(spec));
    assert.ok(isRefused(read));
    assert.match(read.problems.join('; '), says);
  });
}

test('any value anywhere is read or refused, never an error', () => {
  const fields = [
    'nodeSelector',
    'addressing',
    'subnets',
    'securityGroups',
    'capacity',
    'bounds',
    'cooldown',
    'nodeLocalAddresses',
  ];
  const anything = fc.oneof(
    fc.jsonValue(),
    fc.dictionary(
      fc.constantFrom('ids', 'tags', 'matchLabels', 'matchExpressions', 'minIdle'),
      fc.jsonValue(),
    ),
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...fields), anything), (spec) => {
      const read = readNodeNetwork(network(spec));
      if (!isRefused(read)) assert.ok(read.cooldownMs >= 0);
    }),
  );
});

test('of two that select a node the older counts, then the one whose name comes first', () => {
  const young = valid({}, 'a', '2026-02-01T00:00:00Z');
  const old = valid({}, 'z', '2026-01-01T00:00:00Z');
  const twin = valid({}, 'y', '2026-01-01T00:00:00Z');
  const other = valid({ nodeSelector: { matchLabels: { pool: 'batch' } } }, 'x', '2025-01-01T00:00:00Z');
  const choice = chooseNetwork([young, old, twin, other], { pool: 'web' });
  assert.deepEqual([choice.chosen?.name, choice.others], ['y', ['z', 'a']]);
  assert.equal(chooseNetwork([other], {}).chosen, null);
});

test('the schema and the agent know the same fields', () => {
  type Schema = { properties: Record<string, Schema> };
  const file = new URL('../../../deploy/crds/nodenetwork.yaml', import.meta.url);
  const crd = parse(readFileSync(file, 'utf8'));
  const spec = crd.spec.versions[0].schema.openAPIV3Schema.properties.spec as Schema;
  for (const [name, schema] of [['spec', spec] as const, ...Object.entries(spec.properties)]) {
    if (!schema.properties) continue;
    const value = { strange: 1 };
    const read = readNodeNetwork(network(name === 'spec' ? value : { [name]: value }));
    const problems = isRefused(read) ? read.problems.join('; ') : '';
    const known = /\(known: ([^)]*)\)/.exec(problems)?.[1];
    assert.deepEqual(known?.split(', ').sort(), Object.keys(schema.properties).sort(), name);
  }
});
