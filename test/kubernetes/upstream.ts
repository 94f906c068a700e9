// Runs groups of Kubernetes' own end-to-end tests against a lab. A group's result is kept under build/kubernetes with the
// commit it was made at, so that a run that was cut off goes on with the groups that are missing.
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { executeOk, ROOT } from '../e2e/command.ts';
import { type Case, parseJunit } from './junit.ts';
import type { Group } from './selection.ts';

export type GroupResult = {
  group: string;
  version: string;
  commit: string;
  nodes: number;
  /** ISO 8601, UTC. */
  date: string;
  seconds: number;
  command: string;
  cases: Case[];
  /** Tests that were asked for and of which the report says nothing: the bound came first. */
  missing: string[];
};

export type Suite = { e2e: string; kubectl: string; version: string; commit: string };

const LIST_BOUND_MS = 60_000;
/** A test that hangs ends its group, not the run. */
const TEST_BOUND_S = 240;
const GROUP_MARGIN_S = 300;

const resultFile = (version: string, group: string): string =>
  join(ROOT, 'build', 'kubernetes', version, `${group}.json`);

export function keptResult(version: string, group: string): GroupResult | undefined {
  const file = resultFile(version, group);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as GroupResult) : undefined;
}

export function keepResult(result: GroupResult): void {
  const file = resultFile(result.version, result.group);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(`${file}.part`, `${JSON.stringify(result, null, 2)}\n`);
  renameSync(`${file}.part`, file);
}

/** `kept` with what ran anew, each with its commit; of the tests that are chosen now. */
export function joined(kept: GroupResult, ran: GroupResult, tests: string[]): GroupResult {
  const anew = new Map(ran.cases.map((each) => [each.name, { ...each, commit: ran.commit }]));
  const names = new Set([...kept.cases, ...ran.cases].map(({ name }) => name));
  const old = new Map(kept.cases.map((each) => [each.name, each]));
  const cases = tests.filter((name) => names.has(name)).map((name) => anew.get(name) ?? old.get(name)!);
  return {
    ...kept,
    cases,
    seconds: kept.seconds + ran.seconds,
    missing: tests.filter((name) => !names.has(name)),
  };
}

/** Full names of all tests in the binary. */
export async function listTests(e2e: string): Promise<string[]> {
  const text = await executeOk([e2e, '--list-tests'], {}, LIST_BOUND_MS);
  return [...text.matchAll(/^\s+\S+\.go:\d+: (.+)$/gm)].map((match) => match[1]!);
}

/** Runs `tests` one after the other in one process. */
export async function runGroup(
  group: Group,
  tests: string[],
  { e2e, kubectl, version, commit }: Suite,
  { kubeconfig, nodes, log }: { kubeconfig: string; nodes: number; log: string },
): Promise<GroupResult> {
  const reports = join(ROOT, 'build', 'kubernetes', version, `${group.name}.reports`);
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports, { recursive: true });
  const bound = TEST_BOUND_S * tests.length + GROUP_MARGIN_S;
  const args = [
    '--provider=skeleton',
    `--kubeconfig=${kubeconfig}`,
    `--kubectl-path=${kubectl}`,
    `--num-nodes=${nodes}`,
    `--report-dir=${reports}`,
    '--disable-log-dump',
    '--dump-logs-on-failure=false',
    '--ginkgo.no-color',
    `--ginkgo.timeout=${bound}s`,
    `--ginkgo.poll-progress-after=${TEST_BOUND_S}s`,
    // Ginkgo puts the suite's name before a test's.
    `--ginkgo.focus= (${tests.map(exactly).join('|')})$`,
  ];
  const started = performance.now();
  await runLogged([e2e, ...args], log, (bound + GROUP_MARGIN_S) * 1000);
  const report = join(reports, 'junit_01.xml');
  const cases = existsSync(report) ? parseJunit(readFileSync(report, 'utf8')) : [];
  const told = new Set(cases.map((each) => each.name));
  return {
    group: group.name,
    version,
    commit,
    nodes,
    date: new Date().toISOString(),
    seconds: Math.round((performance.now() - started) / 1000),
    command: commandFor(group.name),
    cases,
    missing: tests.filter((test) => !told.has(test)),
  };
}

/** Its exit code says no more than the report. */
function runLogged(command: string[], log: string, boundMs: number): Promise<void> {
  const out = openSync(log, 'w');
  return new Promise<void>((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', out, out], timeout: boundMs });
    child.once('error', reject);
    child.once('close', () => resolve());
  }).finally(() => closeSync(out));
}

export const commandFor = (group: string): string => `npm run test:kubernetes -- --only ${group}`;

const exactly = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
