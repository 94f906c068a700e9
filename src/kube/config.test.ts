import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inClusterConfig, KubeConfigError, readKubeConfig } from './config.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-kubeconfig-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const write = (name: string, text: string): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};

const yaml = (user: string, server = 'https://10.0.0.1:6443/') => `
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: other, context: {cluster: x, user: y}}, {name: here, context: {cluster: c, user: u, namespace: team}}]
clusters: [{name: c, cluster: {server: "${server}", certificate-authority: ca.crt}}]
users: [{name: u, user: {${user}}}]
`;

test('YAML and JSON, data and files, tokens and certificates', async () => {
  write('ca.crt', 'THE CA');
  const config = await readKubeConfig(write('a.yaml', yaml('token: secret')));
  assert.deepEqual(config, {
    server: 'https://10.0.0.1:6443',
    ca: 'THE CA',
    token: 'secret',
    namespace: 'team',
  });
  const data = Buffer.from('PEM').toString('base64');
  const certificate = await readKubeConfig(
    write('b.yaml', yaml(`client-certificate-data: ${data}, client-key-data: ${data}`)),
  );
  assert.deepEqual([certificate.cert, certificate.key], ['PEM', 'PEM']);
  const json = JSON.stringify({
    'current-context': 'x',
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://h', 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'u', user: { tokenFile: 'token' } }],
  });
  assert.deepEqual(await readKubeConfig(write('c.json', json)), {
    server: 'https://h',
    insecure: true,
    tokenFile: join(dir, 'token'),
  });
});

test('what is missing is named with its file', async () => {
  const cases: [string, RegExp][] = [
    ['{', /is no kubeconfig/],
    ['{}', /contexts has no "undefined"/],
    [yaml('exec: {command: aws}'), /known by a command/],
    [yaml('token: x').replace('name: u,', 'name: v,'), /users has no "u"/],
  ];
  for (const [text, words] of cases) {
    await assert.rejects(
      readKubeConfig(write('bad', text)),
      (e: Error) => e instanceof KubeConfigError && words.test(e.message),
      text,
    );
  }
});

test('a pod finds its service account, anything else is told what is missing', () => {
  write('token', 'tok');
  write('ca.crt', 'CA');
  write('namespace', 'kube-system\n');
  assert.deepEqual(
    inClusterConfig(dir, { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' }),
    {
      server: 'https://[fd00::1]:443',
      caFile: join(dir, 'ca.crt'),
      tokenFile: join(dir, 'token'),
      namespace: 'kube-system',
    },
  );
  assert.throws(() => inClusterConfig(dir, {}), KubeConfigError);
});
