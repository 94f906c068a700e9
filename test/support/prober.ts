// Asks pods over TCP from another pod's namespace, by one process that stays: a line of HOST:PORT in, the ones out that
// did not answer. A pod that is on its way out may be among them: the caller knows which are not.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Longer than one lost SYN, which comes again after a second. */
const ANSWER_MS = 3_000;

const SCRIPT = `
const { connect } = require('node:net');
const ask = (target) => new Promise((resolve) => {
  const [host, port] = target.split(':');
  const socket = connect({ host, port: Number(port), timeout: ${ANSWER_MS} });
  const end = (ok) => { socket.destroy(); resolve(ok ? [] : [target]); };
  socket.once('connect', () => end(true)).once('error', () => end(false)).once('timeout', () => end(false));
});
require('node:readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const silent = (await Promise.all(JSON.parse(line).map(ask))).flat();
  process.stdout.write(JSON.stringify(silent) + '\\n');
});`;

export class Prober {
  readonly #child: ChildProcess;
  #waiting: ((silent: string[]) => void)[] = [];

  constructor(netnsPath: string) {
    const command = [`--net=${netnsPath}`, '--', process.execPath, '-e', SCRIPT];
    this.#child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) =>
      this.#waiting.shift()?.(JSON.parse(line) as string[]),
    );
  }

  /** Those that do not answer. */
  silent(targets: string[]): Promise<string[]> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin!.write(`${JSON.stringify(targets)}\n`);
    });
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
