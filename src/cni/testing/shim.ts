// For tests: the compiled plugin, an agent of a few lines on a socket in a directory of its own, and a way to call one
// with the other. The agent judges requests by `decodeRequest`, as the real one does, and wires nothing.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asPodwayError } from '../../base/errors.ts';
import { buildProgram } from '../../base/programs.ts';
import { renderError } from '../errors.ts';
import { decodeRequest, versionOfStdin } from '../request.ts';
import { renderResult } from '../result.ts';
import type { CniRequest, Result } from '../types.ts';
import { versionAnswer } from '../versions.ts';
import { type CniCall, encodeAnswer, RequestDecoder } from '../wire.ts';

const srcRoot = join(import.meta.dirname, '../../..');

export const shim = async (): Promise<string> =>
  (await buildProgram('podway-cni', { srcRoot, outDir: join(srcRoot, 'build') })).path;

/** Compiled so that an access out of bounds, a leak of behaviour into the undefined, ends it with exit code 86. */
export const sanitizedShim = async (): Promise<string> =>
  (
    await buildProgram('podway-cni', {
      srcRoot,
      outDir: join(srcRoot, 'build/sanitized'),
      flags: [
        '-std=gnu11',
        '-O1',
        '-g',
        '-Wall',
        '-Wextra',
        '-Werror',
        '-fsanitize=address,undefined',
        '-fno-sanitize-recover=all',
      ],
    })
  ).path;

export const sampleResult = (netns: string, ifname: string): Result => ({
  interfaces: [
    { name: 'pw0123456789ab', mac: '02:00:00:00:00:01', mtu: 9001 },
    { name: ifname, mac: '02:00:00:00:00:02', mtu: 9001, sandbox: netns },
  ],
  ips: [{ address: '10.0.0.5/32', gateway: '169.254.1.1', interface: 1 }],
  routes: [{ dst: '0.0.0.0/0', mtu: 9001, scope: 0 }],
  dns: {},
});

type Reply = { exit: 0 | 1; stdout: string } | 'silent' | 'hang-up' | { bytes: Buffer };
export type Respond = (request: CniRequest, call: CniCall) => Reply;

export const answerAll: Respond = (request) => {
  switch (request.verb) {
    case 'ADD': {
      const result = sampleResult(request.netns, request.ifname);
      return { exit: 0, stdout: JSON.stringify(renderResult(result, request.conf.cniVersion)) };
    }
    case 'VERSION':
      return { exit: 0, stdout: JSON.stringify(versionAnswer(request.cniVersion)) };
    default:
      return { exit: 0, stdout: '' };
  }
};

export class FakeAgent {
  readonly dir = mkdtempSync(join(tmpdir(), 'pwt-cni-'));
  readonly socketPath = join(this.dir, 'agent.sock');
  respond: Respond = answerAll;
  readonly requests: CniRequest[] = [];
  /** Resolves when a caller left before its answer. */
  readonly callerGone: Promise<void>;
  #gone: () => void = () => {};
  #server: Server | null = null;

  constructor() {
    this.callerGone = new Promise((resolve) => {
      this.#gone = resolve;
    });
  }

  listen(): Promise<void> {
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.socketPath, resolve);
    });
  }

  #serve(socket: Socket): void {
    const decoder = new RequestDecoder();
    let answered = false;
    socket.on('error', () => {});
    socket.on('close', () => answered || this.#gone());
    socket.on('data', (bytes: Buffer) => {
      const call = decoder.push(bytes);
      if (!call) return;
      const reply = this.#answer(call);
      if (reply === 'silent') return;
      answered = true;
      if (reply === 'hang-up') socket.destroy();
      else socket.end('bytes' in reply ? reply.bytes : encodeAnswer(reply.exit, reply.stdout));
    });
  }

  #answer(call: CniCall): Reply {
    try {
      const request = decodeRequest(call.env, call.stdin);
      this.requests.push(request);
      return this.respond(request, call);
    } catch (error) {
      return {
        exit: 1,
        stdout: JSON.stringify(renderError(versionOfStdin(call.stdin), asPodwayError(error))),
      };
    }
  }

  close(): void {
    this.#server?.close();
    this.#server = null;
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export type Ran = { exit: number | null; signal: string | null; stdout: string; stderr: string; ms: number };

/** Runs the plugin with exactly this environment; `stdin` null is none, `{open}` one that never ends. `started` can signal it. */
export function run(
  program: string,
  env: Record<string, string>,
  stdin: string | Uint8Array | null | { open: true },
  started: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn(program, [], { env, stdio: [stdin === null ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.on('error', reject);
    child.stdout?.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr?.on('data', (bytes: Buffer) => err.push(bytes));
    child.on('exit', () => child.stdin?.destroy());
    child.on('close', (exit, signal) =>
      resolve({
        exit,
        signal,
        stdout: Buffer.concat(out).toString('utf8'),
        stderr: Buffer.concat(err).toString('utf8'),
        ms: performance.now() - began,
      }),
    );
    child.stdin?.on('error', () => {});
    if (typeof stdin === 'string' || stdin instanceof Uint8Array) child.stdin?.end(stdin);
    started((signal) => child.kill(signal));
  });
}
