// Compares the tracked connections with the program, off the changes' way: cuts what is no longer allowed, and lets go on
// what is allowed again. Changes that come during a look share the next one. Invariant: after the last change there is a
// whole look; a failure is told and looked again. Never throws.
import type { Log } from '../base/log.ts';
import { cutJudge } from './cut.ts';
import type { PolicyKernel } from './kernel.ts';
import type { Program } from './program.ts';

/** Ms between two looks through the tracked connections. */
const PAUSE_MS = 100;

export type CutterOptions = {
  readonly kernel: PolicyKernel;
  readonly log: Log;
  readonly program: () => Program | null;
  readonly onIdle: () => void;
};

export class Cutter {
  readonly #o: CutterOptions;
  #isAsked = false;
  #isRunning = false;
  #closed = false;

  constructor(options: CutterOptions) {
    this.#o = options;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  soon(): void {
    this.#isAsked = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#run();
  }

  close(): void {
    this.#closed = true;
  }

  async #run(): Promise<void> {
    const { kernel, log, onIdle } = this.#o;
    while (this.#isAsked && !this.#closed) {
      this.#isAsked = false;
      try {
        const own = kernel.ownAddresses();
        const program = this.#o.program();
        const count = program ? await kernel.cut(cutJudge(program, own)) : 0;
        if (count > 0) log.info({ connections: count }, 'policy cut connections, or allows cut ones again');
      } catch (error) {
        if (this.#closed) break;
        log.warn(
          { error: (error as Error).message },
          'connections were not compared with policy: again soon',
        );
        this.#isAsked = true;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref());
    }
    this.#isRunning = false;
    onIdle();
  }
}
