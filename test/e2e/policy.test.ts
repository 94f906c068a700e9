// NetworkPolicies on real packets: Kubernetes' own cases and ours, by the agents of a lab with the embedded API, on one node
// and across two, by TCP, UDP and SCTP, in each family that the lab has. In each step all pairs are probed until they do
// as the case says. The generated cases are in test/soak/policy-cases.test.ts.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { runCase } from '../support/policy-case.ts';
import { connectionCases } from '../support/policy-cases-e1.ts';
import { changeCases } from '../support/policy-cases-e2.ts';
import { ownCases } from '../support/policy-cases-x.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { PROTOCOLS } from '../support/policy-probes.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

describe('NetworkPolicy', { skip, timeout: 280_000 }, () => {
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

  for (const one of [...connectionCases, ...changeCases, ...ownCases])
    it(`${one.id} ${one.title}`, () => runCase(ground, one));

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
