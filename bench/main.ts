// npm run bench [NAME…] [--peer-bin DIR] [-o json]: runs the named benchmarks, or all, and prints a table each, or one JSON
// object. DIR: binaries of the AWS VPC CNI, for attach.
import { execFileSync } from 'node:child_process';
import { release } from 'node:os';
import { root } from './run.ts';
import type { BenchOptions, BenchResult } from './stats.ts';

const benches: Record<string, () => Promise<{ bench: (options: BenchOptions) => Promise<BenchResult[]> }>> = {
  attach: () => import('./attach.ts'),
  traffic: () => import('./traffic.ts'),
  'traffic-families': () => import('./traffic-families.ts'),
  'memory-families': () => import('./memory-families.ts'),
  bounds: () => import('./bounds.ts'),
  agent: () => import('./agent.ts'),
  repair: () => import('./repair.ts'),
  'ec2-calls': () => import('./ec2-calls.ts'),
  'lab-ec2': () => import('./lab-ec2.ts'),
  waste: () => import('./waste.ts'),
  planner: () => import('./planner.ts'),
  burst: () => import('./burst.ts'),
  upgrade: () => import('./upgrade.ts'),
  'upgrade-chart': () => import('./upgrade-chart.ts'),
  density: () => import('./density.ts'),
  scale: () => import('./scale.ts'),
  fleet: () => import('./fleet.ts'),
  'policy-update': () => import('./policy-update.ts'),
  'policy-memory': () => import('./policy-memory.ts'),
  'policy-agent': () => import('./policy-agent.ts'),
  'policy-latency': () => import('./policy-latency.ts'),
  'policy-start': () => import('./policy-start.ts'),
  'branch-first': () => import('./branch-first.ts'),
  'policy-cut': () => import('./policy-cut.ts'),
  'branch-start': () => import('./branch-start.ts'),
  'branch-traffic': () => import('./branch-traffic.ts'),
};

const args = process.argv.slice(2);
const take = (flag: string): string | undefined => {
  const at = args.indexOf(flag);
  return at < 0 ? undefined : args.splice(at, 2)[1];
};
const asJson = take('-o') === 'json';
const peerBin = take('--peer-bin');
const names = args.filter((arg) => !arg.startsWith('-'));
const unknown = names.find((name) => !(name in benches));
if (unknown !== undefined || args.includes('--help')) {
  console.log(`usage: npm run bench -- [${Object.keys(benches).join('|')}]... [--peer-bin DIR] [-o json]`);
  process.exit(unknown === undefined ? 0 : 2);
}
if (process.getuid?.() !== 0) {
  console.error('podway: NOT_ROOT: the benchmarks make network namespaces (run them as root)');
  process.exit(1);
}
const commit = execFileSync('git', ['describe', '--always', '--dirty'], {
  cwd: root,
  encoding: 'utf8',
}).trim();
const context = {
  date: new Date().toISOString().slice(0, 10),
  kernel: release(),
  node: process.version,
  commit,
};
const { table } = await import('./stats.ts');
const all: Record<string, unknown> = { context };
if (!asJson)
  console.log(`${context.date}, Linux ${context.kernel}, Node ${context.node}, commit ${context.commit}`);
for (const name of names.length > 0 ? names : Object.keys(benches)) {
  const results = await (await benches[name]!()).bench(peerBin === undefined ? {} : { peerBin });
  all[name] = results.map((result) => ({ title: result.title, ...result.numbers }));
  if (!asJson)
    for (const result of results) console.log(`\n${result.title}\n\n${table(result.head, result.rows)}`);
}
if (asJson) console.log(JSON.stringify(all, null, 2));
