import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatCidr } from '../../base/ip.ts';
import { readEnvironment } from './incumbent-env.ts';

test('the mode of pods with branches is one of two words', () => {
  const read = (text: string) => readEnvironment({ POD_SECURITY_GROUP_ENFORCING_MODE: text });
  assert.equal(read('standard').network.podSecurityGroupEnforcingMode, 'standard');
  assert.deepEqual(read('standard').warnings, []);
  assert.equal(read('Strict').network.podSecurityGroupEnforcingMode, undefined);
  assert.match(read('Strict').warnings.join(), /ENFORCING_MODE is "Strict", not strict or standard/);
  assert.deepEqual(read('standard').pool.variables, []);
});

test('no variable of the AWS VPC CNI: no source and no warning', () => {
  const { pool, network, warnings } = readEnvironment({ PATH: '/bin', HOME: '/root', CLUSTER_NAME: 'a' });
  assert.deepEqual([pool.variables, network, warnings], [[], {}, []]);
});

test('its variables are read as it reads them', () => {
  const { pool, warnings } = readEnvironment({
    WARM_IP_TARGET: '5',
    MINIMUM_IP_TARGET: '+10',
    WARM_ENI_TARGET: '2',
    MAX_ENI: '4',
    ENABLE_PREFIX_DELEGATION: 'T',
    IP_COOLDOWN_PERIOD: '0',
    ENABLE_SUBNET_DISCOVERY: 'False',
    AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: '1',
    ENI_CONFIG_LABEL_DEF: 'topology.kubernetes.io/zone',
    CLUSTER_NAME: 'prod',
    ADDITIONAL_ENI_TAGS: '{"team":"web"}',
  });
  assert.deepEqual(warnings, []);
  assert.deepEqual(pool, {
    variables: [
      'ADDITIONAL_ENI_TAGS',
      'AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG',
      'CLUSTER_NAME',
      'ENABLE_PREFIX_DELEGATION',
      'ENABLE_SUBNET_DISCOVERY',
      'ENI_CONFIG_LABEL_DEF',
      'IP_COOLDOWN_PERIOD',
      'MAX_ENI',
      'MINIMUM_IP_TARGET',
      'WARM_ENI_TARGET',
      'WARM_IP_TARGET',
    ],
    families: null,
    usesPrefixes: true,
    targets: { kind: 'incumbent', warmEnis: 2, warmPrefixes: 0, warmIps: 5, minimumIps: 10 },
    maxEnis: 4,
    podEni: false,
    cooldownMs: 0,
    customNetworking: {
      annotationKey: 'k8s.amazonaws.com/eniConfig',
      labelKey: 'topology.kubernetes.io/zone',
    },
    subnetDiscovery: false,
    clusterName: 'prod',
    eniTags: { team: 'web', 'cluster.k8s.amazonaws.com/name': 'prod' },
  });
});

const cases: [
  env: Record<string, string>,
  field: (pool: ReturnType<typeof readEnvironment>['pool']) => unknown,
  value: unknown,
  warned: RegExp | null,
][] = [
  [{ WARM_ENI_TARGET: '-1' }, (pool) => pool.targets.warmEnis, 1, /WARM_ENI_TARGET is "-1"/],
  [{ WARM_ENI_TARGET: '0' }, (pool) => pool.targets.warmEnis, 0, null],
  [{ WARM_IP_TARGET: '5 ' }, (pool) => pool.targets.warmIps, 0, /WARM_IP_TARGET/],
  [{ WARM_IP_TARGET: '0x5' }, (pool) => pool.targets.warmIps, 0, /WARM_IP_TARGET/],
  [{ WARM_IP_TARGET: '' }, (pool) => pool.variables, [], null],
  [{ MAX_ENI: '0' }, (pool) => pool.maxEnis, null, null],
  [{ MAX_ENI: '-3' }, (pool) => pool.maxEnis, null, null],
  [{ ENABLE_PREFIX_DELEGATION: 'yes' }, (pool) => pool.usesPrefixes, false, /"yes", not true or false/],
  [
    { ENABLE_PREFIX_DELEGATION: 'true' },
    (pool) => pool.targets.warmPrefixes,
    1,
    /WARM_PREFIX_TARGET counts as 1/,
  ],
  [{ IP_COOLDOWN_PERIOD: '-1' }, (pool) => pool.cooldownMs, 30_000, /IP_COOLDOWN_PERIOD/],
  [{ WARM_IP_TARGET: '1', ADDITIONAL_ENI_TAGS: '[]' }, (pool) => pool.eniTags, {}, /ADDITIONAL_ENI_TAGS/],
  [
    {
      WARM_IP_TARGET: '1',
      ADDITIONAL_ENI_TAGS: '{"node.k8s.amazonaws.com/x":"1","aws:a":"2","b":3,"c":"d"}',
    },
    (pool) => pool.eniTags,
    { c: 'd' },
    /tags node\.k8s\.amazonaws\.com\/x, aws:a, b/,
  ],
  [{ ENABLE_POD_ENI: 'true' }, (pool) => [pool.podEni, pool.variables], [true, []], null],
  [{ WARM_IPS: '3' }, (pool) => pool.variables, [], /^unknown: WARM_IPS$/],
  [{ AWS_VPC_K8S_CNI_FOO: '3' }, (pool) => pool.variables, [], /^unknown: AWS_VPC_K8S_CNI_FOO$/],
  [
    { ENABLE_MULTI_NIC: 'true', MANAGE_UNTAGGED_ENI: 'true' },
    (pool) => pool.variables,
    [],
    /^without effect: ENABLE_MULTI_NIC \(.*MANAGE_UNTAGGED_ENI \(/,
  ],
];
for (const [env, field, value, warned] of cases) {
  test(`${JSON.stringify(env)}: ${JSON.stringify(value)}`, () => {
    const { pool, warnings } = readEnvironment(env);
    assert.deepEqual(field(pool), value);
    if (warned === null) assert.deepEqual(warnings, []);
    else assert.match(warnings.join('; '), warned);
  });
}

test('SNAT and MTU, each group only when one of its variables is set', () => {
  const network = (env: Record<string, string>) => readEnvironment(env).network;
  assert.deepEqual(network({ AWS_VPC_K8S_CNI_EXTERNALSNAT: 'false' }), {
    snat: 'random',
    excludeSnatCidrs: [],
  });
  assert.equal(network({ AWS_VPC_K8S_CNI_EXTERNALSNAT: 'true' }).snat, 'none');
  assert.equal(network({ AWS_VPC_K8S_CNI_RANDOMIZESNAT: 'none' }).snat, 'node');
  const excluded = network({ AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: '10.9.9.9/8, 192.168.0.0/16,fd00::/8,x' });
  assert.deepEqual(excluded.excludeSnatCidrs?.map(formatCidr), ['10.0.0.0/8', '192.168.0.0/16']);
  assert.deepEqual(network({ AWS_VPC_ENI_MTU: '1500' }), { eniMtu: 1500, podMtu: 1500 });
  assert.deepEqual(network({ AWS_VPC_ENI_MTU: '9001', POD_MTU: '1400' }), { eniMtu: 9001, podMtu: 1400 });
  assert.deepEqual(network({ POD_MTU: '99' }), {});
});

test('any text in any variable is read without an error', () => {
  const names = fc.constantFrom(
    'WARM_IP_TARGET',
    'MAX_ENI',
    'ADDITIONAL_ENI_TAGS',
    'POD_MTU',
    'ENABLE_SUBNET_DISCOVERY',
    'AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS',
    'IP_COOLDOWN_PERIOD',
  );
  fc.assert(
    fc.property(fc.dictionary(names, fc.oneof(fc.string(), fc.json(), fc.integer().map(String))), (env) => {
      const { pool } = readEnvironment(env);
      assert.ok(pool.cooldownMs >= 0 && pool.targets.warmIps >= 0 && (pool.maxEnis ?? 1) >= 1);
    }),
  );
});

test('the page of the configuration names every variable that is known', () => {
  const page = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
  const source = readFileSync(new URL('./incumbent-env.ts', import.meta.url), 'utf8');
  const named = [...source.matchAll(/^ {2}'?([A-Z][A-Za-z0-9_]+_[A-Za-z0-9_]+)'?[:,]/gm)].map(
    ([, name]) => name!,
  );
  assert.ok(named.length > 40);
  assert.deepEqual(
    named.filter((name) => !page.includes(`\`${name}\``)),
    [],
  );
});
