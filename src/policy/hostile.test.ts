// Policies that are wrong, odd or huge: each is refused with policy, field, value and reason, or means what it says; none
// throws, and none changes what the others mean.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compile } from './compile.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { decodeClusterNetworkPolicy } from './decode-cluster.ts';
import type { Decoded } from './fields.ts';
import { Numbers } from './numbers.ts';
import { Renderer, rebuildText } from './render.ts';
import { namespaces, pods } from './testing.ts';
import { mutated, specOfCluster, specOfNamespace } from './testing-hostile.ts';

const RUNS = 1_000;

const good = decodeNetworkPolicy({
  metadata: { namespace: 'x', name: 'good' },
  spec: {
    podSelector: { matchLabels: { pod: 'a' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }], ports: [{ port: 80 }] }],
  },
}).policy!;

/** Nothing that comes out of a decoder is without a name. */
function checkProblems({ problems }: Decoded): void {
  for (const { object, field, value, because } of problems) {
    assert.match(object, /^(cluster)?networkpolicy /);
    assert.match(field, /^(spec|metadata)/);
    assert.equal(typeof value, 'string');
    assert.ok(value.length <= 200, `${value.length} characters of a value`);
    assert.ok(because.length > 0);
  }
}

for (const [kind, spec, decode] of [
  ['NetworkPolicy', specOfNamespace, decodeNetworkPolicy],
  ['ClusterNetworkPolicy', specOfCluster, decodeClusterNetworkPolicy],
] as const)
  describe(`${RUNS} hostile objects of ${kind}`, () => {
    it('are refused by name or compiled, and leave others as they are', () => {
      let refused = 0;
      let taken = 0;
      fc.assert(
        fc.property(mutated(spec), pods, (its, world) => {
          const decoded = decode({ metadata: { namespace: 'z', name: 'hostile' }, spec: its });
          checkProblems(decoded);
          if (decoded.problems.length > 0) refused++;
          if (!decoded.policy) return;
          taken++;
          const all = { node: 'here', namespaces, pods: world, held: new Map() };
          const alone = compile({ ...all, policies: [good] });
          const beside = compile({ ...all, policies: [good, decoded.policy] });
          assert.ok(rebuildText(new Renderer(new Numbers()).render(beside)).length > 0);
          // A policy of z says nothing of pods elsewhere; one of the cluster is judged in a tier of its own.
          if (kind === 'ClusterNetworkPolicy') return;
          for (const map of ['from', 'to'] as const)
            for (const [ip, name] of alone[map]) assert.equal(beside[map].get(ip), name);
        }),
        { numRuns: RUNS },
      );
      assert.ok(refused > RUNS / 10, `${refused} were refused`);
      assert.ok(taken > RUNS / 10, `${taken} were taken`);
    });
  });
