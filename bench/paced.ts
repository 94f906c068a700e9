// Runs in a pod's namespace: asks a pod-server RATE times a second for SECONDS, over UDP (one datagram each) and over one
// TCP connection (one echoed line each) beside it. Prints one line of JSON: what was sent, what was answered, and the
// longest time between two answers (ms). UDP hides no lost packet; TCP tells of a broken connection.
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const [host = '', port = '', rate = '1000', seconds = '10'] = process.argv.slice(2);
/** Questions go out in bunches, as timers are no finer than this (ms). */
const TICK_MS = 2;
const MOST_AT_ONCE = 20;
/** For the last answers (ms). */
const GRACE_MS = 2_000;

type Count = { sent: number; answered: number; longestGapMs: number; last: number; broken?: string };
const count = (): Count => ({ sent: 0, answered: 0, longestGapMs: 0, last: performance.now() });
const udp = count();
const tcp = count();
const note = (of: Count, answers = 1) => {
  const now = performance.now();
  of.longestGapMs = Math.max(of.longestGapMs, now - of.last);
  of.last = now;
  of.answered += answers;
};

const datagrams = createSocket('udp4');
datagrams.on('message', () => note(udp));
datagrams.on('error', (error) => {
  udp.broken ??= error.message;
});
const stream = connect(Number(port), host);
stream.setNoDelay(true);
stream.on('error', (error) => {
  tcp.broken ??= error.message;
});
await new Promise<void>((resolve) => stream.once('connect', () => resolve()));
// The first line is answered with the server's name; what follows comes back as it came.
stream.write('hello\n');
await new Promise<void>((resolve) => stream.once('data', () => resolve()));
stream.on('data', (bytes: Buffer) => note(tcp, bytes.filter((byte) => byte === 10).length));
stream.on('close', () => {
  tcp.broken ??= 'closed';
});
await new Promise<void>((resolve) => datagrams.connect(Number(port), host, resolve));
process.stdout.write('ready\n');

udp.last = performance.now();
tcp.last = udp.last;
let paid = udp.last;
while (udp.sent < Number(rate) * Number(seconds)) {
  const now = performance.now();
  // What could not be asked while this process did not run is asked later, not all at once: a burst overruns a socket.
  const bunch = Math.min(Math.floor(((now - paid) * Number(rate)) / 1000), MOST_AT_ONCE);
  paid = bunch === MOST_AT_ONCE ? now : paid + (bunch * 1000) / Number(rate);
  for (let sent = 0; sent < bunch; sent++, udp.sent++, tcp.sent++) {
    datagrams.send('?\n');
    stream.write(`${tcp.sent}\n`);
  }
  await new Promise((resolve) => setTimeout(resolve, TICK_MS));
}
await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
process.stdout.write(`${JSON.stringify({ udp, tcp })}\n`, () => process.exit(0));
