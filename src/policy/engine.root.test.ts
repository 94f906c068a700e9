// The engine on a real kernel: whatever changes in whatever order, at each rest the kernel judges as the program that the
// present objects compile to. And: a table that others remove or empty comes back, an address that is released is nobody's.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIp, type Ip, parseIp } from '../base/ip.ts';
import { eventually, needsRoot } from '../kernel/testing.ts';
import { compile } from './compile.ts';
import { PolicyEngine } from './engine.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { type PodView, type Policy, podKey, UDP } from './model.ts';
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
          const engine = new PolicyEngine(
            { node: 'here', kernel, log, existing: 'keep', onEnforce: async () => {} },
            false,
          );
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

  /** Two pods, and what allows the first to reach the second. */
  const pair = [1, 2].map(
    (at): PodView => ({
      ...{ namespace: 'x', name: `p${at}`, uid: `${at}`, labels: { pod: `p${at}` }, node: 'here', ports: [] },
      ...{ hostNetwork: false, ended: false, ips: [parseIp(`10.0.0.${at}`)] },
    }),
  );
  const toSecond = (values: string[]): Map<string, Policy> =>
    new Map([
      [
        'p',
        {
          object: 'networkpolicy x/p',
          tier: 'networkpolicy',
          priority: 0,
          subject: { namespace: 'x', pods: [{ key: 'pod', operator: 'in', values: ['p2'] }] },
          egress: null,
          ingress: [
            {
              index: 0,
              verdict: 'allow',
              ports: null,
              peers: [
                {
                  kind: 'pods',
                  selector: { namespace: 'x', pods: [{ key: 'pod', operator: 'in', values }] },
                },
              ],
            },
          ],
        },
      ],
    ]);
  const there = { src: parseIp('10.0.0.1'), dst: parseIp('10.0.0.2'), protocol: UDP, sport: 5000, port: 80 };
  const back = { src: there.dst, dst: there.src, protocol: UDP, sport: 80, port: 5000 };

  async function withPair(
    existing: 'cut' | 'keep',
    test: (engine: PolicyEngine, range: PacketRange) => Promise<void>,
  ) {
    using range = new PacketRange();
    const kernel = new PolicyKernel(range.router);
    const engine = new PolicyEngine(
      { node: 'here', kernel, log, existing, onEnforce: async () => {} },
      false,
    );
    try {
      engine.setPolicies(toSecond(['p1']));
      engine.setNamespaces(new Map([['x', {}]]));
      engine.setPods(pair);
      await engine.settled(bound());
      assert.deepEqual(range.send([]), []);
      assert.deepEqual(range.goOn([there, back, there]), [true, true, true]);
      await test(engine, range);
    } finally {
      await engine.close();
    }
  }

  it('cuts what a change no longer allows, whoever sends, and lets it go on when it is allowed again', () =>
    withPair('cut', async (engine, range) => {
      engine.setPolicies(toSecond(['nobody']));
      await engine.settled(bound());
      await eventually('it is cut', () => !range.goOn([there])[0]);
      assert.deepEqual(range.goOn([there, back, there]), [false, false, false]);
      engine.setPolicies(toSecond(['p1', 'nobody']));
      await engine.settled(bound());
      await eventually('it goes on', () => range.goOn([there])[0]!);
      assert.deepEqual(range.goOn([back, there]), [true, true]);
      // A label is a change, too.
      engine.putPod({ ...pair[0]!, labels: { pod: 'other' } });
      await eventually('the label cuts it', () => !range.goOn([back])[0]);
    }));

  it('keeps connections where that is asked for, and judges new ones', () =>
    withPair('keep', async (engine, range) => {
      engine.setPolicies(toSecond(['nobody']));
      await engine.settled(bound());
      assert.deepEqual(range.goOn([there, back, { ...there, sport: 5001 }]), [true, true, false]);
    }));

  it('lets pods in before their links are made, and nobody after their release', async () => {
    using range = new PacketRange();
    const kernel = new PolicyKernel(range.router);
    const engine = new PolicyEngine(
      { node: 'here', kernel, log, existing: 'cut', onEnforce: async () => {} },
      false,
    );
    try {
      const [first, second] = pair as [PodView, PodView];
      const early = AbortSignal.timeout(50);
      await assert.rejects(engine.admit(second, second.ips, early), /abort|timeout/i);
      engine.release('x/p2', second.ips);
      engine.setPolicies(toSecond(['p1']));
      engine.setNamespaces(new Map([['x', {}]]));
      engine.setPods([first, { ...second, ips: [] }]);
      await engine.settled(bound());
      // Another pod of the name is not the one that the API shows.
      await assert.rejects(
        engine.admit({ ...second, uid: 'later' }, second.ips, AbortSignal.timeout(50)),
        /abort|timeout/i,
      );
      const stranger = { ...there, src: parseIp('10.0.0.7') };
      assert.deepEqual(range.send([stranger]), [true], 'the address is nobody yet');
      await engine.admit(second, second.ips, bound());
      assert.deepEqual(range.send([stranger, there]), [false, true]);
      engine.release('x/p2', second.ips);
      assert.deepEqual(range.send([stranger]), [true]);
    } finally {
      await engine.close();
    }
  });
});
