// Branch interfaces under a storm: pods come and go on three nodes while EC2 loses answers, throttles and describes late, somebody
// takes branches off their trunks, and the controller is killed at random. A VLAN id is never two pods', one that was just
// used rests, and in the end nothing is left. The real keeper on the embedded API, EC2 in memory, time a hundred times as fast.
// PODWAY_SOAK=1: 2,000 pods; else 60.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { limitsFromTable } from '../../src/cloud/limits.ts';
import { CloudError, type EniId } from '../../src/cloud/port.ts';
import { FakeCloud } from '../../src/cloud/testing.ts';
import { BranchKeeper } from '../../src/controller/branch/keeper.ts';
import { clock } from '../../src/controller/branch/testing.ts';
import { QUARANTINE } from '../../src/controller/branch/vlans.ts';
import { createMetrics } from '../../src/controller/metrics.ts';
import { ClusterView } from '../../src/controller/view.ts';
import {
  decodePodEnis,
  nodes,
  POD_ENI,
  type Pod,
  pods,
  securityGroupPolicies,
} from '../../src/kube/index.ts';
import { PolicyView } from '../../src/kube/pod-groups-view.ts';
import { startApi } from '../../src/lab/cluster/api/testing.ts';
import { installDefinitions } from '../../src/lab/cluster/definitions.ts';

const PODS = process.env['PODWAY_SOAK'] ? 2_000 : 60;
const NODES = ['n-1', 'n-2', 'n-3'];
/** m5.large. */
const LIMIT = 9;
const COOLDOWN = QUARANTINE;

const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const chance = (share: number) => Math.random() < share;
const instanceOf = (node: string) => `i-0${node.slice(2)}`;

/** EC2 that fails and forgets, and keeps the rule of VLAN ids by its own book. */
class Storm extends FakeCloud {
  calm = false;
  readonly broken: string[] = [];
  /** By trunk and id: whose it was last, and until when (by the storm's clock). */
  readonly #ends = new Map<string, { pod: string; at: number }>();

  constructor() {
    super({ subnets: { 'subnet-0a': '10.0.0.0/19' }, branchEnis: LIMIT });
    for (const node of NODES) this.addInstanceEni({ deviceIndex: 0, instanceId: instanceOf(node) });
    this.before = async (action) => {
      await rest(Math.random() * 3);
      if (!this.calm && chance(0.04)) throw new CloudError(action, 'RequestLimitExceeded', 'storm');
    };
    this.after = async (action) => {
      await rest(Math.random() * 2);
      if (!this.calm && chance(0.05)) throw new CloudError(action, 'Timeout', 'the answer is lost', true);
    };
  }

  override async associateTrunk(request: Parameters<FakeCloud['associateTrunk']>[0]): Promise<string> {
    const pod = this.enis.get(request.branchId)?.tags['podway.io/pod-uid'] ?? '';
    const end = this.#ends.get(`${request.trunkId} ${request.vlanId}`);
    if (end && end.pod !== pod && clock.now() - end.at < QUARANTINE)
      this.broken.push(
        `${request.vlanId} was ${end.pod}'s ${clock.now() - end.at} ms before it became ${pod}'s`,
      );
    return super.associateTrunk(request);
  }

  override dropAssociation(id: string): void {
    const { trunkId, vlanId, branchId } = this.trunkAssociations.get(id)!;
    const pod = this.enis.get(branchId)?.tags['podway.io/pod-uid'] ?? '';
    this.#ends.set(`${trunkId} ${vlanId}`, { pod, at: clock.now() });
    super.dropAssociation(id);
  }

  branches(): EniId[] {
    return [...this.enis.values()]
      .filter(({ tags }) => tags['podway.io/purpose'] === 'branch')
      .map(({ id }) => id);
  }
}

async function until(what: string, isSo: () => Promise<boolean> | boolean, boundMs = 60_000): Promise<void> {
  const end = performance.now() + boundMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < end, `${what}: not within ${boundMs / 1000} s`);
    await rest(20);
  }
}

test('pods with branches come and go in a storm: no VLAN id twice, nothing left', {
  timeout: 600_000,
}, async () => {
  await using api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  const cloud = new Storm();
  const labels = { 'node.kubernetes.io/instance-type': 'm5.large' };
  for (const name of NODES)
    await client.create(nodes, {
      metadata: { name, labels },
      spec: { providerID: `aws:///us-west-2a/${instanceOf(name)}` },
    });
  const securityGroups = { groupIds: ['sg-0nodes'] };
  await client.create(securityGroupPolicies, {
    metadata: { name: 'all', namespace: 'default' },
    spec: { podSelector: {}, securityGroups },
  });

  const log = pino({ level: process.env['PODWAY_LOG'] ?? 'silent' });
  const metrics = createMetrics();
  let end = new AbortController();
  let kept: Promise<unknown> = Promise.resolve();
  const start = () => {
    const term = new AbortController();
    end = term;
    const view = new ClusterView();
    const policies = new PolicyView(client, clock);
    const keeper = new BranchKeeper({
      ...{ view, policies, client, cloud, metrics, log, clock, cooldown: COOLDOWN },
      events: { record: () => {} },
      isLeading: () => !term.signal.aborted,
      limitsOf: (type) => limitsFromTable(type),
    });
    const { signal } = term;
    kept = Promise.all([
      view.follow(client, log, signal),
      policies.follow(client, log, signal),
      keeper.keep(signal),
    ]);
  };
  const kill = async () => {
    end.abort(new Error('killed'));
    await kept;
    start();
  };
  start();
  await using _over = {
    async [Symbol.asyncDispose]() {
      end.abort(new Error('over'));
      await kept;
    },
  };

  const resources = { limits: { [POD_ENI]: '1' }, requests: { [POD_ENI]: '1' } };
  const live = new Map<string, string>();
  const remove = async (name: string) => {
    live.delete(name);
    await client.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
  };
  const check = async () => {
    assert.deepEqual(cloud.broken, []);
    const seen = new Map<string, string>();
    for (const pod of (await client.list(pods, { namespace: 'default' })).items) {
      const text = pod.metadata.annotations?.[POD_ENI];
      if (text === undefined) continue;
      const key = `${pod.spec.nodeName} ${decodePodEnis(text)[0]!.vlanId}`;
      assert.equal(seen.get(key), undefined, `${key} is ${pod.metadata.name}'s and another's`);
      seen.set(key, pod.metadata.name!);
    }
  };
  for (let made = 0; made < PODS; ) {
    const full = live.size >= NODES.length * LIMIT - 4;
    if (!full && chance(0.6)) {
      const name = `p-${made++}`;
      const counts = NODES.map((node) => [...live.values()].filter((one) => one === node).length);
      const nodeName = NODES[counts.indexOf(Math.min(...counts))]!;
      live.set(name, nodeName);
      const pod: Pod = {
        metadata: { name, namespace: 'default' },
        spec: { nodeName, containers: [{ name: 'c', image: 'x', resources }] },
      };
      await client.create(pods, pod);
    } else if (live.size > 0) await remove([...live.keys()][Math.floor(Math.random() * live.size)]!);
    if (chance(0.02) && cloud.trunkAssociations.size > 0)
      cloud.dropAssociation([...cloud.trunkAssociations.keys()][0]!);
    if (chance(0.05)) await kill();
    if (chance(0.2)) await rest(100);
    if (chance(0.1)) await check();
  }
  cloud.calm = true;
  await until('every pod has its branch', async () => {
    const all = (await client.list(pods, { namespace: 'default' })).items;
    return all.every(({ metadata }) => metadata.annotations?.[POD_ENI] !== undefined);
  });
  await check();
  // Each is on its trunk as its pod was told, also those that were taken off it.
  await until('every branch is on its trunk', async () => {
    const all = (await client.list(pods, { namespace: 'default' })).items;
    return all.every(({ metadata }) => {
      const [eni] = decodePodEnis(metadata.annotations![POD_ENI]!);
      return [...cloud.trunkAssociations.values()].some(
        ({ branchId, vlanId }) => branchId === eni!.eniId && vlanId === eni!.vlanId,
      );
    });
  });
  await kill();
  for (const name of [...live.keys()]) await remove(name);
  await until('nothing is left', () => cloud.branches().length === 0 && cloud.trunkAssociations.size === 0);
  assert.deepEqual(cloud.broken, []);
  const trunks = [...cloud.enis.values()].filter(({ interfaceType }) => interfaceType === 'trunk');
  assert.equal(trunks.length, NODES.length, 'one trunk each');
});
