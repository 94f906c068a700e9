import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Endpoint, endpointsOf } from './call.ts';
import type { Hook, HookRule } from './hooks.ts';
import { type Concern, concernsNamespace, concernsObject, versionFor } from './match.ts';

const rule = (more: Partial<HookRule> = {}): HookRule => ({
  operations: ['CREATE'],
  apiGroups: [''],
  apiVersions: ['v1'],
  resources: ['pods'],
  scope: '*',
  ...more,
});
const hook = (rules: HookRule[], more: Partial<Hook> = {}): Hook => ({
  name: 'a.b.c',
  clientConfig: {},
  rules,
  failurePolicy: 'Fail',
  matchPolicy: 'Equivalent',
  namespaceSelector: {},
  objectSelector: {},
  sideEffects: 'None',
  timeoutSeconds: 10,
  admissionReviewVersions: ['v1'],
  ...more,
});
const concern = (more: Partial<Concern> = {}): Concern => ({
  operation: 'CREATE',
  group: '',
  version: 'v1',
  otherVersions: [],
  resource: 'pods',
  subresource: '',
  namespace: 'default',
  namespaceLabels: { team: 'a' },
  ...more,
});

test('rules name operations, groups, versions, resources, subresources and scopes', () => {
  const node = { resource: 'nodes', namespace: '', namespaceLabels: null };
  const status = { subresource: 'status' };
  const cases: [Partial<HookRule>, Partial<Concern>, boolean][] = [
    [{}, {}, true],
    [{}, { operation: 'UPDATE' }, false],
    [{ operations: ['*'] }, { operation: 'DELETE' }, true],
    [{ apiGroups: ['apps'] }, {}, false],
    [{ apiGroups: ['*'], apiVersions: ['*'] }, { group: 'apps', version: 'v9' }, true],
    [{}, status, false],
    [{ resources: ['*'] }, status, false],
    [{ resources: ['*'] }, {}, true],
    [{ resources: ['pods/status'] }, status, true],
    [{ resources: ['pods/status'] }, {}, false],
    [{ resources: ['pods/*'] }, status, true],
    [{ resources: ['pods/*'] }, {}, true],
    [{ resources: ['*/status'] }, status, true],
    [{ resources: ['*/*'] }, status, true],
    [{ resources: ['*/*'] }, {}, true],
    [{ scope: 'Namespaced' }, {}, true],
    [{ scope: 'Cluster' }, {}, false],
    [{ scope: 'Cluster', resources: ['nodes'] }, node, true],
    [{ scope: 'Namespaced', resources: ['nodes'] }, node, false],
    [{ scope: 'Cluster', resources: ['namespaces'] }, { resource: 'namespaces' }, true],
    [{ scope: 'Namespaced', resources: ['namespaces'] }, { resource: 'namespaces' }, false],
  ];
  for (const [given, asked, expected] of cases)
    assert.equal(
      versionFor(hook([rule(given)]), concern(asked)) !== null,
      expected,
      JSON.stringify([given, asked]),
    );
  assert.equal(versionFor(hook([]), concern()), null);
});

test('an equivalent match is told at the version that the rule names, an exact one is none', () => {
  const asked = concern({ version: 'v2', otherVersions: ['v1'] });
  assert.equal(versionFor(hook([rule()]), asked), 'v1');
  assert.equal(versionFor(hook([rule()], { matchPolicy: 'Exact' }), asked), null);
  assert.equal(versionFor(hook([rule({ apiVersions: ['*'] })]), asked), 'v2');
});

test('selectors look at the namespace, and at either object', () => {
  const namespaceSelector = { matchLabels: { team: 'a' } };
  assert.equal(concernsNamespace(hook([], { namespaceSelector }), concern()), true);
  assert.equal(concernsNamespace(hook([], { namespaceSelector }), concern({ namespaceLabels: {} })), false);
  assert.equal(concernsNamespace(hook([], { namespaceSelector }), concern({ namespaceLabels: null })), true);
  const byLabel = hook([], { objectSelector: { matchLabels: { x: 'y' } } });
  const labelled = { metadata: { labels: { x: 'y' } } };
  const plain = { metadata: {} };
  assert.equal(concernsObject(byLabel, [labelled, null]), true);
  assert.equal(concernsObject(byLabel, [plain, labelled]), true);
  assert.equal(concernsObject(byLabel, [plain, null]), false);
  assert.equal(concernsObject(hook([]), [null, plain]), true);
});

test("a service is its selector's ready pods, or what its slices say", () => {
  const metadata = { name: 's', namespace: 'd' };
  const pod = (name: string, ready: string, labels = { app: 'h' }) => ({
    metadata: { name, namespace: 'd', labels },
    spec: { nodeName: 'n', containers: [{ name: 'c', ports: [{ name: 'tls', containerPort: 9443 }] }] },
    status: { podIP: `10.0.0.${name}`, conditions: [{ type: 'Ready', status: ready }] },
  });
  const slice = {
    metadata: { name: 'x', namespace: 'd', labels: { 'kubernetes.io/service-name': 's' } },
    ports: [{ name: '', port: 8443 }],
    endpoints: [{ addresses: ['10.0.0.9'] }, { addresses: ['10.0.0.8'], conditions: { ready: false } }],
  };
  const find = (spec: object): Endpoint[] =>
    endpointsOf(
      (collection) =>
        ({
          services: [{ metadata, spec }],
          pods: [pod('1', 'True'), pod('2', 'False'), pod('3', 'True', { app: 'x' })],
          'endpointslices.discovery.k8s.io': [slice],
        })[collection] as never,
      { namespace: 'd', name: 's', port: 443 },
    );
  const at = { address: '10.0.0.1', node: 'n' };
  const selector = { app: 'h' };
  assert.deepEqual(find({ selector, ports: [{ port: 443, targetPort: 'tls' }] }), [{ ...at, port: 9443 }]);
  assert.deepEqual(find({ selector, ports: [{ port: 443, targetPort: 8443 }] }), [{ ...at, port: 8443 }]);
  assert.deepEqual(find({ selector, ports: [{ port: 443 }] }), [{ ...at, port: 443 }]);
  assert.deepEqual(find({ selector, ports: [{ port: 443, targetPort: 'no' }] }), []);
  assert.deepEqual(find({ ports: [{ port: 443 }] }), [{ address: '10.0.0.9', port: 8443, node: undefined }]);
  assert.throws(() => find({ ports: [{ port: 80 }] }), /no service port 443 found for service "s"/);
});
