// Leaders that follow each other while calls of the one before are still under way, with lost answers: in the end each
// pod has one branch, under a VLAN id of its own, as its annotation says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../../cloud/port.ts';
import { FakeCloud } from '../../cloud/testing.ts';
import { pods } from '../../kube/index.ts';
import { startApi } from '../../lab/cluster/api/testing.ts';
import { installDefinitions } from '../../lab/cluster/definitions.ts';
import { Bench } from './testing.ts';

const NODES = ['n-1', 'n-2'];
const ROUNDS = process.env['PODWAY_SOAK'] ? 60 : 8;
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const chance = (share: number) => Math.random() < share;

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 1_500; tries++) {
    if (await isSo()) return;
    await rest(20);
  }
  assert.fail(`${what}: not within 30 s`);
}

test('never twice, whoever leads', async () => {
  let isCalm = false;
  const cloud = new FakeCloud({
    // As long as a second of the keeper's time: a leader goes in the middle of many.
    before: () => rest(Math.random() * 10),
    after: async (action) => {
      await rest(Math.random() * 10);
      if (!isCalm && chance(0.1)) throw new CloudError(action, 'Timeout', 'the answer is lost', true);
    },
  });
  await using api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  await using bench = new Bench(client, cloud);
  for (const [index, name] of NODES.entries()) await bench.addNode(name, `i-0${index + 1}`);
  bench.start();
  const live = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const node of NODES) {
      const name = `p-${round}-${node}`;
      await bench.addPod(name, node);
      live.add(name);
    }
    if (live.size > 10)
      for (const name of [...live].slice(0, 4)) {
        await client.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
        live.delete(name);
      }
    await rest(Math.random() * 60);
    bench.abandon();
    bench.start();
    const ids = [...cloud.trunkAssociations.values()].map(({ trunkId, vlanId }) => `${trunkId} ${vlanId}`);
    assert.equal(new Set(ids).size, ids.length);
  }
  isCalm = true;
  for (const name of live)
    await until(`${name} has its branch`, async () => (await bench.branchOf(name)) !== null);
  const branches = () =>
    [...cloud.enis.values()].filter(({ tags }) => tags['podway.io/purpose'] === 'branch');
  await until('no other is left', () => branches().length === live.size);
  await until('each is on its trunk as its pod was told', async () => {
    const told = await Promise.all([...live].map((name) => bench.branchOf(name)));
    return told.every((one) =>
      [...cloud.trunkAssociations.values()].some(
        ({ id, branchId, vlanId }) =>
          branchId === one!.eniId && vlanId === one!.vlanId && id === one!.associationId,
      ),
    );
  });
  const trunks = [...cloud.enis.values()].filter(({ interfaceType }) => interfaceType === 'trunk');
  assert.equal(trunks.filter(({ attachment }) => attachment).length, NODES.length, 'one trunk each');
});
