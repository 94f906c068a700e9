// npm run test:kubernetes: what a lab with a real Kubernetes shows. Builds the programs and the image that are missing,
// brings up the lab, installs the chart, runs our scenarios and the chosen groups of Kubernetes' own tests, takes the lab
// down, and writes docs/conformance.md. Goes on where it was cut off: programs are cached by version, results by version and commit.
// Fails when a test failed, or was asked for and not reached.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { KUBERNETES_VERSION } from '../../src/lab/kubernetes/version.ts';
import { execute, executeOk, PODWAY, ROOT } from '../e2e/command.ts';
import { runScenarios } from '../scenarios/run.ts';
import { scenarios } from '../scenarios/scenarios.ts';
import { ChartLab, missing } from './chart-lab.ts';
import { policyCaseNames, runPolicyCases } from './policy-cases.ts';
import { conformanceText } from './report.ts';
import { choose, type Group, groups } from './selection.ts';
import {
  commandFor,
  type GroupResult,
  joined,
  keepResult,
  keptResult,
  listTests,
  runGroup,
  type Suite,
} from './upstream.ts';

const SCENARIOS = 'scenarios';
const POLICIES = 'policy-cases';
const names = [SCENARIOS, POLICIES, ...groups.map((group) => group.name)];

const USAGE = `npm run test:kubernetes -- [options]
  --only a,b    these groups: ${names.join(', ')}
  --jobs n      groups of Kubernetes' tests at the same time (default 2)
  --again       also those that this commit has results of
  --failed      of the results that there are, only the tests that did not pass; the others stay
  --keep        leave the lab up, and go on with it the next time
  --no-install  build nothing
  --page        write docs/conformance.md from the results that there are, and run nothing`;

const PODS = 20;
/** Pods of the policy cases whose first packet is judged. */
const STARTERS = 500;
/** Hours when nothing is cached and two cores are shared. */
const INSTALL_BOUND_MS = 4 * 3_600_000;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    again: { type: 'boolean', default: false },
    failed: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    'no-install': { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(USAGE);
  process.exit();
}
if (process.getuid?.() !== 0) fail('NOT_ROOT: a lab needs root');

const version = KUBERNETES_VERSION;
const lab = new ChartLab('e2e-kubernetes', 3, { file: join(ROOT, 'test/kubernetes/three-zones.yaml') });
const only = options.only?.split(',');
const unknown = only?.find((name) => !names.includes(name));
if (unknown !== undefined) fail(`there is no group "${unknown}"\n${USAGE}`);

const jobs = Number(options.jobs);
if (!Number.isInteger(jobs) || jobs < 1 || jobs > groups.length)
  fail(`--jobs is "${options.jobs}", not a whole number from 1 to ${groups.length}`);

function fail(why: string): never {
  console.error(`test:kubernetes: ${why}`);
  process.exit(2);
}

const say = (text: string): void => console.log(`test:kubernetes: ${text}`);

async function commitHere(): Promise<string> {
  const commit = (await executeOk(['git', '-C', ROOT, 'rev-parse', '--short', 'HEAD'])).trim();
  const changed = await executeOk(['git', '-C', ROOT, 'status', '--porcelain', '--', 'src', 'cni', 'native']);
  return changed === '' ? commit : `${commit} and changes`;
}

async function install(): Promise<void> {
  if (options['no-install'] || options.page) return;
  say(`programs of ${version}`);
  const ran = await execute([PODWAY, 'lab', 'kubernetes', 'install', '--quiet'], {}, INSTALL_BOUND_MS);
  if (ran.code !== 0) fail(ran.stderr.trim());
  say('the image');
  const built = await execute(['npm', 'run', '--silent', 'image'], {}, INSTALL_BOUND_MS);
  if (built.code !== 0) fail(built.stderr.trim());
}

async function up(): Promise<string> {
  say(`lab ${lab.name}, its agents from the chart`);
  await lab.up();
  const kubeconfig = lab.env['KUBECONFIG']!;
  const known = await lab.kubectl('get', 'daemonsets', '-A', '-o', 'name');
  // A lab that was kept has it.
  if (!known.includes('podway-agent')) await lab.install();
  await lab.nodesReady();
  return kubeconfig;
}

async function down(): Promise<void> {
  if (options.keep) return say(`lab ${lab.name} stays: podway lab down --lab ${lab.name}`);
  await lab.down();
}

function told({ group, cases, missing, seconds }: GroupResult): string {
  const count = (state: string) => cases.filter((each) => each.state === state).length;
  return `${group}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped itself, ${missing.length} not reached (${seconds} s)`;
}

const bad = (result: GroupResult): boolean =>
  result.missing.length > 0 || result.cases.some((each) => each.state === 'failed');

await install();
const { programs } = findBinaries({ version });
const e2e = programs['e2e.test'];
const commit = await commitHere();
const choice = choose(e2e === undefined ? [] : await listTests(e2e));

/** Of a group; with --failed those that its kept result lacks. */
function testsOf(group: Group): string[] {
  const tests = choice.run.get(group) ?? [];
  if (!options.failed) return tests;
  const good = new Set(
    keptResult(version, group.name)?.cases.flatMap(({ name, state }) => (state === 'passed' ? name : [])),
  );
  return tests.filter((test) => !good.has(test));
}
function isLeft(name: string): boolean {
  if (only !== undefined && !only.includes(name)) return false;
  const group = groups.find((each) => each.name === name);
  if (options.failed && name !== POLICIES) return group !== undefined && testsOf(group).length > 0;
  if (options.failed) return keptResult(version, name)?.cases.some(({ state }) => state !== 'passed') ?? true;
  return options.again || keptResult(version, name)?.commit !== commit;
}
const left = options.page ? [] : names.filter(isLeft);

let failed = false;
if (left.length > 0) {
  const lack = missing();
  if (lack) fail(lack);
  const kubeconfig = await up();
  try {
    // Ours look at all that the nodes hold, so nothing else runs meanwhile.
    if (left.includes(SCENARIOS))
      settle(await ours(SCENARIOS, kubeconfig, (input) => runScenarios(input, scenarios(PODS))));
    if (left.includes(POLICIES)) settle(await policyCases(kubeconfig));
    const queue = groups.filter((group) => left.includes(group.name));
    const work = async (): Promise<void> => {
      for (let group = queue.shift(); group; group = queue.shift()) settle(await upstream(group, kubeconfig));
    };
    await Promise.all(Array.from({ length: jobs }, work));
  } finally {
    await down();
  }
} else writePage();
process.exitCode = failed ? 1 : 0;

async function upstream(group: Group, kubeconfig: string): Promise<GroupResult> {
  if (e2e === undefined) fail('e2e.test is not built: podway lab kubernetes install e2e.test');
  const suite: Suite = { e2e, kubectl: programs.kubectl, version, commit };
  const tests = testsOf(group);
  say(`${group.name}: ${tests.length} of Kubernetes' tests`);
  const log = join(ROOT, 'build', 'kubernetes', version, `${group.name}.log`);
  const ran = await runGroup(group, tests, suite, { kubeconfig, nodes: lab.nodes.length, log });
  const kept = options.failed ? keptResult(version, group.name) : undefined;
  return kept ? joined(kept, ran, choice.run.get(group) ?? []) : ran;
}

type Ours = { lab: string; kubectl: string; kubeconfig: string };
async function ours(
  group: string,
  kubeconfig: string,
  run: (input: Ours) => Promise<GroupResult['cases']>,
): Promise<GroupResult> {
  say(`our ${group}`);
  const started = performance.now();
  const cases = await run({ lab: lab.name, kubectl: programs.kubectl, kubeconfig });
  return {
    group,
    version,
    commit,
    nodes: lab.nodes.length,
    date: new Date().toISOString(),
    seconds: Math.round((performance.now() - started) / 1000),
    command: commandFor(group),
    cases,
    missing: [],
  };
}

/** With --failed those that its kept result lacks, beside the others of it. */
async function policyCases(kubeconfig: string): Promise<GroupResult> {
  const kept = options.failed ? keptResult(version, POLICIES) : undefined;
  const good = new Set(kept?.cases.flatMap(({ name, state }) => (state === 'passed' ? name : [])));
  const ran = await ours(POLICIES, kubeconfig, (input) =>
    runPolicyCases(input, STARTERS, (name) => !good.has(name)),
  );
  return kept ? joined(kept, ran, policyCaseNames(STARTERS)) : ran;
}

function settle(result: GroupResult): void {
  keepResult(result);
  failed ||= bad(result);
  say(told(result));
  writePage();
}

/** After every group: a run that is cut off has its page. */
function writePage(): void {
  // A kept result may be older than the reason why a test is not run.
  const left = new Set([...choice.skipped.values()].flat());
  const results = groups.flatMap((group) => {
    const kept = keptResult(version, group.name);
    return kept ? { ...kept, cases: kept.cases.filter(({ name }) => !left.has(name)) } : [];
  });
  const scenarios = keptResult(version, SCENARIOS);
  const policies = keptResult(version, POLICIES);
  const text = conformanceText({
    ...{ version, results, choice },
    ...(scenarios ? { scenarios } : {}),
    ...(policies ? { policies } : {}),
  });
  writeFileSync(join(ROOT, 'docs', 'conformance.md'), text);
}
