// What a cluster is told of its policies: by the controller alone, as Events and conditions; and nodes as peers of
// ClusterNetworkPolicies, on packets. PODWAY_SOAK=1 only: a definition that comes later is waited for.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CoreV1Api, NetworkingV1Api } from '@kubernetes/client-node';
import { KubeClient, type KubeObject, readKubeConfig, resource } from '../../src/kube/index.ts';
import { clusterNetworkPolicies } from '../../src/kube/resources.ts';
import { Lab, QUICK } from '../e2e/lab.ts';
import { full, skip } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';

const definitions = resource<KubeObject & { spec: unknown }>(
  'apiextensions.k8s.io/v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'Cluster',
);
const kind = clusterNetworkPolicies.find(({ version }) => version === 'v1alpha2')!;
const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const definition = {
  metadata: { name: 'clusternetworkpolicies.policy.networking.k8s.io' },
  spec: {
    ...{ group: 'policy.networking.k8s.io', scope: 'Cluster' },
    names: {
      ...{ plural: 'clusternetworkpolicies', singular: 'clusternetworkpolicy' },
      ...{ kind: 'ClusterNetworkPolicy', listKind: 'ClusterNetworkPolicyList' },
    },
    versions: [
      {
        ...{ name: 'v1alpha2', served: true, storage: true, subresources: { status: {} } },
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: free, status: free } } },
      },
    ],
  },
};
const lacks = skip || (full ? false : 'PODWAY_SOAK=1 runs it');
const METRICS_PORT = 9464;
const port = (number: number) => [{ tcp: { destinationPort: { number } } }];

describe('what is told of policies', { skip: lacks, timeout: 150_000 }, () => {
  const lab = new Lab('told', [...QUICK, '--set', 'controller=process']);
  let client: KubeClient;
  let core: CoreV1Api;
  let networking: NetworkingV1Api;
  const setRules = (egress: object[]) => client.patch(kind, 'p', undefined, { spec: { egress } });
  const conditionOf = async () => {
    const { status } = (await client.get(kind, 'p')) as KubeObject & {
      status?: {
        conditions?: { type: string; status: string; reason: string; observedGeneration: number }[];
      };
    };
    return status?.conditions?.find(({ type }) => type === 'podway.dev/Accepted');
  };
  const nodeIp = async (name: string) => (await lab.status()).nodes.find((one) => one.name === name)!.ips[0]!;
  const opens = async (ip: string): Promise<boolean> =>
    (
      await lab.podway(
        'pod',
        'exec',
        'asker',
        '--',
        'timeout',
        '1',
        'bash',
        '-c',
        `exec 3<>/dev/tcp/${ip}/${METRICS_PORT}`,
      )
    ).code === 0;

  before(async () => {
    await lab.up();
    client = new KubeClient(await readKubeConfig((await lab.status()).kubeconfig));
    const config = await lab.kube();
    core = config.makeApiClient(CoreV1Api);
    networking = config.makeApiClient(NetworkingV1Api);
    await client.create(definitions, definition);
    await eventually('the kind is served', () =>
      client.list(kind).then(
        () => true,
        () => false,
      ),
    );
    await lab.run('asker', '--node', 'node-1');
    await client.create(kind, {
      metadata: { name: 'p' },
      spec: {
        ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
        egress: [{ action: 'Accept', to: [{ domainNames: ['example.com'] }] }],
      },
    } as KubeObject);
  });
  after(async () => {
    client?.close();
    await lab.down();
  });

  it('a refused rule is an Event of its policy, from one place, and a condition', {
    timeout: 120_000,
  }, async () => {
    const said = await eventually('the condition is written', conditionOf, 90_000);
    assert.deepEqual([said.status, said.reason], ['False', 'RulesClosed']);
    const told = await eventually('it is told', async () => {
      const { items } = await core.listEventForAllNamespaces();
      const own = items.filter(
        ({ reason, involvedObject }) => reason === 'PolicyRefused' && involvedObject.name === 'p',
      );
      return own.length > 0 && own;
    });
    assert.equal(told.length, 1, 'two nodes, one Event');
    assert.match(told[0]!.message!, /domainNames: \["example\.com"\] is not enforced/);
    await networking.createNamespacedNetworkPolicy({
      namespace: 'default',
      body: {
        metadata: { name: 'bits' },
        spec: {
          podSelector: { matchLabels: { a: 'b' } },
          ingress: [{ _from: [{ ipBlock: { cidr: '10.1.0.0/8' } }] }],
        },
      },
    });
    await eventually('host bits are told', async () =>
      (await core.listEventForAllNamespaces()).items.some(
        ({ reason, message }) =>
          reason === 'PolicyHostBits' && message === '10.1.0.0/8 is read as 10.0.0.0/8',
      ),
    );
  });

  it('nodes are peers: by port, but for the own node; and the condition follows', async () => {
    const [own, other] = [await nodeIp('node-1'), await nodeIp('node-2')];
    await setRules([{ action: 'Deny', to: [{ nodes: {} }] }]);
    await eventually('the other node is closed', async () => !(await opens(other)), 60_000);
    assert.equal(await opens(own), true, 'its own node');
    await setRules([
      {
        action: 'Accept',
        to: [{ nodes: { matchLabels: { 'kubernetes.io/hostname': 'node-2' } } }],
        protocols: port(METRICS_PORT),
      },
      { action: 'Deny', to: [{ nodes: {} }] },
    ]);
    await eventually('its port is open', () => opens(other));
    await eventually('all is accepted', async () => (await conditionOf())?.status === 'True');
    const { stdout } = await lab.podway('policy', 'trace', 'asker', `node/node-2:${METRICS_PORT}`);
    assert.match(stdout, /allowed by rule 0 of clusternetworkpolicy p, tier admin/);
  });
});
