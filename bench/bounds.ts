// bounds: what a pod's stream would gain without a part of the datapath that each packet passes. The parts are taken away
// on both nodes for one measurement at a time (the agents only report), interleaved with the path by hand.
import { run } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';
import { type Ground, onGround, type Path } from './traffic.ts';

const ROUNDS = 21;
const WAYS = ['chain', 'inet', 'podway', 'ways'];

/** Takes a part away in a node's namespace and returns the way back. */
type Change = (on: (command: string[], input?: string) => string) => () => void;

const chain: Change = (on) => {
  const text = on(['nft', '-s', 'list', ...WAYS]);
  on(['nft', 'flush', ...WAYS]);
  return () => on(['nft', '-f', '-'], text);
};
const sourceCheck: Change = (on) => {
  const set = (filter: number, local: number) =>
    on([
      'sysctl',
      '-qw',
      `net.ipv4.conf.eth0.rp_filter=${filter}`,
      `net.ipv4.conf.eth0.accept_local=${local}`,
    ]);
  set(0, 1);
  return () => set(2, 0);
};
const demux: Change = (on) => {
  on(['sysctl', '-qw', 'net.ipv4.ip_early_demux=1']);
  return () => on(['sysctl', '-qw', 'net.ipv4.ip_early_demux=0']);
};

const variants: [string, Change[]][] = [
  ['as it is', []],
  ['with early demultiplexing', [demux]],
  ['without the prerouting chain', [chain]],
  ["without the ENIs' source check", [sourceCheck]],
  ['without both', [chain, sourceCheck]],
];

export const bench = (): Promise<BenchResult[]> => onGround(compare);

async function compare({ paths, nodes, measure }: Ground): Promise<BenchResult[]> {
  const on = nodes.map(
    (path) => (command: string[], input?: string) =>
      run('nsenter', [`--net=${path}`, ...command], input === undefined ? {} : { input }),
  );
  const stream = (path: Path) => Number(measure(path, 'stream'));
  const names = ['same node', 'two nodes'];
  const ratios = new Map(
    names.flatMap((name) => variants.map(([what]) => [`${name}, ${what}`, [] as number[]])),
  );
  for (let i = 0; i < ROUNDS; i++) {
    for (const name of names) {
      const of = (who: string) => paths.find((path) => path.name === name && path.who === who)!;
      const before = stream(of('by hand'));
      const bits = new Map<string, number>();
      for (const [what, changes] of i % 2 === 0 ? variants : [...variants].reverse()) {
        const back = on.flatMap((node) => changes.map((change) => change(node)));
        bits.set(what, stream(of('podway')));
        for (const each of back) each();
      }
      const byHand = (before + stream(of('by hand'))) / 2;
      for (const [what, value] of bits) ratios.get(`${name}, ${what}`)!.push(value / byHand);
    }
  }
  const ratio = (name: string, what: string) => round(summarise(ratios.get(`${name}, ${what}`)!).p50, 3);
  return [
    {
      title: `bounds: a pod's stream as a ratio of the one by hand, medians of ${ROUNDS} interleaved rounds, with parts of the datapath taken away on both nodes`,
      head: ['the datapath', ...names],
      rows: variants.map(([what]) => [what, ...names.map((name) => ratio(name, what))]),
      numbers: Object.fromEntries([...ratios].map(([key, values]) => [key, summarise(values).p50])),
    },
  ];
}
