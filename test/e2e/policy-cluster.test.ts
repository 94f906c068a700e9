// ClusterNetworkPolicies on real packets, by a definition that a user brings: tiers, priorities, ports, networks, and what
// the commands say of them.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { KubeClient, type KubeObject, readKubeConfig, resource } from '../../src/kube/index.ts';
import { clusterNetworkPolicies } from '../../src/kube/resources.ts';
import { type Allow, PolicyGround } from '../support/policy-ground.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const definitions = resource<KubeObject & { spec: unknown }>(
  'apiextensions.k8s.io/v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'Cluster',
);
const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const definition = {
  metadata: { name: 'clusternetworkpolicies.policy.networking.k8s.io' },
  spec: {
    group: 'policy.networking.k8s.io',
    scope: 'Cluster',
    names: {
      ...{ plural: 'clusternetworkpolicies', singular: 'clusternetworkpolicy' },
      ...{ kind: 'ClusterNetworkPolicy', listKind: 'ClusterNetworkPolicyList', shortNames: ['cnp'] },
    },
    versions: [
      {
        ...{ name: 'v1alpha2', served: true, storage: true, subresources: { status: {} } },
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: free, status: free } } },
      },
    ],
  },
};
const kind = clusterNetworkPolicies.find(({ version }) => version === 'v1alpha2')!;

const of = (name: string) => ({ namespaces: { matchLabels: { ns: name } } });
const rule = (action: string, peers: object[], field: 'from' | 'to', port?: number) => ({
  action,
  [field]: peers,
  ...(port === undefined ? {} : { protocols: [{ tcp: { destinationPort: { number: port } } }] }),
});
const policy = (name: string, spec: object) => ({ metadata: { name }, spec });
const fromY = (action: string, port?: number) => [rule(action, [of('y')], 'from', port)];

describe('ClusterNetworkPolicy', { skip, timeout: 200_000 }, () => {
  const lab = new Lab('cnp');
  const ground = new PolicyGround(lab);
  let client: KubeClient;
  const made = new Set<string>();
  /** Exactly these. */
  const apply = async (...wanted: ReturnType<typeof policy>[]) => {
    for (const name of made) await client.delete(kind, name);
    made.clear();
    for (const one of wanted) {
      await client.create(kind, one);
      made.add(one.metadata.name);
    }
  };
  const xFromY =
    (allow: (port: number) => boolean): Allow =>
    (from, to, port) =>
      from.ns !== 'y' || to.ns !== 'x' || allow(port);

  before(async () => {
    await lab.up();
    await ground.start();
    client = new KubeClient(await readKubeConfig((await lab.status()).kubeconfig));
    await client.create(definitions, definition);
    await eventually('the kind is served', () =>
      client.list(kind).then(
        () => true,
        () => false,
      ),
    );
  });
  after(async () => {
    ground.close();
    client?.close();
    await lab.down();
  });

  it('agents find a definition that comes later', { timeout: 90_000 }, async () => {
    await apply(policy('p', { tier: 'Admin', priority: 50, subject: of('x'), ingress: fromY('Deny', 80) }));
    const isClosed = async () =>
      (
        await ground.differences(
          'TCP',
          [80, 81],
          xFromY((port) => port !== 80),
        )
      ).length === 0;
    await eventually('80 of x is closed to y', isClosed, 60_000);
  });

  it('a lower number is judged first, and a pass leaves the tier', async () => {
    const deny = policy('deny', {
      ...{ tier: 'Admin', priority: 50, subject: of('x'), ingress: fromY('Deny') },
    });
    const pass = (priority: number) =>
      policy('pass', { tier: 'Admin', priority, subject: of('x'), ingress: fromY('Pass', 81) });
    await apply(deny, pass(60));
    await ground.expect(
      'passed too late',
      'TCP',
      [80, 81],
      xFromY(() => false),
    );
    await apply(deny, pass(40));
    await ground.expect(
      'passed first',
      'TCP',
      [80, 81],
      xFromY((port) => port === 81),
    );
    await ground.expect(
      'another protocol',
      'UDP',
      [81],
      xFromY(() => false),
    );
  });

  it('a NetworkPolicy comes before the baseline, and networks are addresses of pods too', async () => {
    const world = { networks: ['0.0.0.0/0'] };
    await apply(
      policy('base', {
        ...{ tier: 'Baseline', priority: 1, subject: of('x') },
        egress: [rule('Deny', [world], 'to')],
      }),
    );
    await ground.expect('all that x sends is denied', 'TCP', [80], (from) => from.ns !== 'x');
    await ground.policies([
      {
        metadata: { namespace: 'x', name: 'np' },
        spec: { podSelector: { matchLabels: { pod: 'a' } }, policyTypes: ['Egress'], egress: [{}] },
      },
    ]);
    await ground.expect('but of x/a', 'TCP', [80], (from) => from.ns !== 'x' || from.pod === 'a');
    const { stdout } = await lab.podway('policy', 'trace', 'x/b', 'y/a:80', '-o', 'json');
    const { verdict, egress } = JSON.parse(stdout) as {
      verdict: string;
      egress: { tier: string; object: string; rule: number };
    };
    assert.deepEqual(
      { verdict, tier: egress.tier, object: egress.object, rule: egress.rule },
      { verdict: 'deny', tier: 'baseline', object: 'clusternetworkpolicy base', rule: 0 },
    );
    const list = await lab.podway('policy', 'list');
    assert.match(list.stdout, /^- +base +baseline 1 +egress +3 +1/m);
    assert.match((await lab.podway('policy', 'wait')).stdout, /2 policies are in force on 2 nodes/);
  });

  it('a rule that is not known closes, and the last policy opens all', async () => {
    await ground.policies([]);
    await apply(
      policy('p', {
        ...{ tier: 'Admin', priority: 1, subject: of('x') },
        ingress: [{ action: 'Accept', from: [{ moons: {} }] }, ...fromY('Deny')],
        egress: [{ action: 'Pass', to: [{ moons: {} }] }],
      }),
    );
    await ground.expect(
      'closed',
      'TCP',
      [80],
      (from, to) => from.ns !== 'x' && (from.ns !== 'y' || to.ns !== 'x'),
    );
    await apply();
    await ground.expect('open', 'TCP', [80, 81], () => true);
  });
});
