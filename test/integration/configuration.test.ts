// The agent's configuration against the embedded Kubernetes API: what it follows, what it keeps while the API is away,
// and what it writes on NodeNetworks.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Configuration } from '../../src/agent/configuration.ts';
import { watchConfiguration } from '../../src/agent/configuration-watch.ts';
import { parseCidr } from '../../src/base/ip.ts';
import { type InstanceLimits, podsOf } from '../../src/cloud/limits.ts';
import { CloudError, type SubnetDescription } from '../../src/cloud/port.ts';
import { FakeCloud } from '../../src/cloud/testing.ts';
import { readEnvironment } from '../../src/ipam/config/incumbent-env.ts';
import { countPool } from '../../src/ipam/plan/census.ts';
import type { PoolPolicy } from '../../src/ipam/policy.ts';
import type { PoolSettings } from '../../src/ipam/settings.ts';
import { emptyPool } from '../../src/ipam/state.ts';
import { identityOf, m5Large } from '../../src/ipam/testkit.ts';
import * as kube from '../../src/kube/index.ts';
import { type Harness, startApi } from '../../src/lab/cluster/api/testing.ts';
import { installDefinitions } from '../../src/lab/cluster/definitions.ts';
import { eventually } from '../support/wait.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

type Started = {
  configuration: Configuration;
  /** The policies that were set, newest last. */
  set: { policy: PoolPolicy; cooldownMs: number | undefined }[];
  told: string[];
  /** What the log has as warnings. */
  warned: string[];
  /** How often the node's network was to follow egress4. */
  egress: () => number;
  /** EC2 says so of the type. */
  learn(limits: InstanceLimits): void;
  stop(): Promise<void>;
};

/** Without an API when `h` is null. */
function start(
  h: Harness | null,
  dir: string,
  env: Record<string, string> = {},
  subnets: () => Promise<SubnetDescription[]> = async () => [],
  { settings = {}, refusal }: { settings?: Partial<PoolSettings>; refusal?: Error } = {},
): Started {
  const cloud = new FakeCloud({});
  const set: Started['set'] = [];
  const told: string[] = [];
  const warned: string[] = [];
  const log = { ...silent, warn: (_about: object, text: string) => void warned.push(text) };
  let egress = 0;
  const identity = identityOf(cloud, m5Large);
  let limits: InstanceLimits = m5Large;
  const configuration = new Configuration({
    own: {
      zone: identity.zone,
      subnetId: identity.primary.subnetId,
      settings: { warm: 5, cooldownMs: 30_000, idleReleaseMs: 60_000, ...settings },
      environment: readEnvironment(env).pool,
    },
    identity,
    pool: {
      setPolicy: (policy, cooldownMs) => void set.push({ policy, cooldownMs }),
      counts: () => ({ ...countPool(emptyPool, 0), waiting: 0 }),
      enis: () => [],
      cloud: { ...cloud, describeVpcSubnets: subnets } as unknown as FakeCloud,
      state: emptyPool,
      get limits() {
        return limits;
      },
      trunk: null,
      isReachable: true,
    },
    file: join(dir, 'configuration.json'),
    log,
    onEgress: () => {
      egress++;
    },
    events: { node: (_type, reason, text) => void told.push(`${reason}: ${text}`) },
  });
  const abort = new AbortController();
  const api = {
    isConfigured: true,
    nodeName: 'node-1',
    pods: async () => [],
    close: () => {},
    async connect() {
      if (!h) throw new Error('away');
      const client = new kube.KubeClient(await kube.readKubeConfig(h.kubeconfigPath));
      if (refusal) client.get = () => Promise.reject(refusal);
      return { kube, client };
    },
  };
  const running = Promise.all([
    watchConfiguration(api, configuration, log, abort.signal, { nodeUID: null }),
    configuration.keep(abort.signal),
  ]);
  return {
    configuration,
    set,
    told,
    warned,
    egress: () => egress,
    learn(found) {
      limits = found;
    },
    async stop() {
      abort.abort();
      await running;
    },
  };
}

async function harness() {
  const h = await startApi();
  const dir = mkdtempSync(join(tmpdir(), 'podway-configuration-'));
  h.api.store.create(kube.nodes, { metadata: { name: 'node-1', labels: { pool: 'web' } } });
  return {
    h,
    dir,
    put: (name: string, spec: object) =>
      h.client.create(kube.nodeNetworks, { metadata: { name }, spec } as kube.NodeNetwork),
    async [Symbol.asyncDispose]() {
      rmSync(dir, { recursive: true, force: true });
      await h[Symbol.asyncDispose]();
    },
  };
}

const sourceOf = ({ configuration }: Started): string => {
  const { source } = configuration.current;
  return source.kind === 'NodeNetwork' ? source.name : source.kind;
};

test('without definitions the settings count; the node’s kubelet bounds its pods', async () => {
  await using t = await harness();
  const node = await t.h.client.get(kube.nodes, 'node-1');
  await t.h.client.updateStatus(kube.nodes, { ...node, status: { capacity: { pods: '17' } } });
  const started = start(t.h, t.dir);
  await eventually('the kubelet’s max-pods counts', () => started.set.at(-1)?.policy.podLimit === 17);
  assert.equal(sourceOf(started), 'settings');
  await started.stop();
});

test('what EC2 says of the type bounds the pods for which addresses are kept', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-configuration-'));
  const agent = start(null, dir);
  assert.equal(agent.configuration.current.policy.podLimit, 29);
  agent.learn({ ...m5Large, enis: 2, ipv4PerEni: 6, pods: podsOf(2, 6) });
  await eventually('the pod limit follows', () => agent.set.at(-1)?.policy.podLimit === 12);
  await agent.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('a new node waits for the API for a bounded time', async () => {
  await using t = await harness();
  const started = start(null, t.dir);
  await started.configuration.known(50, new AbortController().signal);
  assert.equal(sourceOf(started), 'settings');
  await started.stop();
});

test('a NodeNetwork counts at once, stays while the API is away, and after a restart without it', async () => {
  await using t = await harness();
  installDefinitions(t.h.api.store);
  await t.put('web', { nodeSelector: { matchLabels: { pool: 'web' } }, cooldown: '5s' });
  const { signal } = new AbortController();
  const started = start(t.h, t.dir);
  await started.configuration.known(30_000, signal);
  assert.equal(sourceOf(started), 'web');
  assert.equal(started.set.at(-1)?.cooldownMs, 5_000);
  await t.h.restart();
  await eventually('the API answers again', () =>
    t.h.client.patch(kube.nodeNetworks, 'web', undefined, { spec: { cooldown: '6s' } }),
  );
  await eventually('a change after the API was away counts', () => started.set.at(-1)?.cooldownMs === 6_000);
  await started.stop();
  const again = start(null, t.dir);
  assert.deepEqual([sourceOf(again), again.set[0]?.cooldownMs], ['web', 6_000]);
  await again.stop();
});

test('a refused one says why once, and its last good version stays', async () => {
  await using t = await harness();
  installDefinitions(t.h.api.store);
  await t.put('web', { cooldown: '5s' });
  const started = start(t.h, t.dir);
  await eventually('it counts', () => sourceOf(started) === 'web');
  const wrong = { spec: { subnets: { ids: ['subnet-0123456789'], tags: { a: 'b' } } } };
  await t.h.client.patch(kube.nodeNetworks, 'web', undefined, wrong);
  const why = 'spec.subnets has both ids and tags';
  await eventually('its condition says why', async () => {
    const { status } = await t.h.client.get(kube.nodeNetworks, 'web');
    return status?.conditions?.some((one) => one.status === 'False' && one.message === why);
  });
  assert.deepEqual(started.told, [
    `NodeNetworkRefused: the NodeNetwork web is refused, its last good version counts: ${why}`,
  ]);
  assert.equal(started.set.at(-1)?.cooldownMs, 5_000);
  await t.h.client.patch(kube.nodeNetworks, 'web', undefined, { spec: { subnets: null } });
  await eventually('its condition says that it is accepted', async () => {
    const { status } = await t.h.client.get(kube.nodeNetworks, 'web');
    return status?.conditions?.some((one) => one.status === 'True');
  });
  assert.deepEqual([...started.configuration.notes], []);
  await started.stop();
});

const kubernetesService = (ipFamilies: ('IPv4' | 'IPv6')[]): kube.Service => ({
  metadata: { name: 'kubernetes', namespace: 'default' },
  spec: { type: 'ExternalName', externalName: 'a.example', ipFamilies, ports: [{ port: 443 }] },
});

test('pods of both families have the family first that the Services have, also after a restart without the API', async () => {
  await using t = await harness();
  t.h.api.store.create(kube.services, kubernetesService(['IPv6', 'IPv4']));
  const { signal } = new AbortController();
  const dual = { families: 'dual' } as const;
  const started = start(t.h, t.dir, {}, undefined, { settings: dual });
  await started.configuration.known(30_000, signal);
  assert.equal(started.configuration.current.policy.primaryFamily, 'ipv6', 'before the first pod');
  await started.stop();
  const again = start(null, t.dir, {}, undefined, { settings: dual });
  assert.equal(again.configuration.current.policy.primaryFamily, 'ipv6');
  await again.stop();
  const told = start(t.h, t.dir, {}, undefined, { settings: { ...dual, primaryFamily: 'ipv4' } });
  assert.equal(told.configuration.current.policy.primaryFamily, undefined);
  await told.stop();
});

test('without such a Service IPv4 is first, and the node waits for no more', async () => {
  await using t = await harness();
  const started = start(t.h, t.dir, {}, undefined, { settings: { families: 'dual' } });
  await started.configuration.known(30_000, new AbortController().signal);
  assert.equal(started.configuration.asksServiceFamily, false);
  assert.equal(started.configuration.current.policy.primaryFamily, undefined);
  await started.stop();
});

test('an agent that may not ask for the Service says so, and IPv4 is first', async () => {
  await using t = await harness();
  t.h.api.store.create(kube.services, kubernetesService(['IPv6', 'IPv4']));
  const refusal = new kube.KubeError(403, 'Forbidden', 'no');
  const started = start(t.h, t.dir, {}, undefined, { settings: { families: 'dual' }, refusal });
  await started.configuration.known(30_000, new AbortController().signal);
  assert.equal(started.configuration.current.policy.primaryFamily, undefined);
  assert.ok(started.warned.some((text) => text.includes('may not get the Service default/kubernetes')));
  await started.stop();
});

test('a NodeNetwork turns egress4 on and off, and the node’s network follows', async () => {
  await using t = await harness();
  installDefinitions(t.h.api.store);
  await t.put('six', { families: 'ipv6', egress4: 'node' });
  const started = start(t.h, t.dir);
  await eventually('it is on', () => started.set.at(-1)?.policy.egress4 === 'node');
  assert.equal(started.egress(), 1);
  await t.h.client.patch(kube.nodeNetworks, 'six', undefined, { spec: { egress4: 'none' } });
  await eventually('it is off', () => started.set.at(-1)?.policy.egress4 === 'none');
  assert.equal(started.egress(), 2);
  await started.stop();
});

test('subnets with IPv6, and of IPv6 alone, are kept and known after a restart', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-configuration-'));
  const six = parseCidr('2001:db8:1::/64');
  const one = { zone: 'us-west-2a', ipv6Cidr: six, availableIps: 9, tags: { 'kubernetes.io/role/cni': '1' } };
  const subnets = [
    { ...one, id: 'subnet-both', cidr: parseCidr('10.0.0.0/24') },
    { ...one, id: 'subnet-six', cidr: six },
  ];
  const offered = ({ set }: Started) =>
    set
      .at(-1)
      ?.policy.subnetIds.join()
      .match(/subnet-(both|six)/g)?.length;
  const started = start(null, dir, {}, async () => subnets);
  await eventually('EC2 has told them', () => offered(started) === 2);
  const ofFacts = (text: string) => /EC2|kept/.test(text);
  assert.deepEqual(started.warned.filter(ofFacts), []);
  await started.stop();
  const again = start(null, dir, {}, async () => Promise.reject(new Error('away')));
  assert.equal(offered(again), 2);
  assert.ok(!again.warned.some((text) => text.includes('kept')));
  await again.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('ENIConfigs are followed only with custom networking', async () => {
  await using t = await harness();
  installDefinitions(t.h.api.store);
  const cidr = parseCidr('100.64.0.0/17');
  const subnets = [{ id: 'subnet-x', zone: 'us-west-2a', cidr, ipv6Cidr: null, availableIps: 9, tags: {} }];
  const env = { AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: 'true' };
  const started = start(t.h, t.dir, env, async () => subnets);
  await eventually('it lacks its ENIConfig', () =>
    /default of this node does not exist/.test(started.configuration.current.policy.noNewEni?.message ?? ''),
  );
  await t.h.client.create(kube.eniConfigs, { metadata: { name: 'default' }, spec: { subnet: 'subnet-x' } });
  await eventually('it counts', () => started.set.at(-1)?.policy.subnetIds[0] === 'subnet-x');
  assert.equal(started.configuration.current.policy.noNewEni?.cause, undefined);
  await started.stop();
});

test('EC2 that does not tell the subnets is told with its cause where they are needed', async () => {
  await using t = await harness();
  installDefinitions(t.h.api.store);
  await t.put('web', { subnets: { tags: { tier: 'pods' } } });
  const denied = async () => {
    throw new CloudError('DescribeSubnets', 'UnauthorizedOperation', 'You are not authorized');
  };
  const started = start(t.h, t.dir, {}, denied);
  await eventually('the cause is EC2’s', () => started.set.at(-1)?.policy.noNewEni?.cause === 'CLOUD_DENIED');
  await started.stop();
});

test('a kept file that is cut counts as absent', async () => {
  await using t = await harness();
  writeFileSync(join(t.dir, 'configuration.json'), '{"version":1,"fa');
  const started = start(t.h, t.dir);
  assert.equal(sourceOf(started), 'settings');
  await started.stop();
});
