// Runs the checks of `npm test`: types, lint, layers, then the tests by node:test, each stage with its time. Lab tests
// run several files side by side, for they wait more than they compute; storms and real Kubernetes after them. Tests
// that need root (x.root.test.ts and test/) are listed as skipped without it. Fails when a stage fails, and when no
// test ran. A test of a whole lab that fails is shown whole, and run once more: one that passes then is told as flaky.
import { spawn, spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import type { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type FileRun, longestFirst, type RunOptions, runAgain, runFiles } from './test-files.ts';

const root = join(import.meta.dirname, '..');
const named = process.argv.slice(2);
/** Files at once. A lab's test waits for more than half of its time; a storm keeps a processor busy. */
const cores = availableParallelism();
const UNITS_AT_ONCE = cores;
const LABS_AT_ONCE = Math.min(2 * cores, 8);
const STORMS_AT_ONCE = Math.min(cores, 2);
/** What takes more than half a minute of two processors, the longest first. */
const LONGEST = [
  'src/lab/vpc/invariants.test.ts',
  'src/cli/main.test.ts',
  'test/e2e/addressing.test.ts',
  'test/e2e/causes.test.ts',
  'test/e2e/names.test.ts',
  'test/e2e/away.test.ts',
  'test/e2e/full-subnets.test.ts',
  'test/e2e/cli.test.ts',
  'test/soak/damage.test.ts',
];
const isRoot = process.getuid?.() === 0;

function stage(name: string, command: string, args: string[]): boolean {
  const started = performance.now();
  console.log(`== ${name}`);
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`== ${name}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)`);
  return status === 0;
}

const node = process.execPath;
const sweeper = join(root, 'tools/sweep.ts');
if (isRoot) {
  spawnSync(node, [sweeper], { stdio: 'inherit' });
  // Runs in its own session, so that a signal that ends this run does not end it.
  const atEnd = spawn(node, [sweeper, '--at-end'], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  atEnd.unref();
  (atEnd.stdin as Socket).unref();
}
const counts = { passed: 0, failed: 0, skipped: 0 };
const flaky: string[] = [];
let ok = true;
// A run repeats unless it is given another seed; new ones are tried by `npm run test:soak` and by PODWAY_SEED=random.
const seed = process.env['PODWAY_SEED'] ?? '1';
// Each file is a process, which would compile the two clients' libraries again.
process.env['NODE_COMPILE_CACHE'] ??= join(root, 'build/compiled');
process.env['PODWAY_SEED'] = seed === 'random' ? `${Date.now() % 1_000_000}` : seed;

/** Runs the files; the counts of those that failed and run again are those of the second time. */
async function tests(name: string, files: string[], atOnce: number, flags: string[] = []): Promise<boolean> {
  const started = performance.now();
  console.log(`== ${name}`);
  const options = {
    root,
    full: named.length > 0,
    flags: [`--import=${join(root, 'tools/seed.ts')}`, ...flags],
  };
  const runs = await runFiles(files, { ...options, atOnce });
  show(runs);
  const again = named.length > 0 ? [] : runAgain(runs);
  const second = again.length > 0 ? await secondTime(again, options) : [];
  const last = [...runs.filter(({ file }) => !again.includes(file)), ...second];
  for (const run of last) for (const key of ['passed', 'failed', 'skipped'] as const) counts[key] += run[key];
  flaky.push(...second.filter(({ ok }) => ok).map(({ file }) => file));
  const longest = runs.sort((a, b) => b.seconds - a.seconds).slice(0, 10);
  for (const one of longest) console.log(`${one.seconds.toFixed(1).padStart(7)} s  ${one.file}`);
  const passed = last.every(({ ok }) => ok);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`== ${name}: ${passed ? 'ok' : 'FAILED'} (${seconds} s)`);
  return passed;
}

async function secondTime(files: string[], options: Omit<RunOptions, 'atOnce'>): Promise<FileRun[]> {
  console.log(`== again, alone: ${files.join(', ')}`);
  const runs = await runFiles(files, { ...options, atOnce: 1 });
  show(runs);
  for (const { file, ok } of runs)
    console.log(ok ? `FLAKY: ${file} failed, and passed the second time` : `FAILED TWICE: ${file}`);
  return runs;
}

/** All that files that failed wrote. */
function show(runs: readonly FileRun[]): void {
  for (const { file, ok, wrote } of runs) if (!ok && wrote !== '') console.log(`-- ${file} wrote:\n${wrote}`);
}

/** True for a storm, and for what runs kubelets: they disturb others more than a lab does. */
const isStorm = (file: string): boolean => /^test\/(soak|kubernetes)\//.test(file);

console.log(`PODWAY_SEED=${process.env['PODWAY_SEED']}`);
if (named.length > 0) {
  const isFlag = (text: string) => text.startsWith('-');
  const files = globSync(
    named.filter((text) => !isFlag(text)),
    { cwd: root },
  ).sort();
  ok = await tests('tests', files, 1, named.filter(isFlag));
} else {
  ok = stage('types', node, ['node_modules/typescript/bin/tsc', '--noEmit']) && ok;
  ok =
    stage('lint', node, [
      'node_modules/@biomejs/biome/bin/biome',
      'check',
      '--diagnostic-level=error',
      '.',
    ]) && ok;
  ok = stage('layers', node, ['tools/layers.ts']) && ok;
  const all = globSync('{src,tools}/**/*.test.ts', { cwd: root }).sort();
  const unit = all.filter((file) => !file.endsWith('.root.test.ts'));
  const rooted = [
    ...all.filter((file) => file.endsWith('.root.test.ts')),
    ...globSync('test/**/*.test.ts', { cwd: root }).sort(),
  ];
  ok = (await tests(`unit tests (${unit.length} files)`, longestFirst(unit, LONGEST), UNITS_AT_ONCE)) && ok;
  if (isRoot) {
    const beside = rooted.filter((file) => !isStorm(file));
    const alone = rooted.filter(isStorm);
    const labs = longestFirst(beside, LONGEST);
    ok = (await tests(`lab tests (${beside.length} files)`, labs, LABS_AT_ONCE)) && ok;
    ok = (await tests(`storms (${alone.length} files)`, longestFirst(alone, LONGEST), STORMS_AT_ONCE)) && ok;
  } else {
    for (const file of rooted) console.log(`skipped: ${file} (needs root for network namespaces)`);
  }
}
if (counts.passed + counts.failed === 0) {
  console.error('podway: NO_TESTS: no test ran, so nothing was shown');
  ok = false;
}
for (const file of flaky)
  console.log(`FLAKY: ${file} failed once: its first failure is above, and is a finding`);
console.log(
  `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped${flaky.length > 0 ? `, ${flaky.length} flaky` : ''}`,
);
process.exitCode = ok ? 0 : 1;
