import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { closeSilently } from './silence.ts';

test('a connection that asks nothing is closed in silence, one that asks badly is told', async (t) => {
  const server = createServer({ connectionsCheckingInterval: 10 }, (_request, response) =>
    response.end('yes'),
  );
  server.headersTimeout = 30;
  closeSilently(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  /** All that the server says to what was sent, until it closes. */
  const said = async (sent: string): Promise<string> => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    let text = '';
    socket.on('data', (data) => (text += data.toString()));
    await once(socket, 'connect');
    if (sent) socket.write(sent);
    await once(socket, 'close');
    return text;
  };
  assert.equal(await said(''), '');
  assert.match(await said('GET / HTTP/1.1\r\nHost: x\r\n'), /^HTTP\/1\.1 408 /);
  assert.match(await said('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
  assert.match(
    await said('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1\.1 200 [\s\S]*yes/,
  );
});
