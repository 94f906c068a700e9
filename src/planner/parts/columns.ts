// A trace as columns, which threads share without copying: who starts and stops where, and when. Nodes and pods are numbers.
import type { TraceEvent, TraceEventKind } from '../trace.ts';

export type Columns = {
  /** Ms from the start. */
  readonly times: Float64Array;
  /** Index into `names`. */
  readonly nodes: Uint32Array;
  readonly pods: Uint32Array;
  readonly kinds: Uint8Array;
  readonly names: readonly string[];
};

export const KINDS: readonly TraceEventKind[] = ['bound', 'start', 'stop'];

const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes);

/** Each part has the nodes of every `parts`-th place in order of their first event. */
export function columnsOf(events: readonly TraceEvent[], parts: number): Columns[] {
  const nodes = new Numbers();
  const sizes = Array<number>(parts).fill(0);
  for (const { node } of events) sizes[nodes.of(node) % parts]!++;
  const columns = sizes.map((size, part) => ({
    times: new Float64Array(shared(8 * size)),
    nodes: new Uint32Array(shared(4 * size)),
    pods: new Uint32Array(shared(4 * size)),
    kinds: new Uint8Array(shared(size)),
    names: nodes.names().filter((_, index) => index % parts === part),
  }));
  const filled = Array<number>(parts).fill(0);
  const pods = new Numbers();
  for (const { time, node, pod, event } of events) {
    const index = nodes.of(node);
    const part = index % parts;
    const at = filled[part]!++;
    const own = columns[part]!;
    own.times[at] = time * 1000;
    own.nodes[at] = Math.floor(index / parts);
    own.pods[at] = pods.of(pod);
    own.kinds[at] = KINDS.indexOf(event);
    // Its name is free again.
    if (event === 'stop') pods.forget(pod);
  }
  return columns;
}

/** Numbers names in the order in which they come; a forgotten name gets another number. */
class Numbers {
  readonly #numbers = new Map<string, number>();
  #next = 0;

  of(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.#next);
    return this.#next++;
  }

  forget(name: string): void {
    this.#numbers.delete(name);
  }

  names = (): string[] => [...this.#numbers.keys()];
}
