import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namespaces, type Pod, pods } from '../../../kube/index.ts';
import { MAX_BODY } from './http.ts';
import { aPod, startApi } from './testing.ts';

const path = '/api/v1/namespaces/default/pods';
const TABLE =
  'application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json';
const DISCOVERY = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';

test('media types: JSON for those who also take protobuf, 406 and 415 where nothing fits', async () => {
  await using h = await startApi();
  const get = (accept: string) => h.raw('GET', path, { headers: { accept } });
  assert.equal((await get('application/vnd.kubernetes.protobuf,application/json')).code, 200);
  assert.equal((await get('*/*')).code, 200);
  assert.equal((await get('text/html, */*;q=0.1')).code, 200);
  const refused = await get('application/vnd.kubernetes.protobuf');
  assert.equal(refused.code, 406);
  assert.equal(refused.json.reason, 'NotAcceptable');
  const post = (type: string, body = JSON.stringify(aPod('a'))) =>
    h.raw('POST', path, { body, headers: { 'content-type': type } });
  assert.equal((await post('text/plain')).code, 415);
  assert.equal((await post('application/cbor')).code, 415);
  assert.equal(
    (await post('application/yaml', 'metadata: {name: y}\nspec: {containers: [{name: a, image: b}]}\n')).code,
    201,
  );
  const yaml = await h.raw('GET', `${path}/y`, { headers: { accept: 'application/yaml' } });
  assert.match(yaml.text, /^ {2}name: y$/m);
  const patch = await h.raw('PATCH', `${path}/y`, {
    body: '{}',
    headers: { 'content-type': 'application/json' },
  });
  assert.equal(patch.code, 415);
});

test('a pod as a Table, its cells as kubectl prints them', async () => {
  await using h = await startApi({ now: () => Date.UTC(2030, 0, 1, 0, 5, 30) });
  h.api.store.create(pods, aPod('a', { spec: { nodeName: 'node-1' } }) as Pod);
  h.api.store.patch(
    pods,
    'a',
    'default',
    {
      status: {
        phase: 'Running',
        podIP: '10.0.0.7',
        podIPs: [{ ip: '10.0.0.7' }],
        containerStatuses: [
          { name: 'main', ready: true, restartCount: 0, image: 'x', imageID: '', state: { running: {} } },
        ],
      },
    },
    { subresource: 'status' },
  );
  const { json } = await h.raw('GET', path, { headers: { accept: TABLE } });
  assert.equal(json.kind, 'Table');
  assert.deepEqual(
    json.columnDefinitions.map((c: { name: string }) => c.name),
    ['Name', 'Ready', 'Status', 'Restarts', 'Age', 'IP', 'Node', 'Nominated Node', 'Readiness Gates'],
  );
  assert.deepEqual(json.rows[0].cells, [
    'a',
    '1/1',
    'Running',
    '0',
    '0s',
    '10.0.0.7',
    'node-1',
    '<none>',
    '<none>',
  ]);
  assert.equal(json.rows[0].object.kind, 'PartialObjectMetadata');
  h.api.store.delete(pods, 'a', 'default');
  const ending = await h.raw('GET', `${path}/a`, { headers: { accept: TABLE } });
  assert.equal(ending.json.rows[0].cells[2], 'Terminating');
});

test('lists in pages are one state, whatever changes between the pages', async () => {
  await using h = await startApi();
  for (let i = 0; i < 10; i++) h.api.store.create(pods, aPod(`p-${i}`) as Pod);
  const first = await h.client.list(pods, { limit: 4 });
  assert.equal(first.items.length, 4);
  assert.equal(first.metadata.remainingItemCount, 6);
  h.api.store.delete(pods, 'p-7', 'default');
  h.api.store.create(pods, aPod('p-00') as Pod);
  const names = first.items.map((p) => p.metadata.name);
  let next = first.metadata.continue;
  while (next) {
    const page = await h.client.list(pods, { limit: 4, continue: next });
    assert.equal(page.metadata.resourceVersion, first.metadata.resourceVersion);
    names.push(...page.items.map((p) => p.metadata.name));
    next = page.metadata.continue;
  }
  assert.deepEqual(
    names,
    Array.from({ length: 10 }, (_, i) => `p-${i}`),
  );
  const stale = await h.raw(
    'GET',
    `/api/v1/pods?limit=2&continue=${Buffer.from('{"v":1,"id":"gone","at":2}').toString('base64url')}`,
  );
  assert.equal(stale.code, 410);
  assert.equal((await h.raw('GET', '/api/v1/pods?continue=nonsense')).code, 400);
});

test('bodies are bounded in size and depth, and cannot reach prototypes', async () => {
  await using h = await startApi();
  const big = JSON.stringify({ metadata: { name: 'big', annotations: { a: 'x'.repeat(MAX_BODY) } } });
  const refused = await h.raw('POST', '/api/v1/namespaces/default/configmaps', { body: big });
  assert.equal(refused.code, 413);
  const deep = `{"metadata":{"name":"deep"},"data":${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}}`;
  assert.equal((await h.raw('POST', '/api/v1/namespaces/default/configmaps', { body: deep })).code, 400);
  const proto = '{"metadata":{"name":"p","labels":{"__proto__":"x"}}}';
  assert.equal((await h.raw('POST', '/api/v1/namespaces/default/configmaps', { body: proto })).code, 400);
  assert.equal((await h.raw('POST', path, { body: '{' })).code, 400);
  assert.equal((await h.raw('POST', path, { body: '[]' })).code, 400);
  assert.equal((await h.raw('POST', path, { body: '' })).code, 400);
});

test('errors are Status objects with the reasons and words of Kubernetes', async () => {
  await using h = await startApi();
  const cases: [string, string, unknown, number, string, RegExp][] = [
    ['GET', `${path}/nope`, undefined, 404, 'NotFound', /^pods "nope" not found$/],
    [
      'GET',
      '/apis/apps/v1/namespaces/default/deployments/nope',
      undefined,
      404,
      'NotFound',
      /^deployments\.apps "nope" not found$/,
    ],
    ['GET', '/api/v1/namespaces/default/pods/p/log', undefined, 404, 'NotFound', /^pods "p" not found$/],
    ['POST', '/api/v1/namespaces/default/pods/p/exec', {}, 400, 'BadRequest', /ask for a WebSocket$/],
    ['GET', '/api/v1/widgets', undefined, 404, 'NotFound', /could not find the requested resource/],
    [
      'POST',
      path,
      { metadata: {}, spec: {} },
      422,
      'Invalid',
      /metadata\.name: Required value: name or generateName is required/,
    ],
    [
      'POST',
      path,
      { metadata: { name: 'UPPER' }, spec: { containers: [{ name: 'a', image: 'b' }] } },
      422,
      'Invalid',
      /^Pod "UPPER" is invalid: metadata\.name: Invalid value: "UPPER": a lowercase RFC 1123 subdomain/,
    ],
    [
      'POST',
      path,
      { metadata: { name: 'a' }, spec: { containers: [] } },
      422,
      'Invalid',
      /spec\.containers: Required value/,
    ],
    [
      'POST',
      path,
      { apiVersion: 'v2', metadata: { name: 'a' } },
      400,
      'BadRequest',
      /does not match the expected API version/,
    ],
    [
      'POST',
      path,
      { kind: 'Node', metadata: { name: 'a' } },
      400,
      'BadRequest',
      /cannot be handled as a Pod/,
    ],
    [
      'POST',
      path,
      { metadata: { name: 'a', namespace: 'other' } },
      400,
      'BadRequest',
      /namespace of the provided object does not match/,
    ],
    [
      'POST',
      path,
      { metadata: { name: 'a', labels: { x: 1 } }, spec: { containers: [] } },
      400,
      'BadRequest',
      /cannot unmarshal number into Go struct field/,
    ],
    ['POST', `${path}/a`, {}, 405, 'MethodNotAllowed', /method/],
    ['GET', `${path}?labelSelector=%3D%3D`, undefined, 400, 'BadRequest', /unable to parse requirement/],
  ];
  for (const [method, where, body, code, reason, words] of cases) {
    const { code: got, json } = await h.raw(
      method,
      where,
      body === undefined ? {} : { body: JSON.stringify(body) },
    );
    assert.deepEqual(
      [got, json.kind, json.status, json.reason],
      [code, 'Status', 'Failure', reason],
      `${method} ${where}`,
    );
    assert.match(json.message, words);
  }
});

test('unknown fields: refused when strict, warned of and dropped otherwise', async () => {
  await using h = await startApi();
  const body = JSON.stringify({
    ...aPod('a'),
    spec: { containers: [{ name: 'a', image: 'b', nope: 1 }], nape: 2 },
  });
  const strict = await h.raw('POST', `${path}?fieldValidation=Strict`, { body });
  assert.equal(strict.code, 400);
  assert.match(
    strict.json.message,
    /strict decoding error: unknown field "spec.containers\[0\].nope", unknown field "spec.nape"/,
  );
  const warned = await h.raw('POST', path, { body });
  assert.equal(warned.code, 201);
  assert.match(String(warned.headers['warning']), /299 - "unknown field \\"spec\.nape\\""/);
  assert.equal('nape' in warned.json.spec, false);
});

test('dry runs answer what would be and write nothing', async () => {
  await using h = await startApi();
  const version = h.api.store.resourceVersion;
  const made = await h.raw('POST', `${path}?dryRun=All`, { body: JSON.stringify(aPod('a')) });
  assert.equal(made.code, 201);
  assert.ok(made.json.metadata.uid);
  assert.equal(h.api.store.resourceVersion, version);
  assert.equal((await h.raw('DELETE', '/api/v1/namespaces/kube-node-lease?dryRun=All')).code, 200);
  assert.ok(h.api.store.find(namespaces, 'kube-node-lease'));
});

test('discovery: plain, aggregated, and OpenAPI of each group', async () => {
  await using h = await startApi();
  assert.deepEqual((await h.raw('GET', '/api')).json.versions, ['v1']);
  const { json: core } = await h.raw('GET', '/api/v1');
  const pod = core.resources.find((r: { name: string }) => r.name === 'pods');
  assert.deepEqual([pod.kind, pod.shortNames, pod.namespaced], ['Pod', ['po'], true]);
  assert.ok(core.resources.some((r: { name: string }) => r.name === 'pods/status'));
  const aggregated = await h.raw('GET', '/apis', { headers: { accept: DISCOVERY } });
  assert.match(String(aggregated.headers['content-type']), /as=APIGroupDiscoveryList/);
  const apps = aggregated.json.items.find((g: { metadata: { name: string } }) => g.metadata.name === 'apps');
  assert.equal(
    apps.versions[0].resources.find((r: { resource: string }) => r.resource === 'deployments').responseKind
      .kind,
    'Deployment',
  );
  const { json: index } = await h.raw('GET', '/openapi/v3');
  for (const { serverRelativeURL } of Object.values(index.paths) as { serverRelativeURL: string }[]) {
    assert.equal((await h.raw('GET', serverRelativeURL)).json.openapi, '3.0.0', serverRelativeURL);
  }
  assert.equal((await h.raw('GET', '/readyz')).text, 'ok');
  assert.equal((await h.raw('GET', '/version')).json.major, '1');
});

test("a client certificate of the CA is as good as a token, another CA's is not", async () => {
  const { request } = await import('node:https');
  await using h = await startApi();
  await using other = await startApi();
  const ask = (pair: { key: string; cert: string }) =>
    new Promise<number>((resolve, reject) => {
      request(`${h.server}/api/v1/nodes`, { ca: h.api.tls.ca, ...pair, agent: false }, (r) => {
        r.resume();
        resolve(r.statusCode ?? 0);
      })
        .on('error', reject)
        .end();
    });
  assert.equal(await ask(await h.api.clientCertificate('bob')), 200);
  assert.equal(await ask(await other.api.clientCertificate('bob')), 401);
});
