import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../base/ip.ts';
import type { SubnetDescription } from '../../cloud/port.ts';
import type { EniConfig } from '../../kube/networks.ts';
import { m5Large } from '../testkit.ts';
import { readEnvironment } from './incumbent-env.ts';
import { isRefused, readNodeNetwork, type ValidNetwork } from './node-network.ts';
import { type KnownFacts, type OwnFacts, resolvePolicy } from './sources.ts';

const subnet = (id: string, availableIps: number, tags: Record<string, string> = {}): SubnetDescription => ({
  id,
  zone: 'us-west-2a',
  cidr: parseCidr('10.0.0.0/19'),
  ipv6Cidr: null,
  availableIps,
  tags,
});
const own = (env: Record<string, string> = {}, over: Partial<OwnFacts> = {}): OwnFacts => ({
  limits: m5Large,
  zone: 'us-west-2a',
  subnetId: 'subnet-own',
  settings: { warm: 5, cooldownMs: 30_000, idleReleaseMs: 60_000 },
  environment: readEnvironment(env).pool,
  ...over,
});
const nothing: KnownFacts = {
  network: null,
  node: null,
  eniConfigs: null,
  subnets: null,
  groups: null,
  serviceFamily: null,
  wantsTrunk: false,
  trouble: null,
};
const known = (over: Partial<KnownFacts> = {}): KnownFacts => ({
  ...nothing,
  node: { labels: {}, annotations: {}, pods: null },
  subnets: [subnet('subnet-own', 100)],
  ...over,
});
const network = (spec: object): ValidNetwork => {
  const read = readNodeNetwork({ metadata: { name: 'general', generation: 3 }, spec });
  assert.ok(!isRefused(read));
  return read;
};

test('without NodeNetwork and variables the settings count', () => {
  const { policy, cooldownMs, source, notes } = resolvePolicy(own(), known());
  assert.deepEqual(source, { kind: 'settings' });
  assert.deepEqual(
    [policy.targets, policy.podLimit, cooldownMs, notes],
    [{ kind: 'warm', free: 5 }, 29, 30_000, []],
  );
  assert.deepEqual([policy.subnetIds, policy.excludedSubnetIds, policy.noNewEni], [['subnet-own'], [], null]);
});

test('before Kubernetes and EC2 have answered there is a policy', () => {
  for (const env of [{}, { WARM_IP_TARGET: '2' }, { AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: 'true' }])
    assert.equal(resolvePolicy(own(env), nothing).policy.subnetIds.length, 0);
});

test('variables are the source as a whole: settings no longer count', () => {
  const { policy, cooldownMs, source } = resolvePolicy(own({ WARM_IP_TARGET: '2', MAX_ENI: '2' }), known());
  assert.deepEqual(source, { kind: 'environment', variables: ['MAX_ENI', 'WARM_IP_TARGET'] });
  assert.deepEqual(policy.targets, {
    kind: 'incumbent',
    warmEnis: 1,
    warmPrefixes: 0,
    warmIps: 2,
    minimumIps: 0,
  });
  assert.deepEqual([policy.maxEnis, policy.podLimit, cooldownMs], [2, 20, 30_000]);
});

test('a NodeNetwork is the source as a whole, and variables are named as without effect', () => {
  const chosen = network({
    addressing: 'prefix',
    capacity: { minIdle: 3 },
    bounds: { maxAddresses: 64 },
    cooldown: '10s',
  });
  const { policy, cooldownMs, source, notes } = resolvePolicy(
    own({ WARM_IP_TARGET: '9' }),
    known({ network: chosen }),
  );
  assert.deepEqual(source, { kind: 'NodeNetwork', name: 'general', generation: 3 });
  assert.deepEqual(policy.targets, { kind: 'forecast', podsPerMinute: 6, maxIdlePercent: 100, minIdle: 3 });
  assert.deepEqual(
    [policy.addressing, policy.maxAddresses, policy.podLimit, cooldownMs],
    ['prefix', 64, 110, 10_000],
  );
  assert.deepEqual(notes, ['without effect beside the NodeNetwork general: WARM_IP_TARGET']);
});

test('pods: the NodeNetwork says, else the kubelet, else the type', () => {
  const node = { labels: {}, annotations: {}, pods: 12 };
  assert.equal(resolvePolicy(own(), known({ node })).policy.podLimit, 12);
  const chosen = network({ capacity: { maxPods: 40 } });
  assert.equal(resolvePolicy(own(), known({ node, network: chosen })).policy.podLimit, 40);
});

test('prefixes on a type without them: single addresses, and a note', () => {
  const limits = { ...m5Large, prefixes: false };
  const { policy, notes } = resolvePolicy(
    own({ ENABLE_PREFIX_DELEGATION: '1', WARM_PREFIX_TARGET: '1' }, { limits }),
    known(),
  );
  assert.deepEqual(
    [policy.addressing, notes],
    ['secondary', ['m5.large takes no prefixes: single addresses are used']],
  );
});

const role = (value: string) => ({ 'kubernetes.io/role/cni': value });
const forCluster = (name: string) => ({ ...role('1'), [`cni.networking.k8s.aws/cluster/${name}`]: 'shared' });
const discovery: [
  name: string,
  subnets: SubnetDescription[],
  env: Record<string, string>,
  ids: string[],
  excluded: string[],
][] = [
  ['untagged ones are not used', [subnet('subnet-own', 5), subnet('b', 9)], {}, ['subnet-own'], []],
  [
    'tagged ones are, most free first',
    [subnet('subnet-own', 5), subnet('b', 9, role('1')), subnet('c', 7, role('yes'))],
    {},
    ['b', 'c', 'subnet-own'],
    [],
  ],
  [
    'the own one can be excluded',
    [subnet('subnet-own', 5, role('0')), subnet('b', 9, role('1'))],
    {},
    ['b'],
    ['subnet-own'],
  ],
  [
    "another cluster's is excluded",
    [subnet('subnet-own', 5), subnet('b', 9, forCluster('x')), subnet('c', 1, forCluster('prod'))],
    { CLUSTER_NAME: 'prod' },
    ['subnet-own', 'c'],
    ['b'],
  ],
  [
    "without a cluster's name all clusters' count",
    [subnet('subnet-own', 5), subnet('b', 9, forCluster('x'))],
    {},
    ['b', 'subnet-own'],
    [],
  ],
  ['the own one counts when EC2 does not list it', [subnet('b', 9)], {}, ['subnet-own'], []],
  [
    'discovery off',
    [subnet('subnet-own', 5), subnet('b', 9, role('1'))],
    { ENABLE_SUBNET_DISCOVERY: 'false' },
    ['subnet-own'],
    [],
  ],
];
for (const [name, subnets, env, ids, excluded] of discovery) {
  test(`subnets: ${name}`, () => {
    const { policy } = resolvePolicy(own(env), known({ subnets }));
    assert.deepEqual([policy.subnetIds, policy.excludedSubnetIds, policy.noNewEni], [ids, excluded, null]);
  });
}

test('no subnet left: no new ENI, with the cause', () => {
  const subnets = [subnet('subnet-own', 5, role('0'))];
  for (const env of [{}, { ENABLE_SUBNET_DISCOVERY: 'false' }]) {
    const { policy } = resolvePolicy(own(env), known({ subnets }));
    assert.deepEqual([policy.noNewEni?.cause, policy.noNewEni?.object], ['NO_SUBNET', 'subnet-own']);
  }
});

test("a NodeNetwork's subnets and groups, by id or by tag, of the node's zone", () => {
  const subnets = [subnet('subnet-own', 5), subnet('subnet-0000000b', 9, { tier: 'pods' })];
  const byId = network({ subnets: { ids: ['subnet-0000000b', 'subnet-0000000c'] } });
  assert.deepEqual(resolvePolicy(own(), known({ subnets, network: byId })).policy.subnetIds, [
    'subnet-0000000b',
  ]);
  const byTag = network({ subnets: { tags: { tier: 'pods' } }, securityGroups: { tags: { for: 'pods' } } });
  const groups = [
    { id: 'sg-2', tags: { for: 'pods' } },
    { id: 'sg-1', tags: { for: 'pods', more: 'x' } },
    { id: 'sg-3', tags: {} },
  ];
  const { policy } = resolvePolicy(own(), known({ subnets, groups, network: byTag }));
  assert.deepEqual([policy.subnetIds, policy.groupIds], [['subnet-0000000b'], ['sg-1', 'sg-2']]);
  const none = network({ subnets: { tags: { tier: 'db' } } });
  const message =
    "no subnet of zone us-west-2a in the node's VPC has the tags tier=db, as the NodeNetwork general asks for";
  assert.deepEqual(resolvePolicy(own(), known({ subnets, network: none })).policy.noNewEni, {
    cause: 'NO_SUBNET',
    message,
    object: 'general',
  });
  assert.equal(
    resolvePolicy(own(), known({ subnets: null, network: byId })).policy.noNewEni?.cause,
    'AGENT_STARTING',
  );
  assert.equal(
    resolvePolicy(own(), known({ subnets, groups: [], network: byTag })).policy.noNewEni?.cause,
    'NO_SECURITY_GROUP',
  );
});

const CUSTOM = {
  AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: 'true',
  ENI_CONFIG_LABEL_DEF: 'topology.kubernetes.io/zone',
};
const eniConfig = (name: string, spec: object): EniConfig => ({ metadata: { name }, spec });
const pods = [subnet('subnet-own', 5), subnet('subnet-pods', 900)];

test("custom networking: the primary ENI gives nothing, new ones stand where the node's ENIConfig says", () => {
  const eniConfigs = ['external', 'annotated', 'us-west-2a', 'default'].map((name) =>
    eniConfig(name, { subnet: 'subnet-pods', securityGroups: [`sg-${name}`] }),
  );
  const groupsWith = (labels: Record<string, string>, annotations: Record<string, string>) =>
    resolvePolicy(
      own(CUSTOM),
      known({ subnets: pods, eniConfigs, node: { labels, annotations, pods: null } }),
    ).policy;
  const zone = { 'topology.kubernetes.io/zone': 'us-west-2a' };
  const annotation = { 'k8s.amazonaws.com/eniConfig': 'annotated' };
  const external = { 'vpc.amazonaws.com/externalEniConfig': 'external' };
  assert.deepEqual(groupsWith({ ...zone, ...external }, annotation).groupIds, ['sg-external']);
  assert.deepEqual(groupsWith(zone, annotation).groupIds, ['sg-annotated']);
  assert.deepEqual(groupsWith(zone, {}).groupIds, ['sg-us-west-2a']);
  assert.deepEqual(groupsWith({}, {}).groupIds, ['sg-default']);
  const policy = groupsWith(zone, {});
  assert.deepEqual(
    [policy.subnetIds, policy.primaryGives, policy.podLimit, policy.noNewEni],
    [['subnet-pods'], false, 20, null],
  );
});

const wrong: [eniConfigs: EniConfig[] | null, says: RegExp][] = [
  [null, /has not told the node's ENIConfig yet/],
  [[], /the ENIConfig default of this node does not exist/],
  [[eniConfig('default', {})], /names no subnet/],
  [
    [eniConfig('default', { subnet: 'subnet-far' })],
    /names subnet-far, which is no subnet of zone us-west-2a/,
  ],
  [[eniConfig('default', { subnet: 'subnet-pods', securityGroups: 'sg-1' })], /no list of ids/],
];
for (const [eniConfigs, says] of wrong) {
  test(`ENIConfig ${JSON.stringify(eniConfigs?.[0]?.spec ?? eniConfigs)}: no new ENI`, () => {
    const { policy } = resolvePolicy(own(CUSTOM), known({ subnets: pods, eniConfigs }));
    assert.equal(policy.noNewEni?.cause, 'ENI_CONFIG_INVALID');
    assert.match(policy.noNewEni!.message, says);
    assert.equal(policy.primaryGives, false);
  });
}

test('families: by the NodeNetwork, else by ENABLE_IPv6, else by the settings; never more than the node can have', () => {
  const settings = { cooldownMs: 30_000, families: 'dual', egress4: 'node' } as const;
  const of = (facts: OwnFacts, over: Partial<KnownFacts> = {}) => {
    const { policy, notes, source } = resolvePolicy(facts, known(over));
    return [policy.families, policy.podLimit, source.kind, notes.length];
  };
  assert.deepEqual(of(own()), ['ipv4', 29, 'settings', 0]);
  assert.deepEqual(of(own({}, { settings })), ['dual', 29, 'settings', 0]);
  assert.equal(resolvePolicy(own({}, { settings }), known()).policy.egress4, 'node');
  const ipv6 = own({ ENABLE_IPv6: 'true', ENABLE_IPv4: 'false' });
  assert.deepEqual(of(ipv6), ['ipv6', 110, 'environment', 0]);
  assert.deepEqual(of(own({ ENABLE_IPv6: 'true', ENABLE_IPv4: 'true' })), ['dual', 29, 'environment', 0]);
  assert.deepEqual(of(own({ ENABLE_IPv6: 'false', ENABLE_IPv4: 'true' })), ['ipv4', 29, 'settings', 0]);
  assert.deepEqual(of(ipv6, { network: network({ families: 'dual' }) }), ['dual', 29, 'NodeNetwork', 1]);
  const old = own({}, { settings, limits: { ...m5Large, prefixes: false } });
  assert.deepEqual(of(old), ['ipv4', 29, 'settings', 1]);
  assert.deepEqual(of(own({}, { settings, lacksIpv6: true })), ['ipv4', 29, 'settings', 1]);
  assert.deepEqual(of(own({}, { isSixOnly: true })), ['ipv6', 110, 'settings', 1]);
});

test('the primary family is that of the Services, where no setting says it and pods have both', () => {
  const of = (over: Partial<OwnFacts['settings']>, serviceFamily: KnownFacts['serviceFamily']) =>
    resolvePolicy(
      own({}, { settings: { cooldownMs: 0, families: 'dual', ...over } }),
      known({ serviceFamily }),
    ).policy.primaryFamily;
  assert.equal(of({}, null), undefined);
  assert.equal(of({}, 'ipv4'), undefined);
  assert.equal(of({}, 'ipv6'), 'ipv6');
  assert.equal(of({ primaryFamily: 'auto' }, 'ipv6'), 'ipv6');
  assert.equal(of({ primaryFamily: 'ipv4' }, 'ipv6'), undefined);
  assert.equal(of({ primaryFamily: 'ipv6' }, null), 'ipv6');
  assert.equal(of({ primaryFamily: 'ipv6', families: 'ipv4' }, 'ipv6'), undefined);
});

test('egress4 is the NodeNetwork’s where one counts, else the settings’', () => {
  const facts = own({}, { settings: { cooldownMs: 0, families: 'ipv6', egress4: 'node' } });
  const of = (spec: object) => resolvePolicy(facts, known({ network: network(spec) })).policy.egress4;
  assert.equal(of({ families: 'ipv6' }), 'none');
  assert.equal(of({ families: 'ipv6', egress4: 'node' }), 'node');
  assert.equal(resolvePolicy(facts, known()).policy.egress4, 'node');
  const read = readNodeNetwork({ metadata: { name: 'n' }, spec: { egress4: 'nat64' as never } });
  assert.ok(isRefused(read));
  assert.deepEqual(read.problems, ['spec.egress4 is "nat64", not one of none, node']);
});
