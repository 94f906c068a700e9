// The command line's side of the control socket. Fails with LabError: LAB_NOT_UP when no daemon listens, else the code,
// sentence and next step of the daemon's answer.
import { existsSync } from 'node:fs';
import http from 'node:http';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { type ErrorBody, LabError } from './errors.ts';
import type { StreamLine } from './http.ts';

type Shown = Extract<StreamLine, { kind: 'progress' | 'item' }>;

export class ControlClient {
  readonly lab: string;
  readonly #socketPath: string;

  constructor(lab: string, socketPath: string) {
    this.lab = lab;
    this.#socketPath = socketPath;
  }

  async call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const response = await this.#send(method, path, body, signal);
    const value = await this.#whole(response);
    if (response.statusCode !== 200) throw refusal(value);
    return value as T;
  }

  /** Follows a streamed answer to its end. `onLine` gets progress and items. */
  async follow<T>(method: string, path: string, body: unknown, onLine: (line: Shown) => void): Promise<T> {
    const response = await this.#send(method, path, body);
    if (response.statusCode !== 200) throw refusal(await this.#whole(response));
    try {
      for await (const text of createInterface({ input: response })) {
        if (text === '') continue;
        const line = JSON.parse(text) as StreamLine;
        if (line.kind === 'done') return line.result as T;
        if (line.kind === 'error') throw fromBody(line.error);
        onLine(line);
      }
    } catch (error) {
      throw error instanceof LabError ? error : this.#lost(error);
    }
    throw this.#lost();
  }

  async #whole(response: http.IncomingMessage): Promise<unknown> {
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
      return JSON.parse(Buffer.concat(chunks).toString()) as unknown;
    } catch (error) {
      throw this.#lost(error);
    }
  }

  #lost(cause?: unknown): LabError {
    return new LabError(
      'LAB_LOST',
      `lab ${this.lab} ended in the middle of the answer`,
      `podway lab up --lab ${this.lab} goes on with it`,
      { cause },
    );
  }

  /** True when a daemon answers. */
  async alive(): Promise<boolean> {
    try {
      await this.call('GET', '/v1/ping');
      return true;
    } catch {
      return false;
    }
  }

  #send(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers =
        text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
      const ends = signal === undefined ? {} : { signal };
      // A connection of its own: one that was kept may be closed by the daemon in the moment that it is used again.
      const to = { socketPath: this.#socketPath, method, path, headers, agent: false, ...ends };
      const request = http.request(to, resolve);
      request.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EACCES')
          reject(new LabError('NOT_ROOT', `lab ${this.lab} belongs to root`, 'run the command as root'));
        else
          reject(
            existsSync(dirname(this.#socketPath))
              ? new LabError(
                  'LAB_NOT_UP',
                  `lab ${this.lab} is not up: its process has ended, and what it made is left`,
                  `podway lab up --lab ${this.lab} goes on with it, podway lab down --lab ${this.lab} removes it`,
                  { cause: error },
                )
              : new LabError('LAB_NOT_UP', `lab ${this.lab} is not up`, `podway lab up --lab ${this.lab}`, {
                  cause: error,
                }),
          );
      });
      request.end(text);
    });
  }
}

function refusal(value: unknown): LabError {
  const { error, exit } = value as { error: ErrorBody; exit?: number };
  return fromBody(error, exit);
}

const fromBody = (error: ErrorBody, exit = 1): LabError =>
  new LabError(error.code, error.message, error.next, { exit });
