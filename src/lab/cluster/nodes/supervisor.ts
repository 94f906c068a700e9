// Keeps one detached process running in a network namespace: starts it, adopts it after a restart of the daemon (pid
// file with start time), starts it again with a growing pause when it ends. The process outlives the daemon on purpose.
// Invariant: nothing runs that the pid file does not name, wherever the daemon dies.
import { spawn } from 'node:child_process';
import { closeSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { readJson, writeJson } from '../../daemon/files.ts';
import { endProcess, identify, isAlive, type ProcessId } from '../../daemon/processes.ts';

export type ProcessSpec = {
  /** Path of the namespace that it runs in. */
  netnsPath: string;
  /** Further arguments of nsenter, asked at each launch: other namespaces that it enters. */
  enter?: () => string[];
  command: string[];
  pidFile: string;
  logFile: string;
  env?: Record<string, string>;
};

const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 10_000;
/** A run this long ends the series of failures: it is over the start, which takes a third of it. */
const STABLE_MS = 1000;
const POLL_MS = 500;
const MAX_LOG_BYTES = 16 << 20;
const STOP_GRACE_MS = 5000;
/** Waits for one line, and becomes the command; ends when whoever started it dies before it is told to go on. */
const GATED = ['-c', 'read -r go && exec "$@" </dev/null', 'gate'];

export class Supervisor {
  readonly spec: ProcessSpec;
  /** True when the process was found running, and is no child of ours. */
  adopted = false;
  readonly #onChange: (running: boolean) => void;
  #process: ProcessId | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pause = FIRST_PAUSE_MS;
  #startedAt = 0;
  #wanted = false;

  constructor(spec: ProcessSpec, onChange: (running: boolean) => void = () => {}) {
    this.spec = spec;
    this.#onChange = onChange;
  }

  get running(): boolean {
    return isAlive(this.#process);
  }

  get process(): ProcessId | undefined {
    return this.#process;
  }

  start(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    const left = readJson<ProcessId>(this.spec.pidFile);
    if (isAlive(left)) {
      this.#process = left;
      this.adopted = true;
      this.#startedAt = performance.now();
      this.#watchAdopted();
      this.#onChange(true);
    } else this.#launch();
  }

  /** Lets the process run on without us. */
  detach(): void {
    this.#wanted = false;
    clearTimeout(this.#timer);
  }

  async stop(): Promise<void> {
    this.detach();
    await endProcess(this.#process ?? readJson<ProcessId>(this.spec.pidFile), STOP_GRACE_MS);
    this.#process = undefined;
    rmSync(this.spec.pidFile, { force: true });
  }

  #launch(): void {
    if (!this.#wanted) return;
    this.adopted = false;
    turnLog(this.spec.logFile);
    const log = openSync(this.spec.logFile, 'a', 0o600);
    try {
      const child = spawn(
        'sh',
        [
          ...GATED,
          ...['nsenter', `--net=${this.spec.netnsPath}`, ...(this.spec.enter?.() ?? []), '--'],
          ...this.spec.command,
        ],
        {
          cwd: '/',
          detached: true,
          stdio: ['pipe', log, log],
          env: { ...process.env, ...this.spec.env },
        },
      );
      let over = false;
      const onEnd = () => {
        if (!over) this.#ended();
        over = true;
      };
      child.once('error', onEnd);
      child.once('exit', onEnd);
      this.#process = child.pid === undefined ? undefined : identify(child.pid);
      this.#startedAt = performance.now();
      if (this.#process) writeJson(this.spec.pidFile, this.#process);
      // An end before this line is told by the child's.
      child.stdin?.on('error', () => {});
      child.stdin?.end('go\n');
      this.#onChange(true);
    } finally {
      closeSync(log);
    }
  }

  #watchAdopted(): void {
    this.#timer = setTimeout(() => (this.running ? this.#watchAdopted() : this.#ended()), POLL_MS);
  }

  #ended(): void {
    this.#process = undefined;
    if (!this.#wanted) return;
    this.#onChange(false);
    if (performance.now() - this.#startedAt > STABLE_MS) this.#pause = FIRST_PAUSE_MS;
    this.#timer = setTimeout(() => this.#launch(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LAST_PAUSE_MS);
  }
}

/** A log that has grown long becomes `.old` at the next start of its process. */
function turnLog(file: string): void {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES) renameSync(file, `${file}.old`);
}
