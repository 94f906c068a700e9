import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KubeError, type KubeObject, resource } from '../../../kube/index.ts';
import { startApi, until } from './testing.ts';

const definitions = resource<KubeObject & { spec: unknown; status?: { conditions: { type: string }[] } }>(
  'apiextensions.k8s.io/v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'Cluster',
);
type Widget = KubeObject & { spec: Record<string, unknown>; status?: Record<string, unknown> };
const widgets = resource<Widget>('example.com/v1', 'widgets', 'Widget', 'Namespaced');
const older = resource<Widget>('example.com/v1beta1', 'widgets', 'Widget', 'Namespaced');

const schema = {
  type: 'object',
  required: ['spec'],
  properties: {
    spec: {
      type: 'object',
      required: ['size'],
      properties: {
        size: { type: 'integer', minimum: 1, maximum: 9 },
        mode: { type: 'string', enum: ['fast', 'slow'], default: 'slow' },
        cidr: { type: 'string', format: 'cidr' },
        name: { type: 'string', pattern: '^[a-z]+$', maxLength: 5 },
        port: { 'x-kubernetes-int-or-string': true },
        rules: {
          type: 'array',
          maxItems: 2,
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['id'],
          items: {
            type: 'object',
            required: ['id'],
            properties: { id: { type: 'string' }, on: { type: 'boolean', default: true } },
          },
        },
        free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        labels: { type: 'object', additionalProperties: { type: 'string' } },
      },
    },
    status: { type: 'object', properties: { phase: { type: 'string' }, replicas: { type: 'integer' } } },
  },
};

const definition = (change: Record<string, unknown> = {}) => ({
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', kind: 'Widget', shortNames: ['wd'] },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: schema },
        subresources: {
          status: {},
          scale: { specReplicasPath: '.spec.size', statusReplicasPath: '.status.replicas' },
        },
        additionalPrinterColumns: [
          { name: 'Mode', type: 'string', jsonPath: '.spec.mode' },
          { name: 'On', type: 'boolean', jsonPath: '.spec.rules[?(@.id=="b")].on', priority: 1 },
        ],
        selectableFields: [{ jsonPath: '.spec.mode' }],
      },
      { name: 'v1beta1', served: true, storage: false, schema: { openAPIV3Schema: schema } },
    ],
    ...change,
  },
});

const widget = (spec: Record<string, unknown>, name = 'w'): Widget => ({
  metadata: { name, namespace: 'default' },
  spec,
});

test('a definition serves its kind at once: pruned, defaulted, checked, with status, scale and columns', async () => {
  await using h = await startApi();
  const { client } = h;
  const made = await client.create(definitions, definition());
  assert.deepEqual(
    made.status?.conditions.map((c) => c.type),
    ['NamesAccepted', 'Established'],
  );

  const first = await client.create(
    widgets,
    widget({ size: 3, extra: 1, rules: [{ id: 'a' }, { id: 'b', on: false }], free: { any: [1] } }),
  );
  assert.deepEqual(first.spec, {
    size: 3,
    rules: [
      { id: 'a', on: true },
      { id: 'b', on: false },
    ],
    free: { any: [1] },
    mode: 'slow',
  });
  assert.equal(first.metadata.generation, 1);

  const status = await client.patch(
    widgets,
    'w',
    'default',
    { status: { phase: 'Up', nope: 1 }, spec: { size: 9 } },
    { subresource: 'status' },
  );
  assert.deepEqual([status.status, status.spec['size'], status.metadata.generation], [{ phase: 'Up' }, 3, 1]);

  const scaled = await h.raw('PATCH', '/apis/example.com/v1/namespaces/default/widgets/w/scale', {
    body: '{"spec":{"replicas":5}}',
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  assert.equal(scaled.json.spec.replicas, 5);
  const now = await client.get(widgets, 'w', 'default');
  assert.deepEqual([now.spec['size'], now.metadata.generation], [5, 2]);

  const table = await h.raw('GET', '/apis/example.com/v1/widgets', {
    headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
  });
  assert.deepEqual(
    table.json.columnDefinitions.map((c: { name: string }) => c.name),
    ['Name', 'Mode', 'On'],
  );
  assert.deepEqual(table.json.rows[0].cells, ['w', 'slow', false]);
  assert.equal((await client.list(widgets, { fieldSelector: 'spec.mode=fast' })).items.length, 0);
  assert.equal((await client.get(older, 'w', 'default')).apiVersion, 'example.com/v1beta1');
});

test('what does not fit the schema is refused, in the words of Kubernetes', async () => {
  await using h = await startApi();
  await h.client.create(definitions, definition());
  const cases: [Record<string, unknown>, RegExp][] = [
    [{}, /spec\.size: Required value/],
    [{ size: 'x' }, /spec\.size in body must be of type integer: "string"/],
    [{ size: 0 }, /spec\.size in body should be greater than or equal to 1/],
    [{ size: 10 }, /should be less than or equal to 9/],
    [{ size: 1, mode: 'odd' }, /spec\.mode: Unsupported value: "odd": supported values: "fast", "slow"/],
    [{ size: 1, name: 'ABC' }, /should match '\^\[a-z\]\+\$'/],
    [{ size: 1, name: 'toolong' }, /should be at most 5 chars long/],
    [{ size: 1, cidr: '10.0.0.0/33' }, /must be of type cidr/],
    [{ size: 1, port: true }, /must be of type integer or string/],
    [{ size: 1, rules: [{ id: 'a' }, { id: 'a' }] }, /spec\.rules\[1\]: Duplicate value: \{"id":"a"\}/],
    [{ size: 1, rules: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] }, /Too many: 3: must have at most 2 items/],
    [{ size: 1, labels: { a: 1 } }, /spec\.labels\.a in body must be of type string/],
    [{ size: null }, /spec\.size in body must be of type integer: "null"/],
  ];
  for (const [spec, words] of cases) {
    await assert.rejects(
      h.client.create(widgets, widget(spec)),
      (e: KubeError) => e.reason === 'Invalid' && words.test(e.message),
      JSON.stringify(spec),
    );
  }
});

test('a definition that is no good is refused', async () => {
  await using h = await startApi();
  const version = (openAPIV3Schema: unknown, more: object = {}) => ({
    versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema }, ...more }],
  });
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ scope: 'Galaxy' }, /spec\.scope: Unsupported value/],
    [{ group: 'other.com' }, /metadata\.name.*must be spec\.names\.plural/],
    [{ versions: [] }, /spec\.versions: Required value/],
    [version(undefined), /openAPIV3Schema: Required value/],
    [version({ type: 'string' }), /must be object at the root/],
    [version({ type: 'object', properties: { spec: {} } }), /properties\[spec\]\.type: Required value/],
    [
      version({ type: 'object', properties: { spec: { type: 'array' } } }),
      /properties\[spec\]\.items: Required value/,
    ],
    [
      version({ type: 'object', properties: { a: { type: 'integer', default: 'x' } } }),
      /default in body must be of type integer/,
    ],
    [
      version(
        { type: 'object' },
        { additionalPrinterColumns: [{ name: 'A', type: 'string', jsonPath: '.a[?(' }] },
      ),
      /cannot read the JSON path/,
    ],
  ];
  for (const [change, words] of cases) {
    await assert.rejects(
      h.client.create(definitions, definition(change)),
      (e: KubeError) => e.reason === 'Invalid' && words.test(e.message),
      JSON.stringify(change),
    );
  }
});

test('deleting a definition deletes its objects, ends their watches and stops serving', async () => {
  await using h = await startApi();
  const { client } = h;
  await client.create(definitions, definition());
  await client.create(widgets, {
    ...widget({ size: 1 }),
    metadata: { name: 'w', namespace: 'default', finalizers: ['example.com/hold'] },
  });
  let ended = false;
  const watching = (async () => {
    for await (const _ of client.watch(widgets, {}, AbortSignal.timeout(30_000)));
    ended = true;
  })();
  await h.restart().then(() => watching.catch(() => {}));
  const again = (async () => {
    ended = false;
    for await (const _ of client.watch(widgets, {}, AbortSignal.timeout(30_000)));
    ended = true;
  })();
  await client.delete(definitions, 'widgets.example.com');
  assert.ok((await client.get(widgets, 'w', 'default')).metadata.deletionTimestamp);
  await client.patch(widgets, 'w', 'default', { metadata: { finalizers: null } });
  await assert.rejects(client.get(definitions, 'widgets.example.com'), { code: 404 });
  await assert.rejects(client.list(widgets), { code: 404 });
  await until('the end of the watch', () => ended);
  await again;
});
