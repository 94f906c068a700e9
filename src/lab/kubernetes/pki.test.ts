import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ClusterPki, controlPlaneHolders, nodeHolders } from './pki.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-pki-'));
after(() => rmSync(dir, { recursive: true }));
const pki = new ClusterPki({ pki: dir });

test('a certificate is kept while its holder stays the same, and made again when it does not', async () => {
  const holder = { user: 'kube-apiserver', names: ['kubernetes', '10.0.0.5'] };
  const first = await pki.issue('ca', 'apiserver', holder);
  assert.deepEqual(await pki.issue('ca', 'apiserver', holder), first);
  const moved = await pki.issue('ca', 'apiserver', { ...holder, names: ['kubernetes', '10.0.0.6'] });
  assert.notEqual(moved.cert, first.cert);
  assert.match(new X509Certificate(moved.cert).subjectAltName!, /10\.0\.0\.6/);
});

test('authorities are apart, and each signs its own', async () => {
  const [ca, etcd] = [await pki.authority('ca'), await pki.authority('etcd-ca')];
  const made = new X509Certificate(
    (await pki.issue('etcd-ca', 'etcd', { user: 'etcd', names: ['localhost'] })).cert,
  );
  assert.ok(made.verify(new X509Certificate(etcd.cert).publicKey));
  assert.ok(!made.verify(new X509Certificate(ca.cert).publicKey));
});

test('only the lab itself is in system:masters, and each node is known as itself', () => {
  const masters = controlPlaneHolders('10.0.0.5').filter(([, , { groups }]) =>
    groups?.includes('system:masters'),
  );
  assert.deepEqual(
    masters.map(([, name]) => name),
    ['super-admin'],
  );
  const [, kubelet] = nodeHolders('node-1', '10.0.0.10')[0]!;
  assert.deepEqual(kubelet, { user: 'system:node:node-1', groups: ['system:nodes'] });
});
