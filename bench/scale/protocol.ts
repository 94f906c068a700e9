// What the benchmark's processes tell each other over IPC: one question, one answer, in order.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

export type Instance = { node: string; instanceId: string; imds: string };
export type CloudQuestion =
  | { kind: 'open'; nodes: number }
  | { kind: 'count' }
  /** AWS's request limits, or none. */
  | { kind: 'throttle'; on: boolean }
  | { kind: 'close' };
export type CloudOpened = {
  endpoint: string;
  instances: Instance[];
  keys: { accessKeyId: string; secretAccessKey: string };
};
/** Calls since the last count, and the most in ten seconds. */
export type CloudCount = {
  byAction: Record<string, number>;
  throttled: number;
  peak: number;
  seconds: number;
};

export type NodesQuestion =
  | {
      kind: 'open';
      dir: string;
      kubeconfig: string;
      ec2Endpoint: string;
      keys: CloudOpened['keys'];
      instances: Instance[];
    }
  /** Starts each anew, or for the first time; `overMs`: evenly in that time. Answered when all serve. */
  | { kind: 'start'; from: number; to: number; overMs: number }
  | { kind: 'pods'; each: number }
  | { kind: 'look' }
  | { kind: 'close' };
export type NodesLook = { serving: number; held: number; rssMb: number };

/** A process in a network namespace that is asked one thing at a time. */
export class Peer {
  readonly #child: ChildProcess;

  constructor(file: string, netnsPath: string) {
    const script = join(import.meta.dirname, file);
    this.#child = spawn('nsenter', [`--net=${netnsPath}`, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }

  ask<T>(question: CloudQuestion | NodesQuestion): Promise<T> {
    return new Promise((resolve, reject) => {
      const child = this.#child;
      const ended = (code: number | null) =>
        reject(new Error(`a process of the benchmark ended with ${code}`));
      child.once('exit', ended);
      child.once('message', (answer: { value?: T; error?: string }) => {
        child.off('exit', ended);
        if (answer.error === undefined) resolve(answer.value as T);
        else reject(new Error(answer.error));
      });
      child.send(question);
    });
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

/** The other side of it. */
export function answering(answer: (question: never) => Promise<unknown>): void {
  process.on('message', (question) => {
    answer(question as never).then(
      (value) => process.send!({ value }),
      (error: Error) => process.send!({ error: error.stack ?? error.message }),
    );
  });
  process.on('disconnect', () => process.exit());
}
