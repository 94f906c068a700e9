// Random policies against three judges: the kernel's table, the evaluator of the program, and what `policy trace` says.
// PODWAY_SOAK=1: 10,000 pairs; else 300.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp } from '../../src/base/ip.ts';
import { bring } from '../../src/policy/bring.ts';
import { compile } from '../../src/policy/compile.ts';
import { evaluate } from '../../src/policy/evaluate.ts';
import { trace } from '../../src/policy/explain.ts';
import { PolicyKernel } from '../../src/policy/kernel.ts';
import { Numbers } from '../../src/policy/numbers.ts';
import { Renderer } from '../../src/policy/render.ts';
import { namespaces, PacketRange, packet, pods, policies } from '../../src/policy/testing.ts';
import { full, skip } from '../support/storm.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const PACKETS = 50;
const RUNS = (full ? 10_000 : 300) / PACKETS;

describe('random policies', { skip, timeout: 1_200_000 }, () => {
  it(`kernel, evaluator and trace agree on ${RUNS * PACKETS} pairs`, async () => {
    using range = new PacketRange();
    const kernel = new PolicyKernel(range.router);
    let denied = 0;
    let named = 0;
    try {
      const renderer = new Renderer(new Numbers());
      await fc.assert(
        fc.asyncProperty(
          policies,
          pods,
          fc.array(packet, { minLength: PACKETS, maxLength: PACKETS }),
          async (all, some, packets) => {
            const its = some.map((pod) => ({ ...pod, node: 'here', ended: false }));
            const program = compile({ node: 'here', policies: all, namespaces, pods: its, held: new Map() });
            await bring(kernel, renderer.render(program));
            const came = range.send(packets);
            const end = (ip: (typeof packets)[number]['src']) => ({
              ip,
              pod: its.find(({ ips }) => ips.includes(ip)) ?? null,
            });
            for (const [at, one] of packets.entries()) {
              const { src, dst, protocol, port } = one;
              const told = trace({ policies: all, namespaces, from: end(src), to: end(dst), protocol, port });
              const verdict = came[at] ? 'allow' : 'deny';
              const text = `${formatIp(src)} > ${formatIp(dst)} ${protocol}:${port}`;
              assert.equal(evaluate(program, one).verdict, verdict, `evaluator: ${text}`);
              assert.equal(told.verdict, verdict, `trace: ${text}`);
              if (verdict === 'allow') continue;
              denied++;
              if ([told.egress, told.ingress].some((side) => side.verdict === 'deny' && side.object)) named++;
            }
          },
        ),
        { numRuns: RUNS, seed, endOnFailure: true },
      );
    } finally {
      await kernel.close();
    }
    assert.ok(denied > 0);
    assert.equal(named, denied, 'each denied pair has the object that denies it');
  });
});
