// Narrowing a policy with 100,000 tracked connections: ms from the change's commit in the kernel until a connection that it no
// longer allows is dropped, and the longest time in which the main thread did nothing else. The peer is the same with
// none of them to cut, and a tenth of them tracked.
import { parseIp } from '../src/base/ip.ts';
import { decodeNetworkPolicy } from '../src/policy/decode.ts';
import { PolicyEngine } from '../src/policy/engine.ts';
import type { Packet } from '../src/policy/evaluate.ts';
import { PolicyKernel } from '../src/policy/kernel.ts';
import { type PodView, type Policy, UDP } from '../src/policy/model.ts';
import { PacketRange } from '../src/policy/testing.ts';
import { type BenchResult, round } from './stats.ts';

const ENTRIES = [10_000, 100_000];
const ROUNDS = 5;
const CHUNK = 5_000;
/** Between two looks whether it is cut: a look holds the main thread itself. */
const LOOK_MS = 100;
const REST_MS = 2_000;
const BOUND_MS = 60_000;
/** Connections of one sender. */
const PORTS = 50_000;

const log = { debug() {}, info() {}, warn() {}, error: console.error };
const podAt = (name: string, at: number): PodView => ({
  ...{ namespace: 'x', name, uid: name, labels: { pod: name }, node: 'here', ports: [] },
  ...{ hostNetwork: false, ended: false, ips: [parseIp(`10.0.0.${at}`)] },
});
/** Clients reach the server on 80; `narrow`: the last of them no more. */
function policy(clients: readonly string[]): Map<string, Policy> {
  const { policy: made } = decodeNetworkPolicy({
    metadata: { namespace: 'x', name: 'p' },
    spec: {
      podSelector: { matchLabels: { pod: 'server' } },
      policyTypes: ['Ingress'],
      ingress: [
        {
          from: clients.map((name) => ({ podSelector: { matchLabels: { pod: name } } })),
          ports: [{ port: 80, protocol: 'UDP' }],
        },
      ],
    },
  });
  return new Map([['x/p', made!]]);
}

type Run = { cutMs: number; stallMs: number };

async function measure(entries: number, isCut: boolean): Promise<Run[]> {
  using range = new PacketRange();
  const kernel = new PolicyKernel(range.router);
  const engine = new PolicyEngine(
    { node: 'here', kernel, log, existing: 'cut', onEnforce: async () => {} },
    false,
  );
  const clients = Array.from({ length: Math.ceil(entries / PORTS) }, (_, at) => `client${at}`);
  // The engine's own timers keep no process alive.
  const alive = setInterval(() => {}, 1_000);
  try {
    engine.setPolicies(policy([...clients, 'last']));
    engine.setNamespaces(new Map([['x', {}]]));
    engine.setPods([podAt('server', 1), podAt('last', 2), ...clients.map((name, at) => podAt(name, 3 + at))]);
    const settled = () => engine.settled(AbortSignal.timeout(BOUND_MS));
    await settled();
    const to = { dst: parseIp('10.0.0.1'), protocol: UDP, port: 80 };
    for (let at = 0; at < entries; at += CHUNK) {
      const packets = Array.from(
        { length: Math.min(CHUNK, entries - at) },
        (_, more): Packet & { sport: number } => ({
          ...to,
          src: parseIp(`10.0.0.${3 + Math.floor((at + more) / PORTS)}`),
          sport: 1_024 + ((at + more) % PORTS),
        }),
      );
      range.goOn(packets);
    }
    const one = { ...to, src: parseIp('10.0.0.2'), sport: 7 };
    // Answered, it is established, and judged no more.
    const answer = { src: to.dst, dst: one.src, protocol: UDP, sport: 80, port: 7 };
    const goesOn = () => range.goOn([one, answer, one]).every((came) => came);
    const runs: Run[] = [];
    for (let time = 0; time < ROUNDS; time++) {
      engine.setPolicies(policy([...clients, 'last']));
      await settled();
      while (!goesOn()) await new Promise((resolve) => setTimeout(resolve, 20));
      // The look that let it go on has ended, too.
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
      let stallMs = 0;
      let last = performance.now();
      const tick = setInterval(() => {
        const now = performance.now();
        stallMs = Math.max(stallMs, now - last - 1);
        last = now;
      }, 1);
      // With all of them cut, or this one alone.
      engine.setPolicies(policy(isCut ? ['nobody'] : clients));
      await settled();
      const began = performance.now();
      let seen = 0;
      for (;;) {
        const asked = performance.now();
        const came = range.goOn([one])[0]!;
        // What the question itself takes is not the agent's.
        last += performance.now() - asked;
        if (!came) {
          seen = asked;
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
      clearInterval(tick);
      runs.push({ cutMs: seen - began, stallMs });
    }
    return runs;
  } finally {
    await engine.close();
    clearInterval(alive);
  }
}

export async function bench(): Promise<BenchResult[]> {
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  for (const entries of ENTRIES)
    for (const isCut of [false, true]) {
      const runs = await measure(entries, isCut);
      const most = (of: keyof Run) => round(Math.max(...runs.map((run) => run[of])), 0);
      const name = `${entries} tracked, ${isCut ? 'all' : 'one'} cut`;
      numbers[name] = runs;
      rows.push([name, most('cutMs'), most('stallMs')]);
    }
  return [
    {
      title: `ms until a connection is cut after the change is in the kernel, and the longest stall of the main thread (worst of ${ROUNDS})`,
      head: ['connections', 'cut after', 'main thread held'],
      rows,
      numbers,
    },
  ];
}
