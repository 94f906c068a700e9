import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { test } from 'node:test';
import { type Pod, pods, resource } from '../../../kube/index.ts';
import { aPod, type Harness, startApi } from './testing.ts';

const serviceAccounts = resource('v1', 'serviceaccounts', 'ServiceAccount', 'Namespaced');
const PATH = '/api/v1/namespaces/default/serviceaccounts/default/token';

const ask = (h: Harness, spec: object = {}) => h.raw('POST', PATH, { body: JSON.stringify({ spec }) });
const codeWith = async (h: Harness, token: string) =>
  (await h.raw('GET', '/version', { headers: { authorization: `Bearer ${token}` } })).code;

test('a service account gets a token that its bearer is known by, until it expires', async () => {
  let now = Date.now();
  await using h = await startApi({ now: () => now });
  const { code, json } = await ask(h, { expirationSeconds: 700 });
  assert.deepEqual([code, json.kind, json.spec.expirationSeconds], [201, 'TokenRequest', 700]);
  const { token, expirationTimestamp } = json.status;
  assert.equal(Date.parse(expirationTimestamp), Math.floor(now / 1000) * 1000 + 700_000);
  const who = await h.raw('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
    body: '{}',
    headers: { authorization: `Bearer ${token}` },
  });
  assert.equal(who.json.status.userInfo.username, 'system:serviceaccount:default:default');
  assert.equal(await codeWith(h, token), 200);
  await h.restart();
  assert.equal(await codeWith(h, token), 200);
  now += 701_000;
  assert.equal(await codeWith(h, token), 401);
});

test('a token of another audience, changed, or of an account made anew is nobody', async () => {
  await using h = await startApi();
  const elsewhere = (await ask(h, { audiences: ['vault'] })).json.status.token;
  assert.equal(await codeWith(h, elsewhere), 401);
  const { token } = (await ask(h)).json.status as { token: string };
  const [head, body, signature] = token.split('.') as [string, string, string];
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  claims.sub = 'system:admin';
  const forged = Buffer.from(JSON.stringify(claims)).toString('base64url');
  for (const wrong of [`${head}.${forged}.${signature}`, `${head}.${body}.`, `${head}.${body}`, 'x.y.z'])
    assert.equal(await codeWith(h, wrong), 401, wrong);
  h.api.store.delete(serviceAccounts, 'default', 'default');
  assert.ok(h.api.store.find(serviceAccounts, 'default', 'default'), 'another takes its place');
  assert.equal(await codeWith(h, token), 401);
});

test('a TokenRequest that is too short, or of no account, is refused', async () => {
  await using h = await startApi();
  const { code, json } = await ask(h, { expirationSeconds: 60 });
  assert.equal(code, 422);
  assert.match(json.message, /may not specify a duration less than 10 minutes/);
  const path = PATH.replace('accounts/default', 'accounts/nobody');
  assert.equal((await h.raw('POST', path, { body: '{}' })).code, 404);
});

test('a token bound to a pod is good as long as the pod is there', async () => {
  await using h = await startApi();
  const pod = h.api.store.create(pods, aPod('a') as Pod);
  const bind = (ref: object) =>
    ask(h, { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'a', ...ref } });
  assert.equal((await bind({ name: 'b' })).code, 404);
  assert.equal((await bind({ uid: 'other' })).code, 409);
  assert.equal((await bind({ kind: 'Service' })).code, 400);
  const { token } = (await bind({ uid: pod.metadata.uid })).json.status as { token: string };
  assert.equal(await codeWith(h, token), 200);
  const review = async (spec: object) =>
    (
      await h.raw('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
        body: JSON.stringify({ spec: { token, ...spec } }),
      })
    ).json.status;
  const { user, authenticated } = await review({});
  assert.equal(authenticated, true);
  assert.deepEqual(user.extra['authentication.kubernetes.io/pod-name'], ['a']);
  assert.equal((await review({ audiences: ['vault'] })).authenticated, false);
  assert.equal((await review({ token: 'x.y.z' })).authenticated, false);
  h.api.store.delete(pods, 'a', 'default', { gracePeriodSeconds: 0 });
  assert.equal(await codeWith(h, token), 401);
});

test('others can check a token with what the API publishes', async () => {
  await using h = await startApi();
  const { issuer, jwks_uri } = (await h.raw('GET', '/.well-known/openid-configuration')).json;
  assert.ok(jwks_uri.startsWith(issuer));
  const { keys } = (await h.raw('GET', '/openid/v1/jwks')).json;
  const { token } = (await ask(h, { audiences: ['vault'] })).json.status as { token: string };
  const [head, body, signature] = token.split('.') as [string, string, string];
  assert.equal(JSON.parse(Buffer.from(head, 'base64url').toString()).kid, keys[0].kid);
  const key = { key: createPublicKey({ key: keys[0], format: 'jwk' }), dsaEncoding: 'ieee-p1363' as const };
  const text = Buffer.from(`${head}.${body}`);
  assert.ok(verify('sha256', text, key, Buffer.from(signature, 'base64url')));
});

test('a pod whose service account is not there is refused; its process gets a token unless it wants none', async () => {
  await using h = await startApi();
  const make = (name: string, spec: object) =>
    h.raw('POST', '/api/v1/namespaces/default/pods', { body: JSON.stringify(aPod(name, { spec })) });
  const refused = await make('a', { serviceAccountName: 'nobody' });
  assert.equal(refused.code, 403);
  assert.equal(
    refused.json.message,
    'pods "a" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found',
  );
  const account = { metadata: { name: 'quiet', namespace: 'default' }, automountServiceAccountToken: false };
  h.api.store.create(serviceAccounts, account as never);
  const tokenOf = async (name: string, spec: object) => {
    const { json } = await make(name, spec);
    return h.api.podToken(json as Pod, 600);
  };
  const token = await tokenOf('b', {});
  assert.equal(await codeWith(h, token!), 200);
  assert.equal(await tokenOf('c', { automountServiceAccountToken: false }), null);
  assert.equal(await tokenOf('d', { serviceAccountName: 'quiet' }), null);
  assert.notEqual(
    await tokenOf('e', { serviceAccountName: 'quiet', automountServiceAccountToken: true }),
    null,
  );
});
