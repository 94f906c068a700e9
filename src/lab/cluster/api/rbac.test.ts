import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { resource } from '../../../kube/index.ts';
import type { CallRecord } from './calls.ts';
import { covers, type Rule } from './rbac.ts';
import { type Harness, startApi } from './testing.ts';

const api = 'rbac.authorization.k8s.io/v1';
const clusterRoles = resource(api, 'clusterroles', 'ClusterRole', 'Cluster');
const clusterRoleBindings = resource(api, 'clusterrolebindings', 'ClusterRoleBinding', 'Cluster');
const roleBindings = resource(api, 'rolebindings', 'RoleBinding', 'Namespaced');
const serviceAccounts = resource('v1', 'serviceaccounts', 'ServiceAccount', 'Namespaced');
const ACCOUNT = 'system:serviceaccount:default:reader';

const about = (verb: string, full: string, more: { group?: string; name?: string } = {}) => {
  const [resourceName = '', subresource = ''] = full.split('/');
  return { verb, group: '', resource: resourceName, subresource, namespace: '', name: '', ...more };
};

test('a rule covers what it names and nothing else', () => {
  const rule = (more: Partial<Rule>): Rule => ({
    verbs: ['get'],
    apiGroups: [''],
    resources: ['pods'],
    ...more,
  });
  const cases: [Rule, Parameters<typeof covers>[1], boolean][] = [
    [rule({}), about('get', 'pods'), true],
    [rule({}), about('list', 'pods'), false],
    [rule({}), about('get', 'pods/log'), false],
    [rule({ resources: ['pods/log'] }), about('get', 'pods/log'), true],
    [rule({ resources: ['*/log'] }), about('get', 'pods/log'), true],
    [rule({ resources: ['*'] }), about('get', 'pods/log'), true],
    [rule({ apiGroups: ['apps'] }), about('get', 'pods'), false],
    [rule({ verbs: ['*'], apiGroups: ['*'] }), about('delete', 'pods', { group: 'metrics' }), true],
    [rule({ resourceNames: ['a'] }), about('get', 'pods', { name: 'a' }), true],
    [rule({ resourceNames: ['a'] }), about('get', 'pods'), false],
    [rule({ resources: undefined as never }), { verb: 'get', path: '/healthz' }, false],
    [{ verbs: ['get'], nonResourceURLs: ['/api/*'] }, { verb: 'get', path: '/api/v1' }, true],
    [{ verbs: ['get'], nonResourceURLs: ['/api'] }, { verb: 'get', path: '/api/v1' }, false],
  ];
  for (const [given, asked, expected] of cases)
    assert.equal(covers(given, asked), expected, JSON.stringify([given, asked]));
});

async function accountOf(h: Harness) {
  h.api.store.create(serviceAccounts, { metadata: { name: 'reader', namespace: 'default' } });
  const { json } = await h.raw('POST', '/api/v1/namespaces/default/serviceaccounts/reader/token', {
    body: '{}',
  });
  return (method: string, path: string, body?: string) =>
    h.raw(method, path, {
      ...(body === undefined ? {} : { body }),
      headers: { authorization: `Bearer ${json.status.token}` },
    });
}

const role = (name: string, rules: Rule[], more: object = {}) =>
  ({ metadata: { name, ...more }, rules }) as never;
const subjects = [{ kind: 'ServiceAccount', name: 'reader', namespace: 'default' }];
const roleRef = (name: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name });

test('a service account may what its roles say, in the place of their binding', async () => {
  await using h = await startApi();
  const call = await accountOf(h);
  assert.equal((await call('GET', '/api')).code, 200);
  const refused = await call('GET', '/api/v1/namespaces/default/pods');
  assert.equal(refused.code, 403);
  assert.equal(
    refused.json.message,
    `pods is forbidden: User "${ACCOUNT}" cannot list resource "pods" in API group "" in the namespace "default"`,
  );
  assert.match(
    (await call('GET', '/api/v1/nodes/n')).json.message,
    /nodes "n" is forbidden: .* at the cluster scope$/,
  );
  assert.match((await call('GET', '/metrics')).json.message, /cannot get path "\/metrics"$/);

  h.api.store.create(
    clusterRoles,
    role('reads', [{ verbs: ['list'], apiGroups: [''], resources: ['pods'] }]),
  );
  h.api.store.create(roleBindings, {
    metadata: { name: 'b', namespace: 'default' },
    subjects: [{ kind: 'ServiceAccount', name: 'reader' }],
    roleRef: roleRef('reads'),
  } as never);
  assert.equal((await call('GET', '/api/v1/namespaces/default/pods')).code, 200);
  assert.equal((await call('GET', '/api/v1/namespaces/kube-system/pods')).code, 403);
  assert.equal((await call('GET', '/api/v1/pods')).code, 403);
  h.api.store.create(clusterRoleBindings, {
    metadata: { name: 'b' },
    subjects,
    roleRef: roleRef('reads'),
  } as never);
  assert.equal((await call('GET', '/api/v1/pods')).code, 200);
  assert.equal((await call('POST', '/api/v1/namespaces/default/pods', '{}')).code, 403);
});

test('an aggregated role has the rules of those that its selectors find', async () => {
  await using h = await startApi();
  const call = await accountOf(h);
  const aggregated = {
    metadata: { name: 'all' },
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { to: 'all' } }] },
    rules: [],
  };
  h.api.store.create(clusterRoles, aggregated as never);
  h.api.store.create(clusterRoleBindings, {
    metadata: { name: 'b' },
    subjects,
    roleRef: roleRef('all'),
  } as never);
  assert.equal((await call('GET', '/api/v1/nodes')).code, 403);
  const rules = [{ verbs: ['list'], apiGroups: [''], resources: ['nodes'] }];
  h.api.store.create(clusterRoles, role('part', rules, { labels: { to: 'all' } }));
  assert.equal((await call('GET', '/api/v1/nodes')).code, 200);
});

test('each different call is a line of its own, once, also after a restart', async () => {
  await using h = await startApi();
  const call = await accountOf(h);
  const lines = (): CallRecord[] =>
    readFileSync(join(h.dir, 'kube-calls.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as CallRecord)
      .filter(({ user }) => user === ACCOUNT);
  for (const name of ['a', 'b']) await call('GET', `/api/v1/namespaces/default/pods/${name}`);
  await call('PATCH', '/api/v1/nodes/n/status', '{}');
  await call('GET', '/apis/apps/v1/deployments?watch=1');
  await call('GET', '/version');
  const expected = [
    { user: ACCOUNT, verb: 'get', allowed: false, group: '', resource: 'pods', namespace: 'default' },
    { user: ACCOUNT, verb: 'patch', allowed: false, group: '', resource: 'nodes/status' },
    { user: ACCOUNT, verb: 'watch', allowed: false, group: 'apps', resource: 'deployments' },
    { user: ACCOUNT, verb: 'get', allowed: true, path: '/version' },
  ];
  assert.deepEqual(lines(), expected);
  await h.restart();
  await call('GET', '/version');
  assert.deepEqual(lines(), expected);
});

test('kubectl --as: whoever may impersonate is taken for the other', async () => {
  await using h = await startApi();
  const who = (headers: Record<string, string>) =>
    h.raw('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: '{}', headers });
  const { username, groups } = (await who({ 'impersonate-user': ACCOUNT })).json.status.userInfo;
  assert.equal(username, ACCOUNT);
  assert.deepEqual(groups, [
    'system:serviceaccounts',
    'system:serviceaccounts:default',
    'system:authenticated',
  ]);
  assert.equal((await who({ 'impersonate-group': 'g' })).code, 400);
  assert.equal((await who({ 'impersonate-user': 'u', 'impersonate-extra-x': 'y' })).code, 400);
  const call = await accountOf(h);
  const { json } = await h.raw('POST', '/api/v1/namespaces/default/serviceaccounts/reader/token', {
    body: '{}',
  });
  const denied = await who({ 'impersonate-user': 'admin', authorization: `Bearer ${json.status.token}` });
  assert.match(denied.json.message, /cannot impersonate resource "users"/);
  assert.equal((await call('GET', '/version')).code, 200);
});

test('reviews answer by the roles: of oneself, of others, of a namespace', async () => {
  await using h = await startApi();
  await accountOf(h);
  h.api.store.create(
    clusterRoles,
    role('reads', [{ verbs: ['list'], apiGroups: [''], resources: ['pods'] }]),
  );
  h.api.store.create(clusterRoleBindings, {
    metadata: { name: 'b' },
    subjects,
    roleRef: roleRef('reads'),
  } as never);
  const ask = async (plural: string, spec: object, headers: Record<string, string> = {}) => {
    const path = `/apis/authorization.k8s.io/v1/${plural}`;
    return (await h.raw('POST', path, { body: JSON.stringify({ spec }), headers })).json;
  };
  const list = { resourceAttributes: { verb: 'list', resource: 'pods' } };
  const as = { 'impersonate-user': ACCOUNT };
  assert.equal((await ask('selfsubjectaccessreviews', list)).status.allowed, true);
  assert.equal((await ask('selfsubjectaccessreviews', list, as)).status.allowed, true);
  const other = { resourceAttributes: { verb: 'delete', resource: 'pods' } };
  assert.equal((await ask('selfsubjectaccessreviews', other, as)).status.allowed, false);
  assert.match(
    (await ask('subjectaccessreviews', { user: ACCOUNT, ...list })).status.reason,
    /of ClusterRole "reads"$/,
  );
  assert.equal((await ask('subjectaccessreviews', { user: 'nobody', ...list })).status.allowed, false);
  assert.match((await ask('subjectaccessreviews', list)).message, /at least one of user or group/);
  assert.match((await ask('selfsubjectaccessreviews', {})).message, /exactly one of/);
  const { status } = await ask('selfsubjectrulesreviews', { namespace: 'default' }, as);
  assert.ok(status.resourceRules.some((rule: Rule) => rule.resources?.includes('pods')));
  const local = await ask('namespaces/default/localsubjectaccessreviews', { user: ACCOUNT, ...list });
  assert.equal(local.status.allowed, true);
});
