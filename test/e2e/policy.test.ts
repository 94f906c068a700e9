// NetworkPolicies on real packets: Kubernetes' own cases, by the agents of a lab with the embedded API, on one node and
// across two. In each step all pairs are probed until they do as the case says.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { cases } from '../support/policy-cases.ts';
import { PolicyGround } from '../support/policy-ground.ts';
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

  it('without policies all is open, and the nodes have no table for them', async () => {
    for (const protocol of ['TCP', 'UDP', 'SCTP'] as const)
      await ground.expect('open', protocol, [80, 81], () => true);
    const { stdout } = await lab.podway('lab', 'exec', 'node-1', '--', 'nft', 'list', 'tables');
    assert.doesNotMatch(stdout, /podway-policy/);
  });

  for (const { id, title, steps, after: undo } of cases) {
    it(`${id} ${title}`, async () => {
      for (const { policies, before: change, protocol = 'TCP', ports = [80], allow, also } of steps) {
        await ground.policies(policies(ground));
        await change?.(ground);
        await ground.expect(id, protocol, ports, allow);
        if (also) await ground.expect(id, also.protocol, also.ports, also.allow);
      }
      await undo?.(ground);
    });
  }

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
    await ground.expect('open', 'TCP', [80, 81], () => true);
    const { stdout } = await lab.podway('lab', 'exec', 'node-1', '--', 'nft', 'list', 'tables');
    assert.doesNotMatch(stdout, /podway-policy/);
  });
});
