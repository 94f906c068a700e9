// ClusterNetworkPolicies on real packets, by a definition that a user brings: the conformance tests' cases (one of each id;
// all in test:soak), what the commands say of them, and what they leave alone.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { signalAgents } from '../support/agents.ts';
import { clusterCases } from '../support/policy-cases-k.ts';
import { ClusterPolicies } from '../support/policy-cluster.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { PROTOCOLS } from '../support/policy-probes.ts';
import { oneOfEach } from '../support/policy-sample.ts';
import { full } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';
import { PROBE, skip } from './command.ts';
import { Lab } from './lab.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const chosen = full ? clusterCases : oneOfEach(clusterCases, seed);
const of = (name: string) => ({ namespaces: { matchLabels: { ns: name } } });
const WORLD = { networks: ['0.0.0.0/0', '::/0'] };
const policy = (name: string, spec: object) => ({ metadata: { name }, spec });

describe(`ClusterNetworkPolicy, ${chosen.length} of ${clusterCases.length} cases`, {
  skip,
  timeout: 280_000,
}, () => {
  const lab = new Lab('cnp');
  const ground = new PolicyGround(lab, { namespaces: ['w', 'x', 'y', 'z'] });
  const cluster = new ClusterPolicies(ground);

  before(async () => {
    await lab.up();
    await ground.start();
    await cluster.define();
  });
  after(async () => {
    ground.close();
    await lab.down();
  });

  it('agents find a definition that comes later', async () => {
    const ingress = [
      { action: 'Deny' as const, from: [of('y')], protocols: [{ tcp: { destinationPort: { number: 80 } } }] },
    ];
    await cluster.policies([
      { ...policy('p', {}), spec: { tier: 'Admin', priority: 50, subject: of('x'), ingress } },
    ]);
    await eventually(
      '80 of x is closed to y',
      async () => (await ground.differences(PROTOCOLS, PORTS)).length === 0,
    );
  });

  for (const one of chosen) it(`${one.id} ${one.title}`, () => cluster.run(one));

  it('commands name the tier, the object and the rule', async () => {
    await ground.policies([
      {
        metadata: { namespace: 'x', name: 'np' },
        spec: { podSelector: { matchLabels: { pod: 'a' } }, policyTypes: ['Egress'], egress: [{}] },
      },
    ]);
    await cluster.policies([
      {
        metadata: { name: 'base' },
        spec: {
          ...{ tier: 'Baseline', priority: 1, subject: of('x') },
          egress: [{ action: 'Deny', to: [WORLD] }],
        },
      },
    ]);
    await ground.expect('in force', 'TCP', [80], (from) => from.ns !== 'x' || from.pod === 'a');
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

  it('X32 where all is denied, the node and the pod itself are reached all the same', async () => {
    await ground.policies([]);
    await cluster.policies([
      {
        metadata: { name: 'all' },
        spec: {
          ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
          ingress: [{ action: 'Deny', from: [WORLD] }],
          egress: [{ action: 'Deny', to: [WORLD] }],
        },
      },
    ]);
    await ground.expect('closed', PROTOCOLS, PORTS, () => false);
    const ip = ground.ipOf('x/c');
    const { answer } = await lab.ask('node-1', 'tcp', ip, '8080');
    assert.ok(answer?.startsWith('c '), 'the node reaches its pod');
    await ground.expectOwn('and the pod itself');
    const { ips } = (await lab.status()).nodes[0]!;
    const { stdout } = await lab.podway('pod', 'exec', '-n', 'x', 'c', '--', PROBE, 'ping', ips[0]!);
    assert.match(stdout, /answer/, 'and the pod its node');
  });

  it('X33 of two equal priorities the lower name is first, on both nodes and after a restart', async () => {
    const one = (name: string, action: 'Accept' | 'Deny') => ({
      metadata: { name },
      spec: {
        ...{ tier: 'Admin' as const, priority: 7, subject: of('x') },
        ingress: [{ action, from: [of('y')] }],
      },
    });
    await cluster.policies([one('b', 'Accept'), one('a', 'Deny')]);
    await ground.expect('denied', PROTOCOLS, PORTS, (from, to) => from.ns !== 'y' || to.ns !== 'x');
    signalAgents(lab.name, ['node-1', 'node-2'], 'SIGKILL');
    for (let look = 0; look < 4; look++) await ground.expectSteady(`look ${look}`);
  });

  it('X34 a rule that is not known closes, and the last policy opens all', async () => {
    await cluster.apply(
      policy('p', {
        ...{ tier: 'Admin', priority: 1, subject: of('x') },
        ingress: [
          { action: 'Accept', from: [{ moons: {} }] },
          { action: 'Deny', from: [of('y')] },
        ],
        egress: [{ action: 'Pass', to: [{ moons: {} }] }],
      }),
    );
    ground.cluster = [];
    await ground.expect(
      'closed',
      PROTOCOLS,
      PORTS,
      (from, to) => from.ns !== 'x' && (from.ns !== 'y' || to.ns !== 'x'),
    );
    await cluster.policies([]);
    await ground.expect('open', PROTOCOLS, PORTS, () => true);
  });
});
