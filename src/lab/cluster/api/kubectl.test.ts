// The newest kubectl against this API, when one is there: PODWAY_KUBECTL names it, else the PATH is searched.
// It builds in two minutes from a Go module that requires k8s.io/kubernetes (cmd/kubectl).
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { events, nodes, type Pod, pods } from '../../../kube/index.ts';
import { aPod, type Harness, startApi, until } from './testing.ts';

const kubectl =
  process.env['PODWAY_KUBECTL'] ??
  (process.env['PATH'] ?? '')
    .split(':')
    .map((dir) => join(dir, 'kubectl'))
    .find((path) => existsSync(path));
const skip = kubectl === undefined ? 'there is no kubectl: set PODWAY_KUBECTL' : false;

type Ran = { code: number; out: string; err: string };

function run(h: Harness, args: string[], input?: string): Promise<Ran> {
  const env = { PATH: process.env['PATH'], HOME: h.dir, KUBECONFIG: h.kubeconfigPath };
  return new Promise((resolve) => {
    const child = execFile(kubectl!, args, { env, timeout: 60_000 }, (error, out, err) =>
      resolve({ code: error ? Number(error.code ?? 1) : 0, out, err }),
    );
    child.stdin?.end(input ?? '');
  });
}

const manifest = (image: string, more = '') => `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: "${image}", ports: [{containerPort: 80}]}
${more}`;

test('kubectl get, apply, describe, label, annotate, explain, delete', { skip }, async () => {
  await using h = await startApi();
  const ok = async (args: string[], words: RegExp, input?: string) => {
    const { code, out, err } = await run(h, args, input);
    assert.equal(code, 0, `${args.join(' ')}: ${err}`);
    assert.match(out, words, args.join(' '));
  };
  h.api.store.create(nodes, {
    metadata: { name: 'node-1' },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      addresses: [{ type: 'InternalIP', address: '10.0.0.4' }],
      nodeInfo: {
        kubeletVersion: 'v1.36.0',
        osImage: 'Linux',
        kernelVersion: '6.1',
        containerRuntimeVersion: 'podway://1',
        architecture: 'amd64',
      },
    },
  });
  await ok(
    ['get', 'nodes', '-o', 'wide'],
    /node-1 +Ready +<none> +\d+s +v1\.36\.0 +10\.0\.0\.4 +<none> +Linux +6\.1 \(amd64\) +podway:\/\/1/,
  );
  await ok(['apply', '-f', '-'], /pod\/web created/, manifest('one'));
  await ok(['apply', '-f', '-'], /pod\/web unchanged/, manifest('one'));
  await ok(['apply', '-f', '-'], /pod\/web configured/, manifest('two'));
  await ok(['apply', '--server-side', '-f', '-'], /pod\/web serverside-applied/, manifest('three'));
  assert.equal(h.api.store.get(pods, 'web', 'default').spec.containers[0]?.image, 'three');
  const wrong = await run(h, ['apply', '-f', '-'], manifest('one', '  nonsense: true\n'));
  assert.match(wrong.err, /unknown field "spec\.nonsense"/);
  await ok(['label', 'pod', 'web', 'tier=front'], /labeled/);
  await ok(['annotate', 'pod', 'web', 'note=hello'], /annotated/);
  h.api.store.create(events, {
    metadata: { name: 'web.1', namespace: 'default' },
    involvedObject: {
      kind: 'Pod',
      name: 'web',
      namespace: 'default',
      uid: h.api.store.get(pods, 'web', 'default').metadata.uid!,
    },
    type: 'Warning',
    reason: 'FailedCreatePodSandBox',
    message: 'no address',
    count: 3,
  });
  await ok(
    ['describe', 'pod', 'web'],
    /tier=front[\s\S]*note: hello[\s\S]*Warning +FailedCreatePodSandBox .*no address/,
  );
  await ok(['get', 'events'], /Warning +FailedCreatePodSandBox +pod\/web +no address/);
  await ok(['explain', 'pod.spec.hostNetwork'], /FIELD: hostNetwork <boolean>/);
  await ok(['create', 'namespace', 'team'], /namespace\/team created/);
  await ok(['create', 'deployment', 'd', '--image=x', '--replicas=2'], /created/);
  await ok(['scale', 'deployment', 'd', '--replicas=5'], /scaled/);
  await ok(['get', 'all', '-A'], /deployment\.apps\/d +0\/5/);
  await ok(['delete', 'namespace', 'team'], /deleted/);
  await ok(['delete', 'pod', 'web'], /pod "web" deleted/);
  await ok(['api-resources'], /networkpolicies +netpol +networking\.k8s\.io\/v1 +true +NetworkPolicy/);
});

test('kubectl get pods -o wide -w shows each step of a pod', { skip }, async () => {
  await using h = await startApi();
  const env = { PATH: process.env['PATH'], HOME: h.dir, KUBECONFIG: h.kubeconfigPath };
  const child = spawn(kubectl!, ['get', 'pods', '-o', 'wide', '-w'], { env });
  try {
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    // Nothing is printed for an empty list: create until the watch has begun.
    h.api.store.create(pods, aPod('a') as Pod);
    await until('the pod', () => /a +0\/1 +Pending/.test(out), 30_000);
    h.api.store.bindPod('a', 'default', 'node-1');
    const status = {
      phase: 'Running',
      podIP: '10.0.0.9',
      podIPs: [{ ip: '10.0.0.9' }],
      containerStatuses: [
        { name: 'main', ready: true, restartCount: 0, image: '', imageID: '', state: { running: {} } },
      ],
    };
    h.api.store.patch(pods, 'a', 'default', { status }, { subresource: 'status' });
    await until('Running', () => /a +1\/1 +Running +0 +\d+s +10\.0\.0\.9 +node-1/.test(out));
    h.api.store.delete(pods, 'a', 'default');
    await until('Terminating', () => /a +1\/1 +Terminating/.test(out));
  } finally {
    child.kill();
  }
});

test('kubectl applies a definition and then its kind', { skip }, async () => {
  await using h = await startApi();
  const file = join(h.dir, 'crd.yaml');
  writeFileSync(
    file,
    `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, minimum: 1}}}}}}
`,
  );
  assert.equal((await run(h, ['apply', '-f', file])).code, 0);
  const applied = await run(
    h,
    ['apply', '-f', '-'],
    'apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 2}\n',
  );
  assert.match(applied.out, /widget\.example\.com\/w created/, applied.err);
  assert.match((await run(h, ['get', 'widgets'])).out, /NAME +SIZE\nw +2/);
  assert.match(
    (
      await run(
        h,
        ['apply', '-f', '-'],
        'apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 0}\n',
      )
    ).err,
    /should be greater than or equal to 1/,
  );
  assert.equal((await run(h, ['delete', 'crd', 'widgets.example.com', '--timeout=10s'])).code, 0);
});
