// A full table of tracked connections (X25): the kernel drops what begins one, whatever policies say of it, and those
// that stand go on. PODWAY_SOAK=1 only: as many connections are made as the machine's limit allows in one namespace.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ip, parseIp } from '../base/ip.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import type { Packet } from './evaluate.ts';
import { UDP } from './model.ts';
import { PacketRange } from './testing.ts';

const CHUNK = 20_000;
/** Connections of one sender. */
const PORTS = 50_000;
/** A stream of UDP is one after this (ms): the kernel then drops it for nobody else. */
const STREAM_MS = 2_100;
const limit = () => Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_max', 'utf8'));

const isAsked = process.env['PODWAY_SOAK'] === '1' && process.getuid?.() === 0;

it('X25 a full table lets no connection begin, and those that stand go on', {
  skip: isAsked ? false : 'PODWAY_SOAK=1 runs it, as root',
  timeout: 280_000,
}, async () => {
  using range = new PacketRange();
  const { path } = range.router;
  const inRouter = (...command: string[]) =>
    execFileSync('nsenter', [`--net=${path}`, ...command], { encoding: 'utf8' });
  inRouter('sysctl', '-qw', 'net.netfilter.nf_conntrack_udp_timeout=600');
  // Nothing is tracked where no rule asks for it.
  range.nft('add table inet t; add chain inet t c { type filter hook prerouting priority 0; }');
  range.nft('add rule inet t c ct state established accept');
  const server = parseIp('10.0.0.1');
  const clientOf = (at: number): Ip => parseIp(`10.0.1.${1 + Math.floor(at / PORTS)}`);
  const packetsOf = (from: number, to: number): (Packet & { sport: number })[] =>
    Array.from({ length: to - from }, (_, more) => ({
      src: clientOf(from + more),
      dst: server,
      protocol: UDP,
      sport: 1_024 + ((from + more) % PORTS),
      port: 80,
    }));
  const answer = ({ src, dst, sport, port }: Packet & { sport: number }) => ({
    ...{ src: dst, dst: src, protocol: UDP, sport: port!, port: sport },
  });
  const all = limit();
  const eachChunk = (send: (packets: ReturnType<typeof packetsOf>) => void) => {
    for (let at = 0; at < all; at += CHUNK) send(packetsOf(at, Math.min(at + CHUNK, all)));
  };
  eachChunk((packets) => {
    range.goOn(packets);
    range.goOn(packets.map(answer));
  });
  await sleep(STREAM_MS);
  eachChunk((packets) => range.goOn(packets));
  const [known] = packetsOf(0, 1) as [Packet & { sport: number }];
  const stranger = { ...known, src: parseIp('10.0.2.1') };
  // The limit is passed by some before the kernel looks.
  for (let more = 0; more < 64; more++) range.goOn([{ ...stranger, sport: 2_000 + more }]);
  assert.deepEqual(range.goOn([stranger]), [false], 'it begins nothing');
  assert.deepEqual(range.goOn([known, answer(known)]), [true, true], 'what stands goes on');
  const [names = '', ...cpus] = inRouter('cat', '/proc/net/stat/nf_conntrack').trim().split('\n');
  const at = names.trim().split(/\s+/).indexOf('drop');
  assert.ok(
    cpus.some((line) => Number.parseInt(line.trim().split(/\s+/)[at]!, 16) > 0),
    names,
  );
  using nf = NfNetlink.open(range.router);
  nf.conntrackDelete({ ip: clientOf(0) });
  assert.deepEqual(range.goOn([stranger]), [true], 'with room again it begins');
});
