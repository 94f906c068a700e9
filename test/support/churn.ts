// Workers that make and delete pods at random over a lab's nodes, each with a few of its own at a time. With
// `tolerant` a worker lives through the lab's end and a node's agent that is away: what it was told nothing about it
// looks up when they are back.
import type { TestLab } from './lab.ts';
import { eventually } from './wait.ts';

export type ChurnOptions = {
  lab: TestLab;
  nodes: string[];
  workers: number;
  /** Pods that one worker keeps at most. */
  each: number;
  /** Pods to make in all; without it, until `stop`. */
  total?: number;
  random: () => number;
  /** The lab or its agents are killed meanwhile. */
  tolerant?: boolean;
  prefix?: string;
};

export class Churn {
  made = 0;
  deleted = 0;
  /** Milliseconds that `pod run` and `pod delete` took. */
  readonly runMs: number[] = [];
  readonly deleteMs: number[] = [];
  readonly #o: ChurnOptions;
  #stopping = false;
  #abandoned = false;
  #begun = 0;
  readonly done: Promise<void>;

  constructor(options: ChurnOptions) {
    this.#o = options;
    this.done = Promise.all(Array.from({ length: options.workers }, (_, index) => this.#work(index))).then(
      () => {},
    );
    this.done.catch(() => {});
  }

  /** Each worker ends what it does, deletes its pods, and is done. */
  stop(): Promise<void> {
    this.#stopping = true;
    return this.done;
  }

  /** The test is over: nothing is tried again and nothing deleted. */
  abandon(): void {
    this.#stopping = true;
    this.#abandoned = true;
  }

  async #work(worker: number): Promise<void> {
    const { each, total = Number.POSITIVE_INFINITY, random, nodes, prefix = 'churn' } = this.#o;
    const mine: string[] = [];
    for (;;) {
      const over = this.#stopping || this.#begun >= total;
      if (this.#abandoned || (over && mine.length === 0)) return;
      const grows = !over && mine.length < each && (mine.length === 0 || random() < 0.55);
      if (grows) {
        const name = `${prefix}-${worker}-${this.#begun++}`;
        const node = nodes[Math.floor(random() * nodes.length)]!;
        mine.push(name);
        await this.#timed(this.runMs, () => this.#run(name, node));
        this.made++;
      } else {
        const [name] = mine.splice(Math.floor(random() * mine.length), 1);
        await this.#timed(this.deleteMs, () => this.#delete(name!));
        this.deleted++;
      }
    }
  }

  async #timed(into: number[], work: () => Promise<void>): Promise<void> {
    const began = performance.now();
    await work();
    into.push(performance.now() - began);
  }

  async #run(name: string, node: string): Promise<void> {
    try {
      await this.#o.lab.run(name, node);
      return;
    } catch (error) {
      if (!this.#o.tolerant || !(isLabGone(error) || isAgentAway(error))) throw error;
    }
    // Was it made before the lab went? It is there, or is made now.
    await eventually(
      `pod ${name} runs after what was away is back`,
      async () => {
        if (this.#abandoned) return true;
        const found = (await this.#o.lab.pods()).find((pod) => pod.name === name);
        if (!found) await this.#o.lab.run(name, node);
        return found === undefined || found.phase === 'Running';
      },
      60_000,
    );
  }

  async #delete(name: string): Promise<void> {
    if (!this.#o.tolerant) {
      await this.#o.lab.remove([name]);
      return;
    }
    await eventually(
      `pod ${name} is deleted`,
      async () => {
        if (this.#abandoned) return true;
        try {
          await this.#o.lab.remove([name]);
          return true;
        } catch (error) {
          if (isLabGone(error)) return false;
          throw error;
        }
      },
      60_000,
    );
  }
}

const isLabGone = (error: unknown): boolean => {
  const { code, message } = error as { code?: string; message?: string };
  return (
    ['LAB_NOT_UP', 'LAB_LOST', 'ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(code ?? '') ||
    /aborted|socket hang up|Unexpected end of JSON/.test(message ?? '')
  );
};

/** The agent was killed again and again as long as `pod run` waits; the pod stays and is tried again. */
const isAgentAway = (error: unknown): boolean =>
  ['AGENT_UNREACHABLE', 'AGENT_STARTING'].includes((error as { code?: string }).code ?? '');

/** `p50 12 ms, p99 40 ms, most 55 ms`. */
export function spread(ms: readonly number[]): string {
  const sorted = ms.toSorted((a, b) => a - b);
  const at = (share: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms`;
}
