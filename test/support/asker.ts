// Puts questions to pods' servers from a network namespace, many at once, by one process that stays: the answers are
// what the servers said ("POD PEER_ADDRESS"), or the error. A line of JSON in, a line of JSON out.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** `localPort`: of a TCP question, which its server then sees, or does not. */
export type Question = { protocol?: 'tcp' | 'udp'; host: string; port: number; localPort?: number };

/** Longer than one lost SYN, which comes again after a second. */
const ANSWER_MS = 4_000;

const SCRIPT = `
const tcp = ({ host, port, localPort, ms }) => new Promise((resolve) => {
  const socket = require('node:net').connect({ host, port, localPort });
  const end = (text) => { clearTimeout(timer); socket.destroy(); resolve(text); };
  const timer = setTimeout(() => end('silent'), ms);
  socket.once('connect', () => socket.write('\\n')).once('error', (error) => end(error.code)).once('data', (data) => end(String(data).trim()));
});
const udp = ({ host, port, ms }) => new Promise((resolve) => {
  const socket = require('node:dgram').createSocket('udp4');
  const end = (text) => { clearTimeout(timer); clearInterval(again); socket.close(); resolve(text); };
  const ask = () => socket.send('?', port, host);
  const timer = setTimeout(() => end('silent'), ms);
  const again = setInterval(ask, 1000);
  socket.once('error', (error) => end(error.code)).once('message', (data) => end(String(data).trim()));
  ask();
});
require('node:readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const answers = await Promise.all(JSON.parse(line).map((one) => (one.protocol === 'udp' ? udp : tcp)(one)));
  process.stdout.write(JSON.stringify(answers) + '\\n');
});`;

export class Asker {
  readonly #child: ChildProcess;
  readonly #waiting: ((answers: string[]) => void)[] = [];

  constructor(netnsPath: string) {
    const command = [`--net=${netnsPath}`, '--', process.execPath, '-e', SCRIPT];
    this.#child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) =>
      this.#waiting.shift()?.(JSON.parse(line) as string[]),
    );
  }

  /** One answer for each question, in its order. `ms`: how long each may take. */
  ask(questions: readonly Question[], ms = ANSWER_MS): Promise<string[]> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin!.write(`${JSON.stringify(questions.map((one) => ({ ...one, ms })))}\n`);
    });
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }
}
