// The table on a real kernel judges random packets under random policies as the evaluator does: made from nothing, and
// brought from one program to the next by changes.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { bring } from './bring.ts';
import { compile } from './compile.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { Numbers } from './numbers.ts';
import { Renderer } from './render.ts';
import { namespaces, PacketRange, packet, pods, policies } from './testing.ts';

const textOf = ({ src, dst, protocol, port }: Packet) =>
  `${formatIp(src)} > ${formatIp(dst)} ${protocol}:${port}`;

describe('the policy table on a real kernel', needsRoot, () => {
  it('judges as the evaluator, from nothing and from change to change', async () => {
    using range = new PacketRange();
    const kernel = new PolicyKernel(range.router);
    try {
      const renderer = new Renderer(new Numbers());
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(
          policies,
          pods,
          fc.array(packet, { minLength: 60, maxLength: 60 }),
          async (all, its, packets) => {
            const program = compile({ node: 'here', policies: all, namespaces, pods: its, held: new Map() });
            if (runs++ % 5 === 0) kernel.doubt();
            await bring(kernel, renderer.render(program));
            const came = range.send(packets);
            const wrong = packets
              .map((one, at) => ({
                one,
                kernel: came[at] ? 'allow' : 'deny',
                program: evaluate(program, one).verdict,
              }))
              .filter((row) => row.kernel !== row.program);
            assert.deepEqual(
              wrong.map((row) => `${textOf(row.one)}: kernel ${row.kernel}, program ${row.program}`),
              [],
            );
          },
        ),
        { numRuns: Number(process.env['PODWAY_RUNS'] ?? 20) },
      );
    } finally {
      await kernel.close();
    }
  });
});
