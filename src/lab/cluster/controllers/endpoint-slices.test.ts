// EndpointSlices as values, and on the API: pods that come, become ready, change labels, end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pods as podResource, services } from '../../../kube/resources.ts';
import type { Pod, Service } from '../../../kube/types.ts';
import { until } from '../api/testing.ts';
import { type EndpointSlice, endpointSlices, planEndpointSlices } from './endpoint-slices.ts';
import { startCluster } from './testing.ts';

const namespace = 'default';
const service = (spec: object = {}): Service => ({
  metadata: { name: 'web', namespace, uid: 's', labels: { team: 'a' } },
  spec: {
    selector: { app: 'web' },
    ports: [{ port: 80, targetPort: 'http' }],
    ipFamilies: ['IPv4'],
    ...spec,
  },
});
const pod = (
  name: string,
  ips: string[],
  { port = 8080, ready = true, ending = false, app = 'web' } = {},
): Pod =>
  ({
    metadata: {
      ...{ name, namespace, uid: name, labels: { app } },
      ...(ending ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: {
      nodeName: 'node-1',
      containers: [{ name: 'main', image: 'x', ports: [{ name: 'http', containerPort: port }] }],
    },
    status: {
      phase: 'Running',
      podIP: ips[0],
      podIPs: ips.map((ip) => ({ ip })),
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  }) as Pod;
const made = (given: Service, pods: Pod[], slices: EndpointSlice[] = []) =>
  planEndpointSlices({ service: given, pods, slices }).actions;
const objects = (given: Service, pods: Pod[]) =>
  made(given, pods).map((action) => (action as unknown as { object: EndpointSlice }).object);

test('ready pods, pods that are not, and pods that end', () => {
  const [slice, ...more] = objects(service(), [
    pod('a', ['10.0.0.1']),
    pod('b', ['10.0.0.2'], { ready: false }),
    pod('c', ['10.0.0.3'], { ending: true }),
    pod('d', []),
    pod('e', ['10.0.0.5'], { app: 'other' }),
  ]);
  assert.deepEqual(more, []);
  assert.deepEqual(slice!.ports, [{ name: '', protocol: 'TCP', port: 8080 }]);
  assert.deepEqual(
    slice!.endpoints.map(({ addresses, conditions: { ready, serving, terminating } }) => [
      addresses[0],
      ready,
      serving,
      terminating,
    ]),
    [
      ['10.0.0.1', true, true, false],
      ['10.0.0.2', false, false, false],
      ['10.0.0.3', false, true, true],
    ],
  );
  assert.equal(slice!.metadata.labels!['kubernetes.io/service-name'], 'web');
  assert.equal(slice!.metadata.ownerReferences![0]!.uid, 's');
});

test('a slice for each family and each number of a named port, of 100 endpoints at most', () => {
  const both = service({ ipFamilies: ['IPv4', 'IPv6'] });
  const shown = (given: Service, pods: Pod[]) =>
    objects(given, pods).map(({ addressType, ports, endpoints }) => [
      addressType,
      ports[0]?.port,
      endpoints.length,
    ]);
  const pods = [pod('a', ['10.0.0.1', 'fd00::1']), pod('b', ['10.0.0.2'], { port: 9090 })];
  assert.deepEqual(shown(both, pods), [
    ['IPv4', 8080, 1],
    ['IPv4', 9090, 1],
    ['IPv6', 8080, 1],
  ]);
  const many = Array.from({ length: 150 }, (_, index) => pod(`p${index}`, [`10.0.1.${index}`]));
  assert.deepEqual(shown(service(), many), [
    ['IPv4', 8080, 100],
    ['IPv4', 8080, 50],
  ]);
  assert.deepEqual(shown(service(), []), [['IPv4', undefined, 0]]);
});

test('without a selector, and for names of elsewhere, nothing is made; what was ours goes', () => {
  const [slice] = objects(service(), [pod('a', ['10.0.0.1'])]);
  assert.deepEqual(made(service({ selector: {} }), [pod('a', ['10.0.0.1'])]), []);
  assert.deepEqual(
    made(service({ type: 'ExternalName' }), [], [slice!]).map((action) => action.do),
    ['delete'],
  );
  assert.deepEqual(made(service(), [pod('a', ['10.0.0.1'])], [slice!]), []);
});

test('on the API a slice follows its pods and goes with its Service', async () => {
  await using cluster = await startCluster(['node-1']);
  const { store } = cluster;
  const slices = () => store.list(endpointSlices) as unknown as EndpointSlice[];
  store.create(services, service({ ports: [{ port: 80 }] }), namespace);
  await until('an empty slice', async () => slices().length === 1 && slices()[0]!.endpoints.length === 0);
  const { metadata, spec } = pod('a', []);
  store.create(
    podResource,
    { metadata: { name: metadata.name!, namespace, labels: metadata.labels! }, spec } as Pod,
    namespace,
  );
  const stored = () => store.find(podResource, 'a', namespace) as Pod;
  await until('the pod runs', async () => stored().status?.phase === 'Running');
  const known = stored();
  store.updateStatus(podResource, {
    ...known,
    status: { ...known.status, podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] },
  } as Pod);
  await until('its address', async () => slices()[0]?.endpoints[0]?.addresses[0] === '10.0.0.1');
  const now = stored();
  store.update(podResource, { ...now, metadata: { ...now.metadata, labels: { app: 'other' } } } as Pod);
  await until('it has left', async () => slices()[0]?.endpoints.length === 0);
  store.delete(services, 'web', namespace, { propagationPolicy: 'Background' });
  await until('the slice goes', async () => slices().length === 0);
});
