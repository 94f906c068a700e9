// The AWS VPC CNI's targets in the real pool: its steady states (spec 3.5), with EC2's calls made and answered.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InstanceLimits } from '../cloud/limits.ts';
import { countPool } from './plan/census.ts';
import type { PoolPolicy } from './policy.ts';
import { m5Large, podOwner, TestNode } from './testkit.ts';

type Variables = { E?: number; P?: number; W?: number; M?: number };
const small: InstanceLimits = { ...m5Large, instanceType: 't3.small', enis: 3, ipv4PerEni: 4, pods: 11 };
const large: InstanceLimits = {
  ...m5Large,
  instanceType: 'p3dn.24xlarge',
  enis: 15,
  ipv4PerEni: 50,
  pods: 737,
};

/** Variables, pods, then addresses and ENIs at rest. */
const singles: [InstanceLimits, Variables, number, number, number][] = [
  [small, { E: 1 }, 0, 3, 1],
  [small, { E: 1 }, 5, 9, 3],
  [small, { E: 1 }, 9, 9, 3],
  [small, { W: 1, M: 1 }, 0, 1, 1],
  [small, { W: 1, M: 1 }, 5, 6, 2],
  [small, { W: 2, M: 5 }, 0, 5, 2],
  [small, { W: 2, M: 5 }, 5, 7, 3],
  [large, { E: 1 }, 0, 49, 1],
  [large, { E: 1 }, 3, 98, 2],
  [large, { E: 1 }, 95, 147, 3],
  [large, { W: 5, M: 10 }, 0, 10, 1],
  [large, { W: 5, M: 10 }, 7, 12, 1],
  [large, { W: 5, M: 10 }, 15, 20, 1],
  [large, { W: 5, M: 10 }, 45, 50, 2],
];
/** With prefixes: their number instead of addresses. */
const prefixed: [InstanceLimits, Variables, number, number, number][] = [
  [small, { P: 1 }, 0, 1, 1],
  [small, { P: 1 }, 5, 2, 1],
  [small, { P: 1 }, 16, 2, 1],
  [small, { P: 1 }, 17, 3, 1],
  [small, { P: 1 }, 58, 5, 2],
];

async function rest(
  node: TestNode,
  addressing: 'secondary' | 'prefix',
  { E, P, W, M }: Variables,
  pods: number,
) {
  node.open();
  const targets = {
    ...{ kind: 'incumbent' as const, warmEnis: E ?? 0, warmPrefixes: P ?? 0 },
    ...{ warmIps: W ?? 0, minimumIps: M ?? 0 },
  };
  const policy: PoolPolicy = {
    ...node.pool.policy,
    addressing,
    targets,
    podLimit: 110,
    idleReleaseMs: 30_000,
  };
  const limits = node.limits.enis > 3 ? { ...policy, podLimit: 737 } : policy;
  node.pool.setPolicy(limits);
  const stop = new AbortController();
  const started = node.pool.start(stop.signal);
  await node.clock.advance(1_000);
  await started;
  for (let i = 0; i < pods; i++) {
    const lease = node.pool.acquire(podOwner(`p${i}`));
    await node.clock.advance(2_000);
    await lease;
  }
  await node.clock.advance(600_000);
  const blocks = [...node.pool.state.enis.values()].flatMap((eni) => [...eni.blocks.values()]);
  const seen = [blocks.length, node.cloud.enis.size];
  assert.equal(countPool(node.pool.state, node.clock.now()).held, pods);
  stop.abort();
  await node.clock.advance(0);
  await node.pool.stopped();
  return seen;
}

for (const [addressing, states] of [
  ['secondary', singles],
  ['prefix', prefixed],
] as const)
  for (const [limits, variables, pods, blocks, enis] of states)
    test(`${limits.instanceType} ${addressing} ${JSON.stringify(variables)}, ${pods} pods: ${blocks} on ${enis}`, async () => {
      await using node = new TestNode({ limits, settings: { cooldownMs: 1_000 } });
      assert.deepEqual(await rest(node, addressing, variables, pods), [blocks, enis]);
    });
