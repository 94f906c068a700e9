// Webhooks as an HTTPS server of this process answers them.
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Pod, pods, resource } from '../../../kube/index.ts';
import type { Hook } from '../admission/hooks.ts';
import { Controllers } from '../controllers/run.ts';
import { replicaSets } from '../workloads.ts';
import { aPod, configMaps, type Harness, startApi, until } from './testing.ts';

const services = resource('v1', 'services', 'Service', 'Namespaced');
const PODS = '/api/v1/namespaces/default/pods';

// biome-ignore lint/suspicious/noExplicitAny: reviews are looked into as they are
type Review = any;
type Answer =
  | { patch?: object[]; allowed?: boolean; status?: object; warnings?: string[] }
  | 'silence'
  | string;

async function serving(t: TestContext) {
  const h = await startApi({ names: ['127.0.0.1', 'localhost', 'hook.default.svc'] });
  t.after(() => h[Symbol.asyncDispose]());
  const seen: Review[] = [];
  const answers = new Map<string, (review: Review) => Answer | Promise<Answer>>();
  const server: Server = createServer(h.api.tls, async (request, response) => {
    const review = JSON.parse((await request.toArray()).join('')) as Review;
    const path = request.url!.split('?')[0]!;
    seen.push({ path, ...review.request });
    const answer = await (answers.get(path) ?? (() => ({})))(review.request);
    if (answer === 'silence') return;
    if (typeof answer === 'string') return void response.writeHead(200).end(answer);
    const { patch, ...rest } = answer as Exclude<Answer, string>;
    const encoded =
      patch === undefined
        ? {}
        : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') };
    const full = { uid: review.request.uid, allowed: true, ...encoded, ...rest };
    response.end(JSON.stringify({ apiVersion: review.apiVersion, kind: review.kind, response: full }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const caBundle = Buffer.from(h.api.tls.ca).toString('base64');
  const install = async (kind: 'Mutating' | 'Validating', hooks: Record<string, Partial<Hook>>) => {
    const webhooks = Object.entries(hooks).map(([name, more]) => ({
      name: `${name}.example.com`,
      clientConfig: { url: `https://127.0.0.1:${port}/${name}`, caBundle },
      rules: [{ operations: ['*'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods', 'configmaps'] }],
      sideEffects: 'None',
      admissionReviewVersions: ['v1'],
      ...more,
    }));
    const path = `/apis/admissionregistration.k8s.io/v1/${kind.toLowerCase()}webhookconfigurations`;
    const { code, json } = await h.raw('POST', path, {
      body: JSON.stringify({ metadata: { name: Object.keys(hooks)[0] }, webhooks }),
    });
    assert.equal(code, 201, json.message);
  };
  return { h, seen, answers, install, port, caBundle };
}

const label = (key: string, value: string) => ({
  op: 'add',
  path: '/metadata/labels',
  value: { [key]: value },
});
const post = (h: Harness, object: object, query = '') =>
  h.raw('POST', `${PODS}${query}`, { body: JSON.stringify(object) });

test('a mutating webhook changes what is made, a validating one sees it and refuses it', async (t) => {
  const { h, seen, answers, install } = await serving(t);
  await install('Mutating', { mutate: {} });
  await install('Validating', { validate: {} });
  answers.set('/mutate', () => ({ patch: [label('by', 'hook')], warnings: ['old words'] }));
  const made = await post(h, aPod('a'));
  assert.equal(made.code, 201);
  assert.deepEqual(made.json.metadata.labels, { by: 'hook' });
  assert.match(String(made.headers['warning']), /299 - "old words"/);
  const [first, second] = seen;
  assert.equal(first.path, '/mutate');
  assert.deepEqual(
    [first.operation, first.name, first.namespace, first.dryRun, first.oldObject, first.userInfo.username],
    ['CREATE', 'a', 'default', false, null, 'admin'],
  );
  assert.deepEqual(first.kind, { group: '', version: 'v1', kind: 'Pod' });
  assert.deepEqual(first.resource, { group: '', version: 'v1', resource: 'pods' });
  assert.equal(first.object.spec.restartPolicy, 'Always', 'it sees what the API filled in');
  assert.equal(second.path, '/validate');
  assert.deepEqual(second.object.metadata.labels, { by: 'hook' });
  assert.equal(second.object.metadata.uid, made.json.metadata.uid);

  answers.set('/validate', () => ({
    allowed: false,
    status: { code: 418, reason: 'Teapot', message: 'no' },
  }));
  const refused = await post(h, aPod('b'));
  assert.deepEqual(
    [refused.code, refused.json.reason, refused.json.message],
    [418, 'Teapot', 'admission webhook "validate.example.com" denied the request: no'],
  );
  assert.equal(h.api.store.find(pods, 'b', 'default'), null);
  answers.set('/validate', () => ({ allowed: false }));
  const silent = await post(h, aPod('b'));
  assert.deepEqual(
    [silent.code, silent.json.message],
    [400, 'admission webhook "validate.example.com" denied the request without explanation'],
  );
});

test('what webhooks made of an object is checked as if it were sent', async (t) => {
  const { h, answers, install } = await serving(t);
  await install('Mutating', { mutate: {} });
  answers.set('/mutate', () => ({ patch: [{ op: 'add', path: '/spec/restartPolicy', value: 'Maybe' }] }));
  assert.match((await post(h, aPod('a'))).json.message, /spec\.restartPolicy: Unsupported value: "Maybe"/);
  answers.set('/mutate', () => ({ patch: [{ op: 'replace', path: '/spec/restartPolicy', value: 'Never' }] }));
  const saved = await post(h, aPod('b', { spec: { restartPolicy: 'Maybe' } }));
  assert.equal(saved.json.spec.restartPolicy, 'Never');
  answers.set('/mutate', () => ({ patch: [{ op: 'remove', path: '/spec/nothing' }] }));
  assert.match((await post(h, aPod('c'))).json.message, /failed calling webhook .* cannot apply its patch/);
});

test('a dry run asks and writes nothing; unknown fields are told once', async (t) => {
  const { h, seen, install } = await serving(t);
  await install('Validating', { validate: {} });
  const dry = await post(h, { ...aPod('a'), nonsense: 1 }, '?dryRun=All');
  assert.equal(dry.code, 201);
  assert.equal(String(dry.headers['warning']).match(/unknown field/g)?.length, 1);
  assert.equal(seen[0].dryRun, true);
  assert.equal(h.api.store.find(pods, 'a', 'default'), null);
});

test('updates, patches, status and deletes are asked with the object as it was', async (t) => {
  const { h, seen, answers, install } = await serving(t);
  h.api.store.create(pods, aPod('a') as Pod);
  const resources = ['pods', 'pods/status'];
  await install('Validating', {
    validate: {
      rules: [
        { operations: ['UPDATE', 'DELETE'], apiGroups: [''], apiVersions: ['v1'], resources, scope: '*' },
      ],
    },
  });
  await h.client.patch(pods, 'a', 'default', { metadata: { labels: { x: 'y' } } });
  await h.client.patch(pods, 'a', 'default', { status: { podIP: '10.0.0.1' } }, { subresource: 'status' });
  await h.client.update(pods, {
    ...(h.api.store.get(pods, 'a', 'default') as Pod),
    metadata: { name: 'a', namespace: 'default', labels: { x: 'z' } },
  });
  answers.set('/validate', ({ operation }) => ({ allowed: operation !== 'DELETE' }));
  const refused = await h.raw('DELETE', `${PODS}/a`);
  assert.equal(refused.code, 400);
  assert.equal((await h.raw('DELETE', PODS)).code, 400);
  assert.ok(h.api.store.find(pods, 'a', 'default'));
  assert.deepEqual(
    seen.map(({ operation, subResource, oldObject, object }) => [
      operation,
      subResource,
      oldObject.metadata.labels?.x,
      object?.metadata.labels?.x,
      object?.status.podIP,
    ]),
    [
      ['UPDATE', undefined, undefined, 'y', undefined],
      ['UPDATE', 'status', 'y', 'y', '10.0.0.1'],
      ['UPDATE', undefined, 'y', 'z', '10.0.0.1'],
      ['DELETE', undefined, 'z', undefined, undefined],
      ['DELETE', undefined, 'z', undefined, undefined],
    ],
  );
});

test('a write that comes in between is not lost: a patch is done again, an update of a version is refused', async (t) => {
  const { h, seen, answers, install } = await serving(t);
  await h.client.create(configMaps, { metadata: { name: 'c', namespace: 'default' }, data: { a: '0' } });
  await install('Validating', { validate: {} });
  const interfere = (times: number) =>
    answers.set('/validate', () => {
      if (times-- > 0)
        h.api.store.patch(configMaps, 'c', 'default', { data: { [`b${times}`]: `${seen.length}` } });
      return {};
    });
  interfere(2);
  const patched = await h.client.patch(configMaps, 'c', 'default', { data: { a: '1' } });
  assert.deepEqual(patched.data, { a: '1', b1: '1', b0: '2' });
  assert.equal(seen.length, 3);
  interfere(1);
  await assert.rejects(h.client.update(configMaps, { ...patched, data: {} }), /has been modified/);
  interfere(99);
  await assert.rejects(h.client.patch(configMaps, 'c', 'default', { data: { a: '2' } }), /has been modified/);
});

test('a call that fails refuses or is passed over, as the policy says', async (t) => {
  const { h, answers, install, caBundle } = await serving(t);
  const only = (app: string) => ({ objectSelector: { matchLabels: { app } } });
  const at = (app: string) => post(h, aPod(app, { metadata: { labels: { app } } }));
  const nobody = { url: 'https://127.0.0.1:1/x', caBundle };
  const { caBundle: _, ...untrusted } = { url: `https://127.0.0.1:${h.port}/x`, caBundle };
  await install('Validating', {
    refused: { ...only('refused'), clientConfig: nobody },
    ignored: { ...only('ignored'), clientConfig: nobody, failurePolicy: 'Ignore' },
    untrusted: { ...only('untrusted'), clientConfig: untrusted },
    late: { ...only('late'), timeoutSeconds: 1 },
    babble: only('babble'),
    other: only('other'),
    patching: only('patching'),
  });
  answers.set('/late', () => 'silence');
  answers.set('/babble', () => 'hello');
  answers.set('/other', () => JSON.stringify({ response: { uid: 'other', allowed: true } }));
  answers.set('/patching', () => ({ patch: [label('a', 'b')] }));
  const cases: [string, RegExp][] = [
    [
      'refused',
      /^Internal error occurred: failed calling webhook "refused\.example\.com": failed to call webhook: Post "https:\/\/127\.0\.0\.1:1\/x\?timeout=10s": .*ECONNREFUSED/,
    ],
    ['untrusted', /certificate/],
    ['late', /Post "https:.*\/late\?timeout=1s": context deadline exceeded/],
    ['babble', /the answer is no JSON: hello/],
    ['other', /expected response\.uid=".*", got "other"/],
    ['patching', /validating webhook may not return response\.patch/],
  ];
  for (const [app, words] of cases) {
    const { code, json } = await at(app);
    assert.equal(code, 500, app);
    assert.match(json.message, words);
  }
  assert.equal((await at('ignored')).code, 201);
  assert.equal((await at('none')).code, 201);
});

test('a webhook that asks for it is called again after a later one changed the object', async (t) => {
  const { h, seen, answers, install } = await serving(t);
  await install('Mutating', { first: { reinvocationPolicy: 'IfNeeded' }, second: {} });
  answers.set('/second', () => ({ patch: [label('by', 'second')] }));
  assert.equal((await post(h, aPod('a'))).code, 201);
  assert.deepEqual(
    seen.map(({ path, object }) => [path, object.metadata.labels?.by]),
    [
      ['/first', undefined],
      ['/second', undefined],
      ['/first', 'second'],
    ],
  );
  seen.length = 0;
  answers.delete('/second');
  await post(h, aPod('b'));
  assert.equal(seen.length, 2);
});

test("a service's pod is reached, and its certificate is for the service; controllers' pods come by, too", async (t) => {
  const { h, seen, answers, install, port, caBundle } = await serving(t);
  const dialled: object[] = [];
  h.api.servePods({
    running: () => undefined,
    logFile: () => '',
    ttyProgram: () => assert.fail(),
    dial: (endpoint) => {
      dialled.push(endpoint);
      return connect(port, '127.0.0.1');
    },
  });
  h.api.store.create(services, {
    metadata: { name: 'hook', namespace: 'default' },
    spec: { selector: { app: 'hook' }, ports: [{ port: 443, targetPort: 9443 }] },
  } as never);
  const service = { namespace: 'default', name: 'hook', path: '/service', port: 443 };
  await install('Mutating', {
    service: { clientConfig: { service, caBundle }, objectSelector: { matchLabels: { app: 'web' } } },
  });
  const web = (name: string) => aPod(name, { metadata: { labels: { app: 'web' } } });
  assert.match((await post(h, web('a'))).json.message, /no endpoints available for service "hook"/);
  await post(h, aPod('hook', { metadata: { labels: { app: 'hook' } }, spec: { nodeName: 'node-1' } }));
  const conditions = [{ type: 'Ready', status: 'True' as const }];
  h.api.store.patch(
    pods,
    'hook',
    'default',
    { status: { podIP: '10.0.0.7', conditions } },
    { subresource: 'status' },
  );
  answers.set('/service', () => ({
    patch: [{ op: 'add', path: '/metadata/annotations', value: { by: 'hook' } }],
  }));
  assert.equal((await post(h, web('a'))).json.metadata.annotations.by, 'hook');
  assert.deepEqual(dialled, [{ address: '10.0.0.7', port: 9443, node: 'node-1' }]);

  const log = { warn: () => {} } as never;
  const controllers = new Controllers({ store: h.api.store, log });
  t.after(() => controllers.close());
  const template = { metadata: { labels: { app: 'web' } }, spec: aPod('x').spec };
  const set = {
    metadata: { name: 'set', namespace: 'default' },
    spec: { replicas: 3, selector: { matchLabels: { app: 'web' } }, template },
  };
  h.api.store.delete(pods, 'a', 'default');
  h.api.store.create(replicaSets, set as never);
  const made = () => h.api.store.list(pods, { labelSelector: 'app=web' });
  await until('three pods', () => made().length === 3);
  assert.deepEqual(
    made().map(({ metadata }) => metadata.annotations?.['by']),
    ['hook', 'hook', 'hook'],
  );
  assert.equal(seen.at(-1).userInfo.username, 'system:kube-controller-manager');

  answers.set('/service', () => ({ allowed: false, status: { message: 'full' } }));
  h.api.store.patch(replicaSets, 'set', 'default', { spec: { replicas: 4 } });
  await until('the refusal is an Event', async () => {
    const { json } = await h.raw('GET', '/api/v1/namespaces/default/events');
    return (json.items as { message: string }[]).some(({ message }) =>
      /denied the request: full/.test(message),
    );
  });
  assert.equal(made().length, 3);
});

test('configurations that cannot work are refused, each for its fault', async (t) => {
  const { h, install } = await serving(t);
  const base = {
    name: 'a.example.com',
    clientConfig: { url: 'https://h/x' },
    sideEffects: 'None',
    admissionReviewVersions: ['v1'],
  };
  const all = { operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: ['*'] };
  const cases: [object, RegExp][] = [
    [
      { name: 'short' },
      /webhooks\[0\]\.name: Invalid value: "short": should be a domain with at least three/,
    ],
    [{ clientConfig: {} }, /clientConfig: Required value: exactly one of url or service/],
    [{ clientConfig: { url: 'http://h' } }, /'https' is the only allowed URL scheme/],
    [{ clientConfig: { url: 'https://u:p@h' } }, /user information is not permitted/],
    [{ clientConfig: { url: 'https://h?x=1' } }, /query parameters and fragments are not permitted/],
    [
      { clientConfig: { service: { name: 's', path: 'x' } } },
      /service\.namespace: Required.*must start with a '\/'/,
    ],
    [{ clientConfig: { url: 'https://h', caBundle: 'eA==' } }, /unable to load root certificates/],
    [{ sideEffects: undefined }, /sideEffects: Required value: must specify one of None, NoneOnDryRun/],
    [{ sideEffects: 'Some' }, /sideEffects: Unsupported value: "Some"/],
    [
      { failurePolicy: 'Perhaps' },
      /failurePolicy: Unsupported value: "Perhaps": supported values: "Fail", "Ignore"/,
    ],
    [{ timeoutSeconds: 31 }, /the timeout value must be between 1 and 30 seconds/],
    [{ admissionReviewVersions: ['v1beta1'] }, /must include v1/],
    [
      { objectSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } },
      /objectSelector: Invalid value/,
    ],
    [
      { matchConditions: [{ name: 'x', expression: 'true' }] },
      /matchConditions: Forbidden: conditions in CEL/,
    ],
    [{ rules: [{ ...all, operations: ['LIST'] }] }, /operations: Unsupported value: "LIST"/],
    [{ rules: [{ ...all, apiGroups: ['*', 'apps'] }] }, /if '\*' is present, must not specify others/],
    [{ rules: [{ ...all, resources: [] }] }, /rules\[0\]\.resources: Required value/],
  ];
  const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
  const send = (webhooks: object[]) =>
    h.raw('POST', path, { body: JSON.stringify({ metadata: { name: 'x' }, webhooks }) });
  for (const [more, words] of cases) {
    const { code, json } = await send([{ ...base, ...more }]);
    assert.match(json.message, words);
    assert.equal(code, 422, json.message);
  }
  assert.match((await send([base, base])).json.message, /webhooks\[1\]\.name: Duplicate value/);
  // Webhooks never see the configurations: a wrong one can be taken away.
  await install('Validating', {
    locks: { clientConfig: { url: 'https://127.0.0.1:1/x' }, rules: [{ ...all, scope: '*' }] as never },
  });
  assert.equal((await post(h, aPod('a'))).code, 500);
  assert.equal((await h.raw('DELETE', `${path.replace('mutating', 'validating')}/locks`)).code, 200);
  assert.equal((await post(h, aPod('a'))).code, 201);
});
