// Connections in several zones of connection tracking, made by real packets: told with their zone and source port,
// marked and deleted in the zone that each is in.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { createNetns, deleteNetns } from './netns.ts';
import { NfNetlink } from './nfnetlink.ts';
import { Nft } from './nftables.ts';
import { RtNetlink } from './rtnetlink.ts';
import { needsRoot } from './testing.ts';

const RULES = ['udp sport 1111 ct zone set 7', 'udp sport 2222 ct zone set 8'].join('\n    ');
const TABLE = `table inet zones {
  chain out {
    type filter hook output priority -300;
    ${RULES}
  }
  chain in {
    type filter hook prerouting priority -300;
    ${RULES}
  }
  chain track {
    type filter hook output priority 0;
    ct state new counter
  }
}`;
/** One datagram from each source port. */
const SEND = `
const { createSocket } = require('node:dgram');
for (const port of [1111, 2222, 3333]) {
  const socket = createSocket('udp4');
  socket.bind(port, '127.0.0.1', () => socket.send('x', 5000, '127.0.0.1', () => socket.close()));
}`;
const HELD = 0x40000000;

describe('connection tracking', needsRoot, () => {
  test('an entry is told, marked and deleted in its own zone', async () => {
    const name = `pw-zones-${process.pid}`;
    const ns = createNetns(name);
    try {
      using rt = RtNetlink.open(ns);
      rt.apply([{ op: 'link-set', name: 'lo', up: true }]);
      await using nft = Nft.open(ns);
      await nft.run(TABLE);
      execFileSync('ip', ['netns', 'exec', name, process.execPath, '-e', SEND]);
      using netfilter = NfNetlink.open(ns);
      const zones = (marked: boolean) =>
        netfilter
          .conntrack()
          .filter(({ orig, mark }) => orig.protocol === 17 && (mark !== 0) === marked)
          .map(({ orig, reply, zone }) => [orig.sport, reply.dport, zone])
          .sort(([a = 0], [b = 0]) => a - b);
      assert.deepEqual(zones(false), [
        [1111, 1111, 7],
        [2222, 2222, 8],
        [3333, 3333, 0],
      ]);
      assert.equal(await netfilter.conntrackMark(HELD, ({ zone }) => (zone === 8 ? HELD : 0)), 1);
      assert.deepEqual(zones(true), [[2222, 2222, 8]]);
      assert.equal(await netfilter.conntrackMark(HELD, () => 0), 1);
      assert.equal(await netfilter.conntrackRemove(({ zone }) => zone === 7), 1);
      assert.deepEqual(zones(false), [
        [2222, 2222, 8],
        [3333, 3333, 0],
      ]);
      assert.equal(await netfilter.conntrackForget(parseIp('127.0.0.1')), 2);
      assert.deepEqual(zones(false), []);
    } finally {
      ns.close();
      deleteNetns(name);
    }
  });
});
