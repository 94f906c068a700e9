// The table on a real kernel judges random packets under random policies as the evaluator does: made from nothing, and
// brought from one program to the next by changes.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp, parseIp } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { bring } from './bring.ts';
import { compile } from './compile.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { TCP } from './model.ts';
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

  it('marks as judged only what both halves of one table have judged', async () => {
    using range = new PacketRange();
    const kernel = new PolicyKernel(range.router);
    try {
      const nobody = compile({ node: 'here', policies: [], namespaces, pods: [], held: new Map() });
      await bring(kernel, new Renderer(new Numbers()).render(nobody));
      range.nft(
        'add table inet marks; add counter inet marks judged; add chain inet marks f { type filter hook forward priority 1; };' +
          'add rule inet marks f meta mark and 0x300 == 0x100 counter name judged',
      );
      const packets: Packet[] = [1, 2, 3].map((port) => ({
        ...{ src: parseIp('10.0.0.1'), dst: parseIp('10.0.0.2') },
        ...{ protocol: TCP, port },
      }));
      const judged = (): number => {
        range.send(packets);
        const [, count] = /packets (\d+)/.exec(range.nft('reset counter inet marks judged'))!;
        return Number(count);
      };
      assert.equal(judged(), packets.length);
      // As a packet finds the maps of a table that is replaced while it is judged: by its sender's policies, by its
      // receiver's.
      for (const [key, verdict] of [
        [1, 'goto mark_sent'],
        [2, 'goto mark_judged'],
      ]) {
        range.nft(`delete element inet podway-policy still { ${key} }`);
        assert.equal(judged(), 0, `without ${verdict}`);
        range.nft(`add element inet podway-policy still { ${key} : ${verdict} }`);
        assert.equal(judged(), packets.length);
      }
    } finally {
      await kernel.close();
    }
  });
});
