// The webhooks' certificate: OpenSSL reads it, a client that trusts it alone connects, and it is made anew in time.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { makeCertificate, serves } from './certificate.ts';

const names = ['podway-webhook.kube-system.svc', '127.0.0.1', 'fd00::1'];

test('who trusts the certificate alone reaches its server by name and by address', async () => {
  const made = makeCertificate(names, Date.now());
  const read = new X509Certificate(made.cert);
  assert.ok(read.verify(read.publicKey));
  assert.match(
    read.subjectAltName!,
    /DNS:podway-webhook.kube-system.svc, IP Address:127.0.0.1, IP Address:FD00:/,
  );
  const server = createServer(made, (_, response) => response.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const met = (servername: string | undefined, ca: string) =>
    new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port, ca, ...(servername ? { servername } : {}) }, () => {
        resolve(socket.authorized);
        socket.destroy();
      });
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    });
  assert.equal(await met(names[0], made.cert), true);
  assert.equal(await met(undefined, made.cert), true);
  assert.equal(await met('other.svc', made.cert), 'ERR_TLS_CERT_ALTNAME_INVALID');
  assert.equal(await met(names[0], makeCertificate(names, Date.now()).cert), 'DEPTH_ZERO_SELF_SIGNED_CERT');
  server.close();
});

test('a certificate serves until its end is near, for its names and its key', () => {
  const now = Date.now();
  const made = makeCertificate(names, now);
  const day = 86_400_000;
  assert.equal(serves(made, names, now), true);
  assert.equal(serves(made, names, now + 274 * day), true);
  assert.equal(serves(made, names, now + 276 * day), false);
  assert.equal(serves(made, [...names, '10.0.0.1'], now), false);
  assert.equal(serves({ ...made, key: makeCertificate(names, now).key }, names, now), false);
  assert.equal(serves({ key: '', cert: '' }, names, now), false);
});
