// Runs in a pod's namespace: one long-lived TCP connection to each HOST:PORT given, over which it sends a counter and
// expects its echo. Tells on stdout, one JSON line per report. Ends with 1 when a connection breaks or echoes wrongly.
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const SEND_EVERY_MS = 20;
const REPORT_EVERY_MS = 100;

export type StreamReport = { peer: string; echoed: number; worstMs: number; broken?: string };

const streams: StreamReport[] = [];

function follow(target: string): void {
  const [host, port] = target.split(':');
  const report: StreamReport = { peer: target, echoed: -1, worstMs: 0 };
  streams.push(report);
  const broken = (why: string) => {
    report.broken ??= why;
    tell();
    process.exit(1);
  };
  const socket = connect(Number(port), host);
  socket.setNoDelay(true);
  let next = 0;
  let sentAt = 0;
  const send = () => {
    sentAt = performance.now();
    socket.write(`${next}\n`);
  };
  socket.once('connect', () => socket.write('hello\n'));
  socket.once('error', (error) => broken(error.message));
  socket.once('close', () => broken('closed'));
  createInterface({ input: socket }).on('line', (line) => {
    if (report.echoed < 0) {
      // The first line is the server's own: who it is and whom it sees.
      report.echoed = 0;
      return send();
    }
    if (line !== String(next)) return broken(`echoed ${line} for ${next}`);
    report.worstMs = Math.max(report.worstMs, Math.round(performance.now() - sentAt));
    report.echoed = ++next;
    setTimeout(send, SEND_EVERY_MS);
  });
}

const tell = () => process.stdout.write(`${JSON.stringify(streams)}\n`);

for (const target of process.argv.slice(2)) follow(target);
setInterval(tell, REPORT_EVERY_MS);
process.stdout.on('error', () => process.exit(1));
