// From a watch event to the kernel's table in force: 10,000 pods (200 here), 1,000 policies; alone in the namespace, and
// beside 10,000 foreign chains. The peer is the same change by the whole table made anew, in one transaction.
import { createAnonymousNetns, type Netns } from '../src/kernel/netns.ts';
import { Nft } from '../src/kernel/nftables.ts';
import { PolicyEngine } from '../src/policy/engine.ts';
import { PolicyKernel } from '../src/policy/kernel.ts';
import {
  addForeignChains,
  HERE,
  namespaces,
  PODS,
  POLICIES,
  podOf as pod,
  policies,
} from './policy-world.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const FOREIGN_CHAINS = 10_000;
const CHANGES = 200;
const BOUND_MS = 60_000;

const log = { debug() {}, info() {}, warn() {}, error: console.error };

type Times = { cold: number; label: number[]; pod: number[]; policy: number[]; anew: number[] };

async function measure(ns: Netns): Promise<Times> {
  const kernel = new PolicyKernel(ns);
  const engine = new PolicyEngine(
    { node: 'here', kernel, log, existing: 'keep', onEnforce: async () => {} },
    false,
  );
  const timed = async (change: () => void): Promise<number> => {
    const began = performance.now();
    change();
    await engine.settled(AbortSignal.timeout(BOUND_MS));
    return performance.now() - began;
  };
  const repeated = async (change: (at: number) => void): Promise<number[]> => {
    const times: number[] = [];
    for (let at = 0; at < CHANGES; at++) times.push(await timed(() => change(at)));
    return times;
  };
  const all = policies();
  const pods = Array.from({ length: PODS }, (_, at) => pod(at));
  const cold = await timed(() => {
    engine.setPolicies(all);
    engine.setNamespaces(namespaces);
    engine.setPods(pods);
  });
  const times = {
    cold,
    label: await repeated((at) => engine.putPod(pod(5_000 + at, at + 7))),
    pod: await repeated((at) => engine.putPod(pod(PODS + at))),
    policy: await repeated((at) => {
      all.set(`${at}`, { ...all.get(`${at}`)!, ingress: [] });
      engine.setPolicies(all);
    }),
    anew: await repeated((at) => {
      engine.repair();
      engine.putPod(pod(6_000 + at, at + 7));
    }),
  };
  await engine.close();
  return times;
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
    const { cold, anew, ...changes } = await measure(ns);
    const peer = summarise(anew);
    const beside = foreign === 0 ? 'alone' : `${foreign} foreign chains`;
    numbers[beside] = { cold, anew: peer };
    rows.push([beside, 'cold start', round(cold, 0), round(cold, 0), round(peer.p50), round(peer.p99)]);
    for (const [name, times] of Object.entries(changes)) {
      const { p50, p99 } = summarise(times);
      numbers[`${beside}, ${name}`] = { p50, p99 };
      rows.push([beside, `one ${name}`, round(p50), round(p99), round(peer.p50), round(peer.p99)]);
    }
  }
  return [
    {
      title: `ms from an event to the kernel's table in force: ${POLICIES} policies, ${PODS} pods, ${HERE} of them here`,
      head: ['namespace', 'change', 'p50', 'p99', 'whole table anew p50', 'p99'],
      rows,
      numbers,
    },
  ];
}
