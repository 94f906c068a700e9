// The modes of policy under traffic, pods that start before their policies are known, what the flow log and the metrics
// tell, and the commands that write policies: on one lab.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CustomObjectsApi, type V1NetworkPolicy } from '@kubernetes/client-node';
import type { FlowEvent } from '../../src/policy/flows.ts';
import { type Allow, PolicyGround } from '../support/policy-ground.ts';
import { eventually } from '../support/wait.ts';
import { podway, skip } from './command.ts';
import { Lab } from './lab.ts';

/** x/a is reached from y alone. */
const ONLY_Y: V1NetworkPolicy = {
  metadata: { namespace: 'x', name: 'only-y' },
  spec: {
    podSelector: { matchLabels: { pod: 'a' } },
    policyTypes: ['Ingress'],
    ingress: [{ _from: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }] }],
  },
};
const closed: Allow = (from, to) => to.ns !== 'x' || to.pod !== 'a' || from.ns === 'y';
const open: Allow = () => true;
const MODE = 'podway.dev/policy';

describe('modes of NetworkPolicy, and what is told', { skip, timeout: 200_000 }, () => {
  const lab = new Lab('modes', [
    ...['--set', 'cooldown=0s', '--set', 'idleRelease=1s'],
    ...['--set', 'policyTimeout=isolate', '--set', 'flowLog=all'],
  ]);
  const ground = new PolicyGround(lab);
  const dir = mkdtempSync(join(tmpdir(), 'podway-modes-'));
  let objects: CustomObjectsApi;
  const observed = async (...args: string[]): Promise<FlowEvent[]> =>
    (await lab.ok('observe', '-o', 'json', ...args))
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as FlowEvent);
  const metricsOf = (node: string) =>
    lab.ok('lab', 'exec', node, '--', 'curl', '-s', 'http://127.0.0.1:9464/metrics');

  before(async () => {
    await lab.up();
    await ground.start();
    objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
    await ground.policies([ONLY_Y]);
    await ground.expect('enforced', 'TCP', [80], closed);
  });
  after(async () => {
    ground.close();
    rmSync(dir, { recursive: true, force: true });
    await lab.down();
  });

  // A connection of the moment in which the policy came into force is told without its object.
  const isExplained = ({ object }: FlowEvent): boolean => object !== undefined;

  it('tells each denied and allowed connection once, with the rule that decided', async () => {
    const denied = await eventually('it is told', async () => {
      assert.deepEqual(await ground.differences('TCP', [80], closed), []);
      const events = await observed('--pod', 'x/a', '--verdict', 'denied');
      return events.some(isExplained) ? events : undefined;
    });
    const { verdict, direction, protocol, from, to, tier, object, rule, node } = denied.find(isExplained)!;
    assert.deepEqual(
      { verdict, direction, protocol, tier, object, rule, node, port: to.port, pod: to.pod },
      {
        ...{ verdict: 'denied', direction: 'ingress', protocol: 'tcp', tier: 'networkpolicy' },
        ...{ object: 'networkpolicy x/only-y', rule: undefined, node: 'node-1', port: 80, pod: 'x/a' },
      },
    );
    assert.match(from.pod!, /^[xz]\/[abc]$/);
    const keys = denied.map((one) => JSON.stringify([one.from, one.to, one.protocol]));
    assert.equal(new Set(keys).size, keys.length, 'no connection is told twice');
    const allowed = await eventually('what is allowed is told', async () => {
      const events = (await observed('--pod', 'x/a', '--verdict', 'allowed')).filter(isExplained);
      return events.length > 0 && events;
    });
    for (const one of allowed) {
      assert.match(one.from.pod!, /^y\//);
      assert.deepEqual([one.object, one.rule], ['networkpolicy x/only-y', 0]);
    }
  });

  it('counts by verdict, direction and tier', async () => {
    const text = await metricsOf('node-1');
    const series =
      /podway_policy_judged_packets_total\{verdict="denied",direction="ingress",tier="networkpolicy"\} (\d+)/;
    assert.ok(Number(series.exec(text)?.[1]) > 0, text.slice(0, 2000));
    assert.match(text, /podway_policy_objects\{kind="policies"\} 1/);
  });

  it('traces say what the kernel counted, on the node that judges', async () => {
    const asked = async () => {
      const told = await lab.json<{ kernel: { node: string; direction: string; stages: object[] }[] }>(
        'policy',
        'trace',
        'z/a',
        'x/a:80',
      );
      assert.equal(told.kernel.length, 1);
      const [{ node, direction, stages }] = told.kernel as [(typeof told.kernel)[number]];
      assert.deepEqual([node, direction], ['node-1', 'ingress']);
      return stages as { tier: string; asked: number; undecided: number }[];
    };
    const [before] = await asked();
    assert.deepEqual(await ground.differences('TCP', [80], closed), []);
    const [after] = await asked();
    assert.equal(after!.tier, 'networkpolicy');
    // Each of the other eight has asked; the five of x and z in vain, some twice.
    assert.ok(after!.asked - before!.asked >= 8, JSON.stringify({ before, after }));
    assert.ok(after!.undecided - before!.undecided >= 5, JSON.stringify({ before, after }));
    const { stdout } = await lab.podway('policy', 'trace', 'z/a', 'x/a:80');
    assert.match(
      stdout,
      /kernel +node-1, ingress, pods of chain i_\w+: networkpolicy was asked of \d+ packets/,
    );
  });

  it('audits where a namespace says so: told as denied, and passed', async () => {
    await ground.labelNamespace('x', { [MODE]: 'audit' });
    await ground.expect('audited', 'TCP', [80], open);
    const events = await observed('--pod', 'x/a', '--verdict', 'audited');
    assert.ok(events.some(({ object }) => object === 'networkpolicy x/only-y'));
    const { stdout } = await lab.podway('policy', 'trace', 'z/a', 'x/a:80');
    assert.match(stdout, /allow/);
    assert.match(stdout, /audit: it passes/);
    await ground.labelNamespace('x', { [MODE]: 'off' });
    await ground.expect('off', 'TCP', [80], open);
    await ground.labelNamespace('x', { [MODE]: 'no-such-mode' });
    await ground.expect('a word that is not known closes', 'TCP', [80], closed);
    await ground.labelNamespace('x', { [MODE]: null });
  });

  it('goes off and on again by a NodeNetwork, and traffic goes on', async () => {
    const kind = { group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' };
    const body = (policy: string) => ({
      ...{ apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'all' } },
      spec: { policy },
    });
    await objects.createClusterCustomObject({ ...kind, body: body('audit') });
    await ground.expect('audit', 'TCP', [80], open);
    assert.match(await lab.ok('policy', 'show'), /node-1 audit generation/);
    const replace = async (policy: string) => {
      const known = (await objects.getClusterCustomObject({ ...kind, name: 'all' })) as object;
      await objects.replaceClusterCustomObject({
        ...kind,
        name: 'all',
        body: { ...known, spec: { policy } },
      });
    };
    await replace('off');
    await eventually('the tables go', async () => {
      const { stdout } = await lab.podway('lab', 'exec', 'node-1', '--', 'nft', 'list', 'tables');
      return !stdout.includes('podway-policy');
    });
    await ground.expect('off', 'TCP', [80, 81], open);
    await replace('enforce');
    await ground.expect('enforced again', 'TCP', [80], closed);
    await objects.deleteClusterCustomObject({ ...kind, name: 'all' });
  });

  it('a pod whose policies cannot be known reaches its node alone, until they are', {
    timeout: 60_000,
  }, async () => {
    const { nodes } = await lab.status();
    const sandbox = `pwt-${process.pid}-early`;
    const conf = [
      '--conf',
      nodes[0]!.cniConfDir,
      '--netns',
      `/run/netns/${sandbox}`,
      '--container-id',
      'early',
    ];
    const args = ['--args', 'IgnoreUnknown=1;K8S_POD_NAMESPACE=z;K8S_POD_NAME=early'];
    execFileSync('ip', ['netns', 'add', sandbox]);
    const reaches = (ip: string, port: number): boolean => {
      try {
        const command = ['netns', 'exec', sandbox, 'bash', '-c', `exec 3<>/dev/tcp/${ip}/${port}`];
        execFileSync('timeout', ['1', 'ip', ...command], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    };
    try {
      const { code, stdout } = await podway('cni', 'add', ...conf, ...args);
      assert.equal(code, 0, stdout);
      const added = JSON.parse(stdout) as { ips: { address: string }[] };
      const own = added.ips[0]!.address.split('/')[0]!;
      const node = nodes[0]!.ips[0]!;
      assert.equal(reaches(node, 9464), true, 'its node');
      assert.equal(reaches(ground.ipOf('z/b'), 80), false, 'a pod of its node');
      assert.equal(reaches(ground.ipOf('z/a'), 80), false, 'a pod of another node');
      assert.match(await metricsOf('node-1'), /podway_policy_isolated_pods 1/);
      await lab.ok('lab', 'exec', 'node-1', '--', 'ping', '-c', '1', '-W', '2', own);
      // Someone else's hands.
      await lab.ok('lab', 'exec', 'node-1', '--', 'nft', 'delete', 'table', 'inet', 'podway-isolated');
      await eventually('it is isolated again', () => !reaches(ground.ipOf('z/b'), 80));
      await ground.core.createNamespacedPod({
        namespace: 'z',
        body: {
          metadata: { name: 'early' },
          spec: { schedulerName: 'nobody', containers: [{ name: 'c', image: 'podway/pod' }] },
        },
      });
      await eventually('its policies are in force', () => reaches(ground.ipOf('z/b'), 80));
      const { stdout: tables } = await lab.podway('lab', 'exec', 'node-1', '--', 'nft', 'list', 'tables');
      assert.doesNotMatch(tables, /podway-isolated/);
    } finally {
      await podway('cni', 'del', ...conf, ...args);
      execFileSync('ip', ['netns', 'del', sandbox]);
    }
  });

  it('applies policies of a file, whole or not at all, and says before what they change', async () => {
    const file = join(dir, 'policy.yaml');
    const of = (name: string, spec: object) =>
      JSON.stringify({
        ...{
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { namespace: 'y', name },
          spec,
        },
      });
    const good = of('closed', { podSelector: { matchLabels: { pod: 'b' } }, policyTypes: ['Ingress'] });
    writeFileSync(file, [good, of('wrong', { podSelector: {}, moons: [] })].join('\n---\n'));
    const refused = await lab.podway('policy', 'apply', '-f', file);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /BAD_POLICY: .*document 2: networkpolicy y\/wrong: spec\.moons/);
    await ground.expect('nothing was written', 'TCP', [80], closed);
    writeFileSync(file, [good, of('closed', { podSelector: {} })].join('\n---\n'));
    assert.match((await lab.podway('policy', 'apply', '-f', file)).stderr, /BAD_POLICY: .*there twice/);
    // What the API alone can tell is asked before anything is written too.
    writeFileSync(file, [good, good.replace('"y"', '"nowhere"')].join('\n---\n'));
    const unplaced = await lab.podway('policy', 'apply', '-f', file);
    assert.match(unplaced.stderr, /API_REFUSED: networkpolicy nowhere\/closed: .*not found/);
    await ground.expect('nothing was written', 'TCP', [80], closed);
    writeFileSync(file, good);
    const diff = await lab.ok('policy', 'diff', '-f', file);
    assert.match(diff, /networkpolicy y\/closed: create/);
    assert.match(diff, /x\/a +y\/b +80\/tcp +allow +deny/);
    assert.match(await lab.ok('policy', 'apply', '-f', file), /networkpolicy y\/closed created/);
    assert.match(await lab.ok('policy', 'wait'), /2 policies are in force on 2 nodes/);
    await ground.expect('it is in force', 'TCP', [80], (from, to, port, at) =>
      to.ns === 'y' && to.pod === 'b' ? false : closed(from, to, port, at),
    );
    assert.match(await lab.ok('policy', 'apply', '-f', file), /networkpolicy y\/closed unchanged/);
  });
});
