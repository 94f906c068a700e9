// Whether branches are made here, by mode and by what the cluster has; AWS's no; the webhooks' certificate as it
// changes, with two replicas of which one leads. The embedded API asks the webhooks as a cluster does; EC2 is in
// memory, time a hundred times as fast.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { pino } from 'pino';
import { type Budget, withBudget } from '../../cloud/budget.ts';
import { type Cloud, CloudError, type TrunkCloud } from '../../cloud/port.ts';
import { FakeCloud } from '../../cloud/testing.ts';
import {
  cniNodes,
  type KubeClient,
  type KubeObject,
  nodes,
  POD_ENI,
  pods,
  resource,
  securityGroupPolicies,
} from '../../kube/index.ts';
import { startApi } from '../../lab/cluster/api/testing.ts';
import { installDefinitions } from '../../lab/cluster/definitions.ts';
import { createMetrics } from '../metrics.ts';
import { ClusterView } from '../view.ts';
import { makeCertificate } from './certificate.ts';
import { type BranchMode, SecurityGroups } from './control.ts';
import { clock } from './testing.ts';

type Hooks = KubeObject & { webhooks?: { clientConfig: { caBundle: string } }[] };
const hooks = resource<Hooks>(
  'admissionregistration.k8s.io/v1',
  'mutatingwebhookconfigurations',
  'MutatingWebhookConfiguration',
  'Cluster',
);
type Secret = KubeObject & { data?: Record<string, string> };
const secrets = resource<Secret>('v1', 'secrets', 'Secret', 'Namespaced');
const leases = resource<KubeObject>('coordination.k8s.io/v1', 'leases', 'Lease', 'Namespaced');
const NAMESPACE = 'kube-system';
const NAME = 'podway-webhook';

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 1_500; tries++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`${what}: not within 30 s`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A process of the controller, as far as branches go. */
class Replica implements AsyncDisposable {
  readonly events: string[] = [];
  isLeading: boolean;
  readonly #client: KubeClient;
  readonly #groups: SecurityGroups;
  readonly #over = new AbortController();
  readonly #running: Promise<unknown>[] = [];
  #term: AbortController | null = null;

  constructor(client: KubeClient, cloud: FakeCloud, mode: BranchMode, port: number, isLeading = true) {
    this.#client = client;
    this.isLeading = isLeading;
    const log = pino({ level: process.env['PODWAY_LOG'] ?? 'silent' });
    this.#groups = new SecurityGroups({
      config: {
        namespace: NAMESPACE,
        branchController: mode,
        branchCooldown: 30_000,
        webhookListen: { host: '127.0.0.1', port },
        webhookUrl: `https://127.0.0.1:${port}`,
      },
      ...{ client, log, metrics: createMetrics(), clock, isLeading: () => this.isLeading },
      openCloud: async (isPodWaiting): Promise<Cloud & TrunkCloud & Budget> =>
        withBudget<Cloud & TrunkCloud>(cloud, clock, isPodWaiting),
    });
    this.#running.push(this.#groups.serve(this.#over.signal));
    if (isLeading) this.lead();
  }

  lead(): void {
    this.isLeading = true;
    this.#term = new AbortController();
    const { signal } = this.#term;
    const view = new ClusterView();
    const events = {
      record: (_about: unknown, _type: string, reason: string, text: string) =>
        void this.events.push(`${reason} ${text}`),
    };
    this.#running.push(
      view.follow(this.#client, pino({ level: 'silent' }), signal),
      this.#groups.keep({ view, events: events as never }, signal),
    );
  }

  step(): void {
    this.isLeading = false;
    this.#term?.abort(new Error('another leads'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.step();
    this.#over.abort(new Error('over'));
    await Promise.all(this.#running);
  }
}

async function cluster() {
  const api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  const cloud = new FakeCloud();
  cloud.addInstanceEni({ deviceIndex: 0, instanceId: 'i-01' });
  await client.create(nodes, {
    metadata: { name: 'n-1', labels: { 'node.kubernetes.io/instance-type': 'm5.large' } },
    spec: { providerID: 'aws:///us-west-2a/i-01' },
  });
  const policy = () =>
    client.create(securityGroupPolicies, {
      metadata: { name: 'all', namespace: 'default' },
      spec: { podSelector: {}, securityGroups: { groupIds: ['sg-0web'] } },
    });
  const asked = async () => (await client.get(hooks, NAME, undefined).catch(() => null))?.webhooks ?? [];
  const hasTrunk = () => [...cloud.enis.values()].some(({ interfaceType }) => interfaceType === 'trunk');
  return { api, client, cloud, policy, asked, hasTrunk };
}

test('where branches are made: by mode, policies and EKS’s controller', async () => {
  const rows: [BranchMode, { policy: boolean; eks: boolean }, boolean][] = [
    ['off', { policy: true, eks: false }, false],
    ['on', { policy: false, eks: false }, true],
    ['on', { policy: true, eks: true }, true],
    ['auto', { policy: false, eks: false }, false],
    ['auto', { policy: true, eks: false }, true],
    ['auto', { policy: true, eks: true }, false],
  ];
  for (const [mode, { policy, eks }, isMade] of rows) {
    const what = `${mode}, ${policy ? 'a policy' : 'no policy'}, ${eks ? 'EKS' : 'no EKS'}`;
    const made = await cluster();
    await using _api = made.api;
    const { client, cloud } = made;
    // As the chart has it, filled by a controller that ran before.
    await client.create(hooks, { metadata: { name: NAME }, webhooks: [] });
    if (policy) await made.policy();
    if (eks)
      await client.create(leases, { metadata: { name: 'cp-vpc-resource-controller', namespace: NAMESPACE } });
    await using _replica = new Replica(client, cloud, mode, await freePort());
    if (isMade) {
      await until(`${what}: the node has a trunk`, made.hasTrunk);
      await until(`${what}: the API asks`, async () => (await made.asked()).length === 1);
      await until(
        `${what}: the node has its CNINode`,
        async () => (await client.list(cniNodes)).items.length === 1,
      );
      continue;
    }
    // A minute of its time.
    await new Promise((resolve) => setTimeout(resolve, 600));
    const found = [made.hasTrunk(), await made.asked(), (await client.list(cniNodes)).items, cloud.calls];
    assert.deepEqual(found, [false, [], [], []], what);
    const isSecret = await client.get(secrets, NAME, NAMESPACE).then(
      () => true,
      () => false,
    );
    assert.equal(isSecret, false, what);
  }
});

test('AWS’s no is told on each policy, nothing is made, and a later yes is taken', async () => {
  const { api, client, cloud, policy, asked, hasTrunk } = await cluster();
  await using _api = api;
  let isAllowed = false;
  cloud.probeTrunking = async () => {
    if (!isAllowed) throw new CloudError('AssociateTrunkInterface', 'UnauthorizedOperation', 'not you');
  };
  await policy();
  await using replica = new Replica(client, cloud, 'auto', await freePort());
  await until('it is told', () => replica.events.some((one) => /^TrunkDenied TRUNK_DENIED: /.test(one)));
  assert.deepEqual([hasTrunk(), await asked()], [false, []]);
  isAllowed = true;
  await until('the node has a trunk', hasTrunk);
});

test('a certificate that ends soon is replaced; two replicas serve the same, whoever leads', async () => {
  const { api, client, cloud, policy, asked } = await cluster();
  await using _api = api;
  await policy();
  const port = await freePort();
  await using one = new Replica(client, cloud, 'auto', port);
  const authority = async () =>
    Buffer.from((await asked())[0]?.clientConfig.caBundle ?? '', 'base64').toString();
  const isInjected = async (name: string) => {
    const made = await client.create(pods, {
      metadata: { name, namespace: 'default' },
      spec: { containers: [{ name: 'c', image: 'x' }] },
    });
    return made.spec.containers[0]!.resources?.limits?.[POD_ENI] === '1';
  };
  await until('the API asks', async () => (await authority()) !== '');
  assert.ok(await isInjected('a'));
  const first = await authority();
  // One of 300 days ago, as it would be then.
  const known = await client.get(secrets, NAME, NAMESPACE);
  const old = makeCertificate(['podway-webhook.kube-system.svc', '127.0.0.1'], Date.now() - 300 * 86_400_000);
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  await client.update(secrets, {
    ...known,
    data: { 'tls.key': base64(old.key), 'tls.crt': base64(old.cert) },
  });
  await until('the API trusts another', async () => {
    const now = await authority();
    return now !== first && now !== old.cert;
  });
  assert.ok(await isInjected('b'));
  const second = await authority();
  // Another leads, by the same Secret, on another port as on another node.
  await using two = new Replica(client, cloud, 'auto', await freePort(), false);
  one.step();
  two.lead();
  let turn = 0;
  await until('the other’s webhook is asked', () => isInjected(`c-${turn++}`));
  assert.equal(await authority(), second);
});

test('a webhook that is away lets pods pass', async () => {
  const { api, client, cloud, policy, asked } = await cluster();
  await using _api = api;
  await policy();
  {
    await using _replica = new Replica(client, cloud, 'auto', await freePort());
    await until('the API asks', async () => (await asked()).length === 1);
  }
  const made = await client.create(pods, {
    metadata: { name: 'a', namespace: 'default' },
    spec: { containers: [{ name: 'c', image: 'x' }] },
  });
  assert.equal(made.spec.containers[0]!.resources?.limits, undefined);
});
