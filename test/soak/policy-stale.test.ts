// Address reuse and policies: an address leaves every node's sets within its cooldown, so that who gets it next has none of
// its rights. A node that hears nothing of pods for longer than that is outside the bound, and says so.
// PODWAY_SOAK=1 only: addresses rest, and a watch is waited for.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CoreV1Api, NetworkingV1Api } from '@kubernetes/client-node';
import type { ShownView } from '../../src/cli/cluster/policies.ts';
import { Lab } from '../e2e/lab.ts';
import { full, skip } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';

const lacks = skip || (full ? false : 'PODWAY_SOAK=1 runs it');

const COOLDOWN_S = 6;
const API = '169.254.169.11';

describe('policies of a node that hears nothing', { skip: lacks, timeout: 180_000 }, () => {
  const lab = new Lab('stale', [
    '--set',
    `cooldown=${COOLDOWN_S}s`,
    '--set',
    'warm=0',
    '--set',
    'idleRelease=1h',
  ]);
  let core: CoreV1Api;
  const nft = (...words: string[]) => lab.ok('lab', 'exec', 'node-2', '--', 'nft', ...words);
  const viewOf = async (node: string) =>
    (await lab.json<ShownView[]>('policy', 'show')).find((one) => one.node === node) as Extract<
      ShownView,
      { silentMs: number }
    >;
  const conditionOf = async (node: string) =>
    (await core.readNode({ name: node })).status?.conditions?.find(
      ({ type }) => type === 'PodwayPolicyCurrent',
    );
  const server = async () => (await lab.pods()).find(({ name }) => name === 'server')!.ips[0]!;
  const reaches = async (pod: string): Promise<boolean> =>
    (await lab.askFrom(pod, 'tcp', await server(), '8080')).answer !== undefined;
  /** Pods come until one has the address. */
  const takeOver = async (ip: string, prefix: string): Promise<string> => {
    for (let at = 0; at < 40; at++) {
      const pod = await lab.run(`${prefix}-${at}`, '--node', 'node-1', '--timeout', '60s');
      if (pod.ips[0] === ip) return pod.name;
    }
    throw new Error(`nobody was given ${ip}`);
  };

  before(async () => {
    await lab.up();
    const config = await lab.kube();
    core = config.makeApiClient(CoreV1Api);
    await lab.run('server', '--node', 'node-2');
    await lab.run('friend', '--node', 'node-1', '--label', 'friend=yes');
    await config.makeApiClient(NetworkingV1Api).createNamespacedNetworkPolicy({
      namespace: 'default',
      body: {
        metadata: { name: 'friends' },
        spec: {
          podSelector: {},
          ingress: [{ _from: [{ podSelector: { matchLabels: { friend: 'yes' } } }] }],
        },
      },
    });
    await lab.ok('policy', 'wait');
  });
  after(() => lab.down());

  it('says that it hears while it does, and is not asked for more', async () => {
    assert.equal(await reaches('friend'), true);
    const said = await eventually('the condition is there', () => conditionOf('node-2'));
    assert.deepEqual([said.status, said.reason], ['True', 'Hearing']);
    assert.equal((await viewOf('node-2')).isCurrent, true);
  });

  it('within the bound the next pod of an address has no rights of the one before', async () => {
    const { ips } = (await lab.pods()).find(({ name }) => name === 'friend')!;
    await lab.delete('friend');
    const next = await takeOver(ips[0]!, 'next');
    assert.equal(await reaches(next), false);
  });

  it('a silent node says so, is outside the bound, and comes back into it', async () => {
    const { ips } = await lab.run('friend', '--node', 'node-1', '--label', 'friend=yes');
    await eventually('it is a friend', () => reaches('friend'));
    await nft('add table inet deaf; add chain inet deaf in { type filter hook input priority -300; }');
    await nft(`add rule inet deaf in ip saddr ${API} drop`);
    await eventually('it says so', async () => !(await viewOf('node-2')).isCurrent, 30_000);
    assert.equal((await viewOf('node-1')).isCurrent, true);
    assert.match(await lab.ok('policy', 'show'), /node-2 .*has heard nothing of pods for \d+ s/);
    const metrics = await lab.ok(
      'lab',
      'exec',
      'node-2',
      '--',
      'curl',
      '-s',
      'http://127.0.0.1:9464/metrics',
    );
    const silence = Number(/^podway_policy_silence_seconds (\S+)$/m.exec(metrics)?.[1]);
    assert.ok(silence > COOLDOWN_S, `${silence}`);
    await lab.delete('friend');
    const next = await takeOver(ips[0]!, 'late');
    assert.equal(await reaches(next), true, 'the rights of the pod before');
    await nft('delete table inet deaf');
    await eventually('its rights end', async () => !(await reaches(next)), 60_000);
    await eventually('it hears again', async () => (await viewOf('node-2')).isCurrent, 30_000);
    const { items } = await core.listNamespacedEvent({ namespace: 'default' });
    assert.ok(
      items.some(
        ({ reason, message }) => reason === 'PolicyStale' && /longer than addresses rest/.test(message ?? ''),
      ),
    );
    const said = await conditionOf('node-2');
    assert.equal(said?.status, 'True');
  });
});
