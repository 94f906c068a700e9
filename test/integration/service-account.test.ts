// The client as a pod has it: token and authority are files that the kubelet renews while the agent runs. An API over TLS
// changes both, as a cluster does that replaces its authority; the client goes on without a new start.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { inClusterConfig, KubeClient, nodes } from '../../src/kube/index.ts';
import { makeAuthority, signCertificate } from '../../src/lab/certificates.ts';

test('a renewed token and a replaced authority are taken up while it runs', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-account-'));
  let generation = 0;
  /** As the kubelet writes a projected volume: a folder, and a link that is renamed over the one before. */
  const put = (token: string, ca: string) => {
    const folder = `..${++generation}`;
    mkdirSync(join(dir, folder));
    writeFileSync(join(dir, folder, 'token'), token);
    writeFileSync(join(dir, folder, 'ca.crt'), ca);
    symlinkSync(folder, join(dir, '..next'));
    renameSync(join(dir, '..next'), join(dir, '..data'));
  };
  for (const name of ['token', 'ca.crt']) symlinkSync(join('..data', name), join(dir, name));
  const now = Date.now();
  const made = async () => {
    const ca = await makeAuthority('test', now);
    return { ca: ca.cert, ...(await signCertificate(ca, now, { user: 'api', names: ['127.0.0.1'] })) };
  };
  const [first, second] = [await made(), await made()];
  const seen: string[] = [];
  const api = createServer({ key: first.key, cert: first.cert }, (request, response) => {
    seen.push(request.headers.authorization ?? '');
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ metadata: { name: 'n' } }));
  });
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  let clock = 0;
  mock.method(performance, 'now', () => clock);
  put('one', first.ca);
  const env = {
    KUBERNETES_SERVICE_HOST: '127.0.0.1',
    KUBERNETES_SERVICE_PORT: String((api.address() as AddressInfo).port),
  };
  const client = new KubeClient(inClusterConfig(dir, env));
  try {
    await client.get(nodes, 'n');
    put('two', first.ca);
    await client.get(nodes, 'n');
    clock += 10_000;
    await client.get(nodes, 'n');
    assert.deepEqual(seen, ['Bearer one', 'Bearer one', 'Bearer two']);

    api.setSecureContext({ key: second.key, cert: second.cert });
    api.closeAllConnections();
    // The first meets the connection that was closed, or the new certificate.
    await client.get(nodes, 'n').catch(() => undefined);
    await assert.rejects(client.get(nodes, 'n'), /certificate|self-signed|issuer/);
    put('three', second.ca);
    clock += 10_000;
    await client.get(nodes, 'n');
    assert.equal(seen.at(-1), 'Bearer three');
    // While the files are gone for a moment, what was read last counts.
    rmSync(join(dir, '..data'));
    clock += 10_000;
    await client.get(nodes, 'n');
    assert.equal(seen.at(-1), 'Bearer three');
  } finally {
    mock.restoreAll();
    client.close();
    api.closeAllConnections();
    api.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
