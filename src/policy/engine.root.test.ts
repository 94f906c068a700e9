// The engine on a real kernel: whatever changes in whatever order, at each rest the kernel judges as the program that the
// present objects compile to. And: a table that others remove or empty comes back, an address that is released is nobody's.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp, type Ip } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { compile } from './compile.ts';
import { PolicyEngine } from './engine.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { type PodView, type Policy, podKey } from './model.ts';
import type { Program } from './program.ts';
import { namespaces, PacketRange, packet, pods, policies } from './testing.ts';

const log = { debug() {}, info() {}, warn() {}, error() {} };
const bound = () => AbortSignal.timeout(20_000);

/** The objects beside the engine, changed as it is. */
class Model {
  readonly engine: PolicyEngine;
  policies = new Map<string, Policy>();
  namespaces = new Map<string, Record<string, string>>(namespaces);
  pods = new Map<string, PodView>();
  held = new Map<string, readonly Ip[]>();

  constructor(engine: PolicyEngine) {
    this.engine = engine;
  }

  start(): void {
    this.engine.setPolicies(this.policies);
    this.engine.setNamespaces(this.namespaces);
    this.engine.setPods(this.pods.values());
  }

  wrong(range: PacketRange, packets: readonly Packet[]): string[] {
    const { pods, held } = this;
    const program = compile({
      node: 'here',
      policies: [...this.policies.values()],
      namespaces: this.namespaces,
      pods: pods.values(),
      held,
    });
    if (this.policies.size > 0)
      assert.deepEqual(meaningOf(this.engine.program!, program), meaningOf(program, program));
    const came = range.send(packets);
    return packets.flatMap((one, at) => {
      const { verdict } = evaluate(program, one);
      if ((verdict === 'allow') === came[at]) return [];
      return [`${formatIp(one.src)} > ${formatIp(one.dst)} ${one.protocol}:${one.port}: program ${verdict}`];
    });
  }
}

/** Classes and peers by address. Selectors that no class asks for any more may stay until the next compilation. */
function meaningOf({ from, to, peers, identities }: Program, by: Program): string[] {
  const asked = new Set([...by.identities.values()].flatMap(({ selectors }) => [...selectors]));
  const classes = [from, to].flatMap((map) => [...map].map(([ip, name]) => `${formatIp(ip)} ${name}`));
  const members = [...peers].flatMap(([ip, key]) =>
    [...identities.get(key)!.selectors]
      .filter((one) => asked.has(one))
      .map((one) => `${formatIp(ip)} ${one}`),
  );
  return [...classes, ...members].sort();
}

type Step = (model: Model) => void | Promise<void>;

const steps: fc.Arbitrary<Step> = fc.oneof(
  policies.map(
    (all): Step =>
      (model) => {
        model.policies = new Map(all.map((one) => [one.object, one]));
        model.engine.setPolicies(model.policies);
      },
  ),
  // A pod with its name and addresses becomes another: labels, ports, node.
  {
    weight: 6,
    arbitrary: fc.tuple(pods, fc.nat(7)).map(
      ([all, at]): Step =>
        (model) => {
          const pod = all[at]!;
          for (const key of [...model.pods.keys()])
            if (key.endsWith(`/${pod.name}`) && key !== podKey(pod)) {
              model.pods.delete(key);
              model.engine.removePod(key);
            }
          model.pods.set(podKey(pod), pod);
          model.engine.putPod(pod);
        },
    ),
  },
  {
    weight: 3,
    arbitrary: fc.nat(7).map(
      (at): Step =>
        (model) => {
          const key = [...model.pods.keys()][at];
          if (key === undefined) return;
          model.pods.delete(key);
          model.engine.removePod(key);
        },
    ),
  },
  fc.constantFrom('x', 'y', 'z').chain((name) =>
    fc.constantFrom('x', 'y', 'z').map(
      (ns): Step =>
        (model) => {
          const labels = { ns };
          model.namespaces.set(name, labels);
          model.engine.putNamespace(name, labels);
        },
    ),
  ),
  {
    weight: 1,
    arbitrary: fc.constant<Step>(async (model) => {
      await model.engine.settled(bound());
      model.engine.repair();
    }),
  },
);

describe('the policy engine on a real kernel', needsRoot, () => {
  it('judges as the objects say after any changes', async () => {
    using range = new PacketRange();
    await fc.assert(
      fc.asyncProperty(
        policies,
        pods,
        fc.array(
          fc.tuple(
            fc.array(steps, { minLength: 1, maxLength: 4 }),
            fc.array(packet, { minLength: 80, maxLength: 80 }),
          ),
          { minLength: 4, maxLength: 4 },
        ),
        async (all, its, rounds) => {
          const kernel = new PolicyKernel(range.router);
          const engine = new PolicyEngine({ node: 'here', kernel, log, onEnforce: async () => {} }, false);
          const model = new Model(engine);
          model.policies = new Map(all.map((one) => [one.object, one]));
          model.pods = new Map(its.map((pod) => [podKey(pod), pod]));
          model.start();
          try {
            for (const [round, packets] of rounds) {
              for (const step of round) {
                await step(model);
                // Some changes meet a table at rest, and some one that is being changed.
                if (packets[0]!.port !== 53) await engine.settled(bound());
              }
              await engine.settled(bound());
              assert.deepEqual(model.wrong(range, packets), []);
              assert.equal(engine.status.broken, null);
            }
          } finally {
            await engine.close();
          }
        },
      ),
      { numRuns: Number(process.env['PODWAY_RUNS'] ?? 8), endOnFailure: true },
    );
  });
});
