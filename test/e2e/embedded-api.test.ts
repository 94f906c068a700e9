// The lab's own Kubernetes API as clusters are used: kubectl logs, exec, cp and port-forward reach real pods, and a
// service account may what its roles say; taints, extended resources and webhooks have their effect.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AdmissionregistrationV1Api, AppsV1Api, CoreV1Api } from '@kubernetes/client-node';
import { makeAuthority, signCertificate } from '../../src/lab/certificates.ts';
import { eventually } from '../support/wait.ts';
import { execute, skip, told } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('api');
/** The first that streams by WebSocket. */
const KUBECTL = 31;
let env: Record<string, string> = {};
let without: string | false = 'there is no kubectl 1.31 or newer';

before(async () => {
  if (skip) return;
  const version = await execute(['kubectl', 'version', '--client', '-o', 'json']).catch(() => undefined);
  const minor = Number(/"minor": "(\d+)/.exec(version?.stdout ?? '')?.[1] ?? 0);
  if (minor >= KUBECTL) without = false;
  await lab.up();
  env = { KUBECONFIG: (await lab.env())['KUBECONFIG']! };
});
after(async () => {
  if (!skip) await lab.down();
});

async function kubectl(...args: string[]): Promise<string> {
  const ran = await execute(['kubectl', ...args], env);
  assert.equal(ran.code, 0, told(['kubectl', ...args], ran));
  return ran.stdout;
}

test('kubectl logs, exec and cp', { skip }, async (t) => {
  if (without) return t.skip(without);
  const pod = await lab.run('web', '--node', 'node-1');
  assert.match(
    await kubectl('exec', 'web', '--', 'ip', '-o', 'addr', 'show', 'eth0'),
    new RegExp(pod.ips[0]!),
  );
  const failed = await execute(['kubectl', 'exec', 'web', '--', 'sh', '-c', 'echo no >&2; exit 3'], env);
  assert.deepEqual([failed.code, failed.stderr.split('\n')[0]], [3, 'no']);

  await kubectl('run', 'talk', '--image=podway/command', '--', 'sh', '-c', 'echo one; echo two; sleep 600');
  await kubectl('wait', '--for=condition=Ready', 'pod/talk', '--timeout=60s');
  await eventually('it has spoken', async () => (await kubectl('logs', 'talk')) === 'one\ntwo\n');
  assert.equal(await kubectl('logs', 'talk', '--tail=1'), 'two\n');
  const follow = spawn('kubectl', ['logs', '-f', 'talk'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let followed = '';
  follow.stdout.setEncoding('utf8').on('data', (part: string) => {
    followed += part;
  });
  t.after(() => follow.kill());
  const ended = once(follow, 'close');
  await eventually('it follows', () => followed === 'one\ntwo\n');
  await kubectl('delete', 'pod', 'talk', '--grace-period=1');
  assert.deepEqual(await ended, [0, null]);
  assert.equal(followed, 'one\ntwo\n');

  const dir = mkdtempSync(join(tmpdir(), 'podway-cp-'));
  try {
    writeFileSync(join(dir, 'from'), 'data');
    await kubectl('cp', join(dir, 'from'), `web:${join(dir, 'to')}`);
    assert.equal(readFileSync(join(dir, 'to'), 'utf8'), 'data');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('kubectl port-forward', { skip }, async (t) => {
  if (without) return t.skip(without);
  await lab.run('served', '--node', 'node-2');
  const forward = spawn('kubectl', ['port-forward', 'pod/served', ':8080', '--address=127.0.0.1'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    let said = '';
    forward.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const port = await eventually('it forwards', async () => /127\.0\.0\.1:(\d+) -> 8080/.exec(said)?.[1]);
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => (await fetch(`http://127.0.0.1:${port}/`)).text()),
    );
    for (const answer of answers) assert.match(answer, /^served 127\.0\.0\.1/);
  } finally {
    forward.kill();
  }
});

test('taints keep pods away and evict them; extended resources are counted', { skip }, async (t) => {
  if (without) return t.skip(without);
  const capacity = JSON.stringify({ status: { capacity: { 'example.com/eni': '1' } } });
  await kubectl('patch', 'node', 'node-1', '--subresource=status', '--type=merge', '-p', capacity);
  await kubectl('taint', 'node', 'node-2', 'only=batch:NoSchedule');
  const overrides = JSON.stringify({
    apiVersion: 'v1',
    spec: {
      containers: [
        { name: 'p', image: 'podway.lab/pod-server:1', resources: { limits: { 'example.com/eni': 1 } } },
      ],
    },
  });
  const run = (name: string) =>
    kubectl('run', name, '--image=podway.lab/pod-server:1', `--overrides=${overrides}`);
  await run('first');
  await kubectl('wait', '--for=condition=Ready', 'pod/first', '--timeout=60s');
  await run('second');
  const words =
    '0/2 nodes are available: 1 Insufficient example.com/eni, 1 node(s) had untolerated taint(s).';
  await eventually('the second is told why it waits', async () =>
    (await kubectl('get', 'events', '-o', 'jsonpath={.items[*].message}')).includes(words),
  );
  await kubectl('delete', 'pod', 'first', '--grace-period=1');
  await kubectl('wait', '--for=condition=Ready', 'pod/second', '--timeout=60s');
  await kubectl('taint', 'node', 'node-1', 'gone=now:NoExecute');
  await kubectl('wait', '--for=delete', 'pod/second', '--timeout=60s');
  await kubectl('taint', 'node', 'node-1', 'gone-');
  await kubectl('taint', 'node', 'node-2', 'only-');
});

test('a pod calls the API as its service account, which may what its roles say', { skip }, async (t) => {
  if (without) return t.skip(without);
  await kubectl('create', 'serviceaccount', 'reader');
  const ask = 'until kubectl get pods -o name; do sleep 0.3; done; sleep 600';
  const overrides = JSON.stringify({ apiVersion: 'v1', spec: { serviceAccountName: 'reader' } });
  await kubectl('run', 'asks', '--image=podway/command', `--overrides=${overrides}`, '--', 'sh', '-c', ask);
  await eventually('it is refused', async () =>
    /User "system:serviceaccount:default:reader" cannot list resource "pods"/.test(
      await kubectl('logs', 'asks'),
    ),
  );
  await kubectl('create', 'role', 'reads', '--verb=list', '--resource=pods');
  await kubectl('create', 'rolebinding', 'reads', '--role=reads', '--serviceaccount=default:reader');
  await eventually('it is answered', async () => /^pod\/asks$/m.test(await kubectl('logs', 'asks')));
});

/** Answers every review with a label, on 9443; the key and certificate come in its environment. */
const WEBHOOK = `
require('node:https').createServer({ key: process.env.KEY, cert: process.env.CERT }, async (request, response) => {
  const { apiVersion, kind, request: { uid, object } } = JSON.parse((await request.toArray()).join(''));
  const labels = { ...object.metadata.labels, seen: process.env.POD_NAME };
  const patch = Buffer.from(JSON.stringify([{ op: 'add', path: '/metadata/labels', value: labels }])).toString('base64');
  response.end(JSON.stringify({ apiVersion, kind, response: { uid, allowed: true, patchType: 'JSONPatch', patch } }));
}).listen(9443);`;

test('a webhook in a pod sees what a Deployment creates, by its service', { skip }, async () => {
  const config = await lab.kube();
  const core = config.makeApiClient(CoreV1Api);
  const namespace = 'default';
  const ca = await makeAuthority('test', Date.now());
  const { key, cert } = await signCertificate(ca, Date.now(), { user: 'hook', names: ['hook.default.svc'] });
  const env = [
    { name: 'KEY', value: key },
    { name: 'CERT', value: cert },
  ];
  const command = [process.execPath, '-e', WEBHOOK];
  const containers = [{ name: 'main', image: 'podway/command', command, env }];
  await core.createNamespacedPod({
    namespace,
    body: { metadata: { name: 'hook', labels: { app: 'hook' } }, spec: { containers } },
  });
  await core.createNamespacedService({
    namespace,
    body: {
      metadata: { name: 'hook' },
      spec: { selector: { app: 'hook' }, ports: [{ port: 443, targetPort: 9443 }] },
    },
  });
  await config.makeApiClient(AdmissionregistrationV1Api).createMutatingWebhookConfiguration({
    body: {
      metadata: { name: 'hook' },
      webhooks: [
        {
          name: 'hook.example.com',
          clientConfig: {
            service: { namespace, name: 'hook' },
            caBundle: Buffer.from(ca.cert).toString('base64'),
          },
          rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
          objectSelector: { matchLabels: { app: 'web' } },
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
        },
      ],
    },
  });
  await config.makeApiClient(AppsV1Api).createNamespacedDeployment({
    namespace,
    body: {
      metadata: { name: 'web' },
      spec: {
        replicas: 3,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: { containers: [{ name: 'main', image: 'podway.lab/pod-server:1' }] },
        },
      },
    },
  });
  // Until the webhook listens its calls fail, and the Deployment tries again.
  await eventually('three pods, seen by the webhook, run', async () => {
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'seen=hook' });
    return items.filter(({ status }) => status?.phase === 'Running').length === 3;
  });
});
