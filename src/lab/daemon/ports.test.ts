import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { freePorts } from './ports.ts';

test('ports of a lab: each another, none that is taken or kept, and none that Linux gives to connections', async () => {
  const [from] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split('\t').map(Number);
  const kept = await freePorts(200, []);
  assert.equal(new Set(kept).size, 200);
  assert.ok(from! < 30_000 || kept.every((port) => port < from!));
  const server = createServer().listen(kept[0], '127.0.0.1');
  await once(server, 'listening');
  try {
    const more = await freePorts(300, kept.slice(1));
    assert.deepEqual(
      more.filter((port) => kept.includes(port)),
      [],
    );
  } finally {
    server.close();
  }
});
