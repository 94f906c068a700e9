// `pods/exec`: a command in the namespace of a running pod. Each message of the WebSocket is a byte that names the
// channel, and its data: 0 stdin, 1 stdout, 2 stderr, 3 the end as a Status, 4 the terminal's size, 255 (v5) closes one.
// The command ends with the connection.
import { type ChildProcess, spawn } from 'node:child_process';
import type { IncomingMessage } from 'node:http';
import { constants } from 'node:os';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Pod } from '../../../kube/types.ts';
import { type PodAccess, type RunningPod, runningOf, StreamRefusal } from './access.ts';
import { acceptWebSocket, protocolOf, send } from './websocket.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const END = 3;
const RESIZE = 4;
const CLOSE = 255;

/** First is preferred by clients of today. */
export const EXEC_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];

/** A command that ignores the end of its terminal or of its streams is killed after this. */
const GRACE_MS = 1000;

export type Command = { words: string[]; stdin: boolean; stdout: boolean; stderr: boolean; tty: boolean };

export function commandOfQuery(query: URLSearchParams): Command {
  const is = (name: string) => ['true', '1'].includes((query.get(name) ?? '').toLowerCase());
  const words = query.getAll('command');
  if (words.length === 0) throw new StreamRefusal(400, 'you must specify at least 1 command');
  const tty = is('tty');
  const command = { words, stdin: is('stdin'), stdout: is('stdout'), stderr: is('stderr') && !tty, tty };
  if (!command.stdin && !command.stdout && !command.stderr)
    throw new StreamRefusal(400, 'you must specify at least 1 of stdin, stdout, stderr');
  return command;
}

export async function serveExec(
  access: PodAccess,
  pod: Pod,
  query: URLSearchParams,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const command = commandOfQuery(query);
  const running = runningOf(access, pod, query);
  const protocol = protocolOf(request, EXEC_PROTOCOLS);
  const program = command.tty ? await access.ttyProgram() : '';
  const client = await acceptWebSocket(request, socket, head, protocol);
  const child = start(running, command, program);
  send(client, Buffer.from([command.stdout ? STDOUT : command.stderr ? STDERR : END]));
  connect(client, child, command);
}

/** The command is the leader of a process group of its own, so that all of it can be ended. */
function start({ netns, env }: RunningPod, command: Command, ttyProgram: string): ChildProcess {
  const words = command.tty ? [ttyProgram, ...command.words] : command.words;
  return spawn('nsenter', [`--net=${netns}`, '--', ...words], {
    cwd: '/',
    detached: true,
    env: command.tty ? { TERM: 'xterm', ...env } : env,
    // The fourth tells the terminal's size.
    stdio: ['pipe', 'pipe', 'pipe', command.tty ? 'pipe' : 'ignore'],
  });
}

function connect(client: WebSocket, child: ChildProcess, { stdin, stdout, stderr, tty }: Command): void {
  const outlets: [Readable, number, boolean][] = [
    [child.stdout!, STDOUT, stdout],
    [child.stderr!, tty ? STDOUT : STDERR, tty ? stdout : stderr],
  ];
  for (const [source, channel, wanted] of outlets)
    source.on('data', (bytes: Buffer) => {
      if (wanted) send(client, Buffer.concat([Buffer.of(channel), bytes]), source);
    });
  const input = child.stdin!;
  // The command may end before it has read all.
  input.on('error', () => {});
  if (!stdin) input.end();
  input.on('drain', () => client.resume());
  const size = child.stdio[3] as Writable | null;
  size?.on('error', () => {});
  client.on('message', (message: Buffer) => {
    const data = message.subarray(1);
    if (message[0] === STDIN && stdin && !input.writableEnded) {
      if (!input.write(data)) client.pause();
    } else if (message[0] === RESIZE) size?.write(sizeLine(data));
    else if (message[0] === CLOSE && data[0] === STDIN) input.end();
  });
  let ended = false;
  client.once('close', () => {
    if (!ended) endGroup(child);
  });
  const finish = (status: object) => {
    if (ended) return;
    ended = true;
    send(client, Buffer.concat([Buffer.of(END), Buffer.from(JSON.stringify(status))]));
    client.close(1000);
  };
  child.once('error', (error) => finish(failure('InternalError', error.message)));
  // After the end of its streams.
  child.once('close', (code, signal) => finish(endStatus(code, signal)));
}

function endGroup(child: ChildProcess): void {
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // It has ended.
    }
  };
  kill('SIGHUP');
  const timer = setTimeout(() => kill('SIGKILL'), GRACE_MS);
  child.once('exit', () => clearTimeout(timer));
}

/** `ROWS COLUMNS`; empty for what is no size. */
function sizeLine(data: Buffer): string {
  try {
    const { Width, Height } = JSON.parse(data.toString()) as { Width?: number; Height?: number };
    const is = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) < 65536;
    return is(Width) && is(Height) ? `${Height} ${Width}\n` : '';
  } catch {
    return '';
  }
}

const failure = (reason: string, message: string, more: object = {}) => ({
  metadata: {},
  status: 'Failure',
  reason,
  message,
  ...more,
});

/** As a kubelet ends a stream: Success, or the exit code as a cause. */
export function endStatus(code: number | null, signal: NodeJS.Signals | null): object {
  const exit = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  if (exit === 0) return { metadata: {}, status: 'Success' };
  const message = `command terminated with non-zero exit code: exit code ${exit}`;
  const details = { causes: [{ reason: 'ExitCode', message: String(exit) }] };
  return failure('NonZeroExitCode', message, { details });
}
