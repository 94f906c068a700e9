// The process dies at each step of a change: at that moment the kernel judges each packet as the program before or the one
// after, and the process that comes next brings it to the one after.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { bring } from './bring.ts';
import { compile } from './compile.ts';
import type { Changes, ElementChange } from './diff.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { Numbers } from './numbers.ts';
import { Renderer } from './render.ts';
import type { Table } from './table.ts';
import { namespaces, PacketRange, packet, pods, policies } from './testing.ts';

class Death extends Error {}

/** Dies at the given step, counted over all of them: each has one before and one after. */
class DyingKernel extends PolicyKernel {
  dieAt = Number.POSITIVE_INFINITY;
  steps = 0;

  #step(): void {
    if (this.steps++ === this.dieAt) throw new Death();
  }

  override async rebuild(table: Table): Promise<void> {
    this.#step();
    await super.rebuild(table);
    this.#step();
  }

  override async addStructure(changes: Changes): Promise<void> {
    this.#step();
    await super.addStructure(changes);
    this.#step();
  }

  override setElements(changes: readonly ElementChange[]): void {
    this.#step();
    super.setElements(changes);
    this.#step();
  }

  override async dropStructure(changes: Changes): Promise<void> {
    this.#step();
    await super.dropStructure(changes);
    this.#step();
  }
}

const textOf = ({ src, dst, protocol, port }: Packet) =>
  `${formatIp(src)} > ${formatIp(dst)} ${protocol}:${port}`;
/** The most steps that a change has. */
const STEPS = 8;

describe('a process that dies', needsRoot, () => {
  it('leaves at each step the program before or the one after, and the next process goes on', async () => {
    using range = new PacketRange();
    const died = new Set<number>();
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(policies, policies),
        pods,
        fc.array(packet, { minLength: 60, maxLength: 60 }),
        async ([before, after], its, packets) => {
          const programOf = (all: typeof before) =>
            compile({ node: 'here', policies: all, namespaces, pods: its, held: new Map() });
          const [first, second] = [programOf(before), programOf(after)];
          const verdicts = (program: typeof first) =>
            packets.map((one) => evaluate(program, one).verdict === 'allow');
          const [old, now] = [verdicts(first), verdicts(second)];
          for (let dieAt = 0; dieAt < STEPS; dieAt++) {
            const kernel = new DyingKernel(range.router);
            const renderer = new Renderer(new Numbers());
            try {
              await bring(kernel, renderer.render(first));
              kernel.steps = 0;
              kernel.dieAt = dieAt;
              try {
                const { drop } = await bring(kernel, renderer.render(second));
                await drop?.();
              } catch (error) {
                if (!(error instanceof Death)) throw error;
                died.add(dieAt);
              }
              const came = range.send(packets);
              const neither = packets.filter((_, at) => came[at] !== old[at] && came[at] !== now[at]);
              assert.deepEqual(neither.map(textOf), [], `at step ${dieAt}`);
            } finally {
              await kernel.close();
            }
            const next = new PolicyKernel(range.router);
            try {
              await bring(next, new Renderer(new Numbers()).render(second));
              const came = range.send(packets);
              const wrong = packets.filter((_, at) => came[at] !== now[at]);
              assert.deepEqual(wrong.map(textOf), [], `after step ${dieAt}`);
            } finally {
              await next.close();
            }
            if (kernel.steps <= dieAt) break;
          }
        },
      ),
      { numRuns: Number(process.env['PODWAY_RUNS'] ?? 1), endOnFailure: true },
    );
    assert.ok(died.size >= 2, `died at ${[...died].join(', ')}`);
  });
});
