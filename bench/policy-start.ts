// What policy adds to ADD: ms from the pod's addresses to its class and memberships in force (the wait that ADD makes), with
// 1,000 policies and 10,000 pods, alone in the namespace and beside 10,000 foreign chains. The peer is the same elements
// by the program nft, as a plugin that runs it pays.
import { execFileSync } from 'node:child_process';
import { createAnonymousNetns, type Netns, withNetns } from '../src/kernel/netns.ts';
import { Nft } from '../src/kernel/nftables.ts';
import { PolicyEngine } from '../src/policy/engine.ts';
import { PolicyKernel } from '../src/policy/kernel.ts';
import { addForeignChains, namespaces, PODS, podOf, policies } from './policy-world.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const ADDS = 200;
const FOREIGN_CHAINS = 10_000;
const BOUND_MS = 60_000;
const log = { debug() {}, info() {}, warn() {}, error: console.error };

async function measure(ns: Netns): Promise<{ ours: number[]; theirs: number[] }> {
  const kernel = new PolicyKernel(ns);
  const engine = new PolicyEngine(
    { node: 'here', kernel, log, existing: 'cut', onEnforce: async () => {} },
    false,
  );
  const alive = setInterval(() => {}, 1_000);
  try {
    engine.setPolicies(policies());
    engine.setNamespaces(namespaces);
    engine.setPods(Array.from({ length: PODS }, (_, at) => podOf(at)));
    await engine.settled(AbortSignal.timeout(BOUND_MS));
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let at = 0; at < ADDS; at++) {
      // Bound here, as one of those that the policies know; the API shows it before the sandbox is asked for.
      const seen = { ...podOf(PODS + at, at % 200), node: 'here' };
      const { ips } = seen;
      engine.putPod({ ...seen, ips: [] });
      await engine.settled(AbortSignal.timeout(BOUND_MS));
      const began = performance.now();
      await engine.admit(seen, ips, AbortSignal.timeout(BOUND_MS));
      ours.push(performance.now() - began);
      if (at % 10 > 0) continue;
      const text = `add element inet podway-policy peers4 { 192.0.2.${at} : 1:1 }; add element inet podway-policy from4 { 192.0.2.${at} : 1:1 }; add element inet podway-policy to4 { 192.0.2.${at} : 1:1 }`;
      const from = performance.now();
      withNetns(ns, () => execFileSync('nft', [text]));
      theirs.push(performance.now() - from);
    }
    return { ours, theirs };
  } finally {
    await engine.close();
    clearInterval(alive);
  }
}

export async function bench(): Promise<BenchResult[]> {
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  for (const foreign of [0, FOREIGN_CHAINS]) {
    using ns = createAnonymousNetns();
    if (foreign > 0) {
      await using nft = Nft.open(ns);
      await addForeignChains(nft, foreign);
    }
    const { ours, theirs } = await measure(ns);
    const [own, peer] = [summarise(ours), summarise(theirs)];
    const beside = foreign === 0 ? 'alone' : `${foreign} foreign chains`;
    numbers[beside] = { own, peer };
    rows.push([beside, round(own.p50), round(own.p99), round(peer.p50), round(peer.p99)]);
  }
  return [
    {
      title: `ms that policy adds to ADD: 1000 policies, ${PODS} pods`,
      head: ['namespace', 'p50', 'p99', 'by nft p50', 'p99'],
      rows,
      numbers,
    },
  ];
}
