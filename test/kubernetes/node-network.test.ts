// The CRD NodeNetwork before a real API server: its schema and its CEL rules take and refuse what the agent's own reading
// does. Only etcd and kube-apiserver run, on loopback, in a folder that goes with the test. Builds nothing: skipped, with
// the reason, where the programs are not in the cache.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { isRefused, readNodeNetwork } from '../../src/ipam/config/node-network.ts';
import type { NodeNetwork } from '../../src/kube/networks.ts';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { missingKubernetes } from '../support/kubernetes.ts';
import { eventually } from '../support/wait.ts';

const skip = process.env['PODWAY_KUBERNETES']
  ? missingKubernetes()
  : 'takes a real API server (npm run test:kubernetes-lab)';

const TOKEN = 'of-the-test';
const CRD = join(import.meta.dirname, '../../deploy/crds/nodenetwork.yaml');
const NETWORKS = '/apis/podway.dev/v1alpha1/nodenetworks?dryRun=All&fieldValidation=Strict';
const UP_BOUND_MS = 60_000;

let dir: string;
let port: number;
const children: ChildProcess[] = [];

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port: found } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return found;
}

const start = (program: string, args: string[]): void => {
  children.push(spawn(program, args, { stdio: 'ignore' }));
};

type Answer = { status: number; body: { message: string } };
function ask(method: string, path: string, body?: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const sent = request({ host: '127.0.0.1', port, method, path, headers, rejectUnauthorized: false });
    sent.once('error', reject);
    sent.once('response', async (answer) => {
      const text = Buffer.concat(await answer.toArray()).toString();
      resolve({
        status: answer.statusCode!,
        body: text.startsWith('{') ? JSON.parse(text) : { message: text },
      });
    });
    sent.end(body && JSON.stringify(body));
  });
}

const post = (spec: unknown): Promise<Answer> =>
  ask('POST', NETWORKS, {
    ...{ apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork' },
    ...{ metadata: { name: 'tried' }, ...(spec === undefined ? {} : { spec }) },
  });

before(async () => {
  if (skip) return;
  const { programs } = findBinaries({});
  dir = mkdtempSync(join(tmpdir(), 'podway-crd-'));
  const [client, peer] = [await freePort(), await freePort()];
  port = await freePort();
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }));
  writeFileSync(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(dir, 'tokens.csv'), `${TOKEN},tester,tester,system:masters\n`);
  const url = (at: number) => `http://127.0.0.1:${at}`;
  start(programs.etcd, [
    ...['--data-dir', join(dir, 'etcd'), '--listen-client-urls', url(client)],
    ...['--advertise-client-urls', url(client), '--listen-peer-urls', url(peer)],
    ...['--initial-advertise-peer-urls', url(peer), '--initial-cluster', `default=${url(peer)}`],
  ]);
  start(programs['kube-apiserver'], [
    `--etcd-servers=${url(client)}`,
    ...['--bind-address=127.0.0.1', `--secure-port=${port}`, `--cert-dir=${join(dir, 'certs')}`],
    ...['--advertise-address=10.255.255.1', '--service-cluster-ip-range=10.254.0.0/24'],
    ...['--endpoint-reconciler-type=none', '--authorization-mode=RBAC'],
    `--token-auth-file=${join(dir, 'tokens.csv')}`,
    '--service-account-issuer=https://podway.test',
    `--service-account-key-file=${join(dir, 'sa.pub')}`,
    `--service-account-signing-key-file=${join(dir, 'sa.key')}`,
  ]);
  const isReady = () =>
    ask('GET', '/readyz').then(
      ({ status }) => status === 200,
      () => false,
    );
  await eventually('the API server is ready', isReady, UP_BOUND_MS);
  const made = await ask(
    'POST',
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    parse(readFileSync(CRD, 'utf8')) as object,
  );
  assert.equal(made.status, 201, made.body.message);
  await eventually('it serves the CRD', async () => (await post({})).status === 201, UP_BOUND_MS);
});

after(async () => {
  for (const child of children.reverse()) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  if (dir) rmSync(dir, { recursive: true, force: true });
});

const SG = 'sg-0123456789abcdef0';
const taken: unknown[] = [
  {},
  { nodeSelector: {} },
  { nodeSelector: { matchLabels: { pool: 'web', 'podway.dev/kind': '' } } },
  {
    nodeSelector: {
      matchExpressions: [
        { key: 'a', operator: 'In', values: ['b', 'c'] },
        { key: 'd', operator: 'NotIn', values: ['e'] },
        { key: 'f', operator: 'Exists' },
        { key: 'g', operator: 'DoesNotExist', values: [] },
      ],
    },
  },
  { families: 'dual', addressing: 'auto' },
  { subnets: { ids: ['subnet-01234567', 'subnet-0123456789abcdef0'] } },
  { subnets: { tags: { tier: 'pods', empty: '' } } },
  { securityGroups: { ids: [SG], existingENIs: 'change' } },
  { securityGroups: { tags: { pods: 'yes' } } },
  { usePrimaryENI: false },
  { capacity: { podsPerMinute: 0, maxIdlePercent: 1000, minIdle: 8, maxPods: 8 } },
  { capacity: {} },
  { bounds: { maxAddresses: 20000, maxSubnetPercent: 100 } },
  { cooldown: '24h' },
  { cooldown: '1440m' },
  { cooldown: '86400000ms' },
  { cooldown: '0s' },
];
const refused: unknown[] = [
  [],
  undefined,
  { colour: 'red' },
  { addressing: 'ipv6' },
  { families: 'ipv5' },
  { families: null, addressing: 7 },
  { subnets: {} },
  { subnets: { ids: ['subnet-01234567'], tags: { a: 'b' } } },
  { subnets: { ids: ['vpc-1'] } },
  { subnets: { ids: [] } },
  { subnets: { tags: {} } },
  { subnets: { tags: { a: 1 } } },
  { securityGroups: { existingENIs: 'keep' } },
  { securityGroups: { ids: ['sg-01234567'], existingENIs: 'maybe' } },
  { securityGroups: { ids: ['sg-0123456'] } },
  { capacity: { podsPerMinute: -1 } },
  { capacity: { podsPerMinute: 1001 } },
  { capacity: { minIdle: 1.5 } },
  { capacity: { minIdle: 9, maxPods: 8 } },
  { capacity: { maxPods: 0 } },
  { capacity: { maxPods: '8' } },
  { bounds: { maxSubnetPercent: 101 } },
  { bounds: { maxAddresses: 0 } },
  { cooldown: '30' },
  { cooldown: 30 },
  { cooldown: '25h' },
  { cooldown: '1441m' },
  { cooldown: '86400001ms' },
  { cooldown: '1h30m' },
  { cooldown: '-1s' },
  { usePrimaryENI: 'no' },
  { nodeSelector: { matchExpressions: [{ key: 'a', operator: 'Near' }] } },
  { nodeSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } },
  { nodeSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: [] }] } },
  { nodeSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } },
  { nodeSelector: { matchExpressions: [{ operator: 'Exists' }] } },
  { nodeSelector: { matchExpressions: [{ key: '', operator: 'Exists' }] } },
  { nodeSelector: { matchExpressions: [{ key: 'a b', operator: 'Exists' }] } },
  { nodeSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: ['not a label'] }] } },
  { nodeSelector: { matchLabels: { a: 1 } } },
  { nodeSelector: { matchLabels: { 'a b': 'c' } } },
  { nodeSelector: { matchLabels: { a: 'not a label' } } },
  { nodeSelector: { matchLabels: { a: '-b' } } },
];

const byAgent = (spec: unknown): string[] => {
  const read = readNodeNetwork({
    metadata: { name: 'tried', generation: 1 },
    ...(spec === undefined ? {} : { spec }),
  } as NodeNetwork);
  return isRefused(read) ? [...read.problems] : [];
};

for (const spec of taken)
  test(`${JSON.stringify(spec)}: taken by both`, { skip }, async () => {
    const { status, body } = await post(spec);
    assert.equal(status, 201, body.message);
    assert.deepEqual(byAgent(spec), []);
  });

for (const spec of refused)
  test(`${JSON.stringify(spec) ?? 'no spec'}: refused by both`, { skip }, async () => {
    const { status, body } = await post(spec);
    assert.ok(status === 422 || status === 400, `${status}: ${body.message}`);
    // Without a spec the schema alone can say so: it is what an operator forgot, and means every node.
    if (spec !== undefined) assert.notDeepEqual(byAgent(spec), []);
  });

test('the example is taken', { skip }, async () => {
  const example = parse(
    readFileSync(join(import.meta.dirname, '../../deploy/node-network-example.yaml'), 'utf8'),
  ) as NodeNetwork;
  const { status, body } = await ask('POST', NETWORKS, example);
  assert.equal(status, 201, body.message);
  assert.deepEqual(byAgent(example.spec), []);
});
