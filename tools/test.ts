// Runs the checks of `npm test`: types, lint, layers, then the tests by node:test, each stage with its time.
// Tests run two files side by side; storms, real Kubernetes and what compares the whole machine run alone. Tests that
// need root (x.root.test.ts and test/) are listed as skipped without it. Fails when a stage fails, and when no test ran.
import { spawn, spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Totals } from './totals.ts';

const root = join(import.meta.dirname, '..');
const named = process.argv.slice(2);
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
const counts = { pass: 0, fail: 0, skipped: 0 };
let ok = true;
// A run repeats unless it is given another seed; new ones are tried by `npm run test:soak` and by PODWAY_SEED=random.
const seed = process.env['PODWAY_SEED'] ?? '1';
process.env['PODWAY_SEED'] = seed === 'random' ? `${Date.now() % 1_000_000}` : seed;

/** One run of node:test; its totals are added to `counts`. */
function tests(name: string, args: string[]): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'podway-test-'));
  const file = join(folder, 'totals.json');
  const passed = stage(name, node, [
    '--test',
    `--import=${join(root, 'tools/seed.ts')}`,
    '--test-timeout=300000',
    `--test-reporter=${named.length > 0 ? 'spec' : 'dot'}`,
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(root, 'tools/totals.ts')}`,
    `--test-reporter-destination=${file}`,
    ...args,
  ]);
  const text = readFileSync(file, 'utf8');
  rmSync(folder, { recursive: true });
  if (text === '') return false;
  const totals = JSON.parse(text) as Totals;
  for (const key of Object.keys(counts) as (keyof typeof counts)[]) counts[key] += totals[key];
  const longest = totals.files.sort((a, b) => b.seconds - a.seconds).slice(0, 10);
  for (const one of longest) console.log(`${one.seconds.toFixed(1).padStart(7)} s  ${one.file}`);
  return passed;
}

/** True for a storm, for what runs kubelets, and for a file that compares the whole machine before and after. */
const runsAlone = (file: string): boolean =>
  /^test\/(soak|kubernetes)\//.test(file) || /\/machine\.ts'/.test(readFileSync(join(root, file), 'utf8'));

console.log(`PODWAY_SEED=${process.env['PODWAY_SEED']}`);
if (named.length > 0) {
  ok = tests('tests', named);
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
  ok = tests(`unit tests (${unit.length} files)`, ['--test-concurrency=2', ...unit]) && ok;
  if (isRoot) {
    const beside = rooted.filter((file) => !runsAlone(file));
    const alone = rooted.filter(runsAlone);
    ok = tests(`lab tests (${beside.length} files)`, ['--test-concurrency=2', ...beside]) && ok;
    ok = tests(`lab tests that run alone (${alone.length} files)`, ['--test-concurrency=1', ...alone]) && ok;
  } else {
    for (const file of rooted) console.log(`skipped: ${file} (needs root for network namespaces)`);
  }
}
if (counts.pass + counts.fail === 0) {
  console.error('podway: NO_TESTS: no test ran, so nothing was shown');
  ok = false;
}
console.log(`${counts.pass} passed, ${counts.fail} failed, ${counts.skipped} skipped`);
process.exitCode = ok ? 0 : 1;
