// Long-lived TCP streams between pods of a lab, kept by a process in the client pod's namespace, and what became of them.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { StreamReport } from './stream-client.ts';
import { eventually } from './wait.ts';

export class Streams {
  readonly #children: ChildProcess[] = [];
  readonly #reports = new Map<ChildProcess, StreamReport[]>();
  readonly #ended: string[] = [];
  #closing = false;

  /** Opens a stream from the namespace to each HOST:PORT and waits until all echo. */
  async open(netnsPath: string, targets: string[]): Promise<void> {
    const script = join(import.meta.dirname, 'stream-client.ts');
    const child = spawn('nsenter', [`--net=${netnsPath}`, '--', process.execPath, script, ...targets], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    this.#reports.set(child, []);
    createInterface({ input: child.stdout! }).on('line', (line) =>
      this.#reports.set(child, JSON.parse(line) as StreamReport[]),
    );
    child.once('exit', (code, signal) => {
      if (!this.#closing) this.#ended.push(`a stream client ended: ${signal ?? code}`);
    });
    await eventually(`streams to ${targets.join(', ')}`, () => {
      const reports = this.#reports.get(child)!;
      return this.broken().length > 0 || (reports.length > 0 && reports.every((each) => each.echoed > 0));
    });
    const broken = this.broken();
    if (broken.length > 0) throw new Error(broken.join('; '));
  }

  reports(): StreamReport[] {
    return [...this.#reports.values()].flat();
  }

  broken(): string[] {
    const reported = this.reports().flatMap((each) => (each.broken ? [`${each.peer}: ${each.broken}`] : []));
    return [...reported, ...this.#ended];
  }

  /** Waits until every stream has echoed once more than now. Throws when one is broken. */
  async alive(): Promise<void> {
    const before = this.reports().map((each) => each.echoed);
    await eventually(
      'every stream goes on',
      () =>
        this.broken().length > 0 || this.reports().every((each, index) => each.echoed > (before[index] ?? 0)),
    );
    const broken = this.broken();
    if (broken.length > 0) throw new Error(`streams broke: ${broken.join('; ')}`);
  }

  /** Milliseconds from a line sent to its echo, the worst of all. */
  worstMs(): number {
    return Math.max(0, ...this.reports().map((each) => each.worstMs));
  }

  close(): void {
    this.#closing = true;
    for (const child of this.#children) child.kill('SIGKILL');
  }
}
