// NetworkPolicies on real packets: Kubernetes' own cases and ours, by the agents of a lab with the embedded API, on one node
// and across two, by TCP, UDP and SCTP, in each family that the lab has. In each step all pairs are probed until they do
// as the case says. Of the generated cases one of each id; PODWAY_SOAK=1: all.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { networkPolicies } from '../../src/kube/index.ts';
import { runCase } from '../support/policy-case.ts';
import { generatedCases } from '../support/policy-cases-c.ts';
import { connectionCases } from '../support/policy-cases-e1.ts';
import { changeCases } from '../support/policy-cases-e2.ts';
import { ownCases } from '../support/policy-cases-x.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { PROTOCOLS } from '../support/policy-probes.ts';
import { oneOfEach } from '../support/policy-sample.ts';
import { full } from '../support/storm.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const generated = full ? generatedCases : oneOfEach(generatedCases, seed);

describe('NetworkPolicy', { skip, timeout: full ? 1_200_000 : 280_000 }, () => {
  const lab = new Lab('policy');
  const ground = new PolicyGround(lab);
  before(async () => {
    await lab.up();
    await ground.start();
  });
  after(async () => {
    ground.close();
    await lab.down();
  });
  const noTable = async () => {
    const { stdout } = await lab.podway('lab', 'exec', 'node-1', '--', 'nft', 'list', 'tables');
    assert.doesNotMatch(stdout, /podway-policy/);
  };

  it('without policies all is open, and the nodes have no table for them', async () => {
    await ground.expect('open', PROTOCOLS, PORTS, () => true);
    await noTable();
  });

  for (const one of [...connectionCases, ...changeCases, ...ownCases, ...generated])
    it(`${one.id} ${one.title}`, () => runCase(ground, one));

  it('E49 the API serves NetworkPolicies: discovery, every verb, watches', async () => {
    const { networking, client } = ground;
    const named = (name: string, spec = { podSelector: {} }) => ({
      metadata: { namespace: 'x', name, labels: { of: 'e49' } },
      spec,
    });
    const { resources } = await networking.getAPIResources();
    const kind = resources.find(({ name }) => name === 'networkpolicies')!;
    for (const verb of ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'])
      assert.ok(kind.verbs.includes(verb), verb);
    const { metadata } = await client.list(networkPolicies);
    const events: string[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      const all = client.watch(networkPolicies, { resourceVersion: metadata.resourceVersion! }, stop.signal);
      for await (const { type, object } of all) {
        events.push(`${type} ${object.metadata.name}`);
        if (events.length === 6) return;
      }
    })();
    for (const name of ['one', 'two'])
      await networking.createNamespacedNetworkPolicy({ namespace: 'x', body: named(name) });
    const one = await networking.readNamespacedNetworkPolicy({ namespace: 'x', name: 'one' });
    await networking.replaceNamespacedNetworkPolicy({
      ...{ namespace: 'x', name: 'one' },
      body: { ...one, spec: { podSelector: { matchLabels: { no: 'pod' } } } },
    });
    await client.patch(networkPolicies, 'two', 'x', { metadata: { labels: { patched: 'yes' } } });
    const labelSelector = 'of=e49';
    assert.equal((await networking.listNetworkPolicyForAllNamespaces({ labelSelector })).items.length, 2);
    await networking.deleteCollectionNamespacedNetworkPolicy({ namespace: 'x', labelSelector });
    assert.equal(
      (await networking.listNamespacedNetworkPolicy({ namespace: 'x', labelSelector })).items.length,
      0,
    );
    await Promise.race([watching, sleep(30_000)]);
    stop.abort();
    assert.deepEqual(events.slice(0, 4), ['ADDED one', 'ADDED two', 'MODIFIED one', 'MODIFIED two']);
    assert.deepEqual(events.slice(4).sort(), ['DELETED one', 'DELETED two']);
  });

  it('E50 the API refuses ranges that are none', async () => {
    const create = (port: object) =>
      ground.networking.createNamespacedNetworkPolicy({
        namespace: 'x',
        body: { metadata: { name: 'range' }, spec: { podSelector: {}, ingress: [{ ports: [port] }] } },
      });
    for (const wrong of [{ endPort: 81 }, { port: 'web', endPort: 81 }, { port: 80, endPort: 79 }])
      await assert.rejects(create(wrong), /"code":422|422/);
    for (const right of [
      { port: 80, endPort: 80 },
      { port: 80, endPort: 81 },
    ]) {
      await create(right);
      await ground.networking.deleteNamespacedNetworkPolicy({ namespace: 'x', name: 'range' });
    }
  });

  it('with the last policy the table goes, and all is open', async () => {
    await ground.policies([]);
    await ground.expect('open', PROTOCOLS, PORTS, () => true);
    await noTable();
  });
});
