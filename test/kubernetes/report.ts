// docs/conformance.md from the results that are kept: what ran, what passed, what failed, what was not run and why.
import type { Case } from './junit.ts';
import { type Choice, explained, type Group, groups } from './selection.ts';
import type { GroupResult } from './upstream.ts';

export type ReportInput = {
  version: string;
  results: GroupResult[];
  scenarios?: GroupResult;
  /** Our cases of network policy. */
  policies?: GroupResult;
  choice: Choice;
};

const count = (cases: Case[], state: Case['state']): number =>
  cases.filter((each) => each.state === state).length;

export function conformanceText({ version, results, scenarios, policies, choice }: ReportInput): string {
  const of = (group: Group) => results.find((result) => result.group === group.name);
  const parts = [
    '# Conformance',
    '<!-- Made by `npm run test:kubernetes` from what it ran. -->',
    [
      `Kubernetes ${version}, built by \`podway lab kubernetes install\`, in a lab of nodes in as many zones (\`podway lab up --kubernetes\`): etcd,`,
      'kube-apiserver with RBAC and the Node authoriser, controller manager, scheduler; per node containerd, kubelet and kube-proxy;',
      'the agents are pods of the Helm chart, from the image that `npm run image` builds.',
      "The tests are Kubernetes' own (`test/e2e`), unchanged; images are built on the machine, under the names that the tests expect.",
    ].join('\n'),
    'To run all, or one group: `npm run test:kubernetes`, `npm run test:kubernetes -- --only dns`. It goes on where it was cut off.',
    ...(scenarios ? ['## Our scenarios', table([['Our scenarios', scenarios]]), list(scenarios)] : []),
    ...(policies ? ['## Our policy cases', table([['Our policy cases', policies]]), list(policies)] : []),
    "## Kubernetes' tests",
    table(groups.flatMap((group) => (of(group) ? [[group.title, of(group)!] as const] : []))),
    ...notRun(groups.filter((group) => !of(group))),
    ...problems([scenarios, policies, ...results].flatMap((one) => one ?? [])),
    ...(choice.skipped.size > 0
      ? ['## Tests of the network that are not run', skippedTable(choice), ...unlisted(choice)]
      : []),
    ...(results.length > 0 ? ["## Every test of Kubernetes' that ran"] : []),
    ...results.map((result) =>
      [
        `### ${groups.find((group) => group.name === result.group)?.title ?? result.group}`,
        '',
        list(result),
      ].join('\n'),
    ),
  ];
  return `${parts.join('\n\n')}\n`;
}

function table(rows: (readonly [string, GroupResult])[]): string {
  const lines = rows.map(
    ([title, { cases, missing, nodes, commit, date, seconds, command }]) =>
      `| ${title} | ${count(cases, 'passed')} | ${count(cases, 'failed')} | ${count(cases, 'skipped')} | ${missing.length} | ${nodes} | ${commit} | ${date.slice(0, 16)}Z | ${seconds} s | \`${command}\` |`,
  );
  return [
    '| Group | Passed | Failed | Skipped itself | Not reached | Nodes | Commit | Date | Took | Command |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

const notRun = (left: Group[]): string[] =>
  left.length === 0
    ? []
    : [`Not run yet: ${left.map((group) => `${group.title} (${group.name})`).join(', ')}.`];

function problems(results: GroupResult[]): string[] {
  const failed = results.flatMap(({ cases }) => cases.filter((each) => each.state !== 'passed'));
  const missing = results.flatMap((result) => result.missing);
  if (failed.length + missing.length === 0) return [];
  return [
    '## Failed, skipped by the test itself, or not reached',
    [
      ...failed.map(
        (each) => `- ${each.state}: \`${each.name}\`: ${each.message ?? 'no message'}${because(each.name)}`,
      ),
      ...missing.map((name) => `- not reached: \`${name}\``),
    ].join('\n'),
  ];
}

const because = (name: string): string => {
  const why = explained.find(({ pattern }) => pattern.test(name))?.why;
  return why === undefined ? '' : `. Why: ${why}.`;
};

function skippedTable({ skipped }: Choice): string {
  const rows = [...skipped].flatMap(([reason, tests]) =>
    reason ? [`| ${reason.name} | ${tests.length} | ${reason.why} |`] : [],
  );
  return ['| What | Tests | Why |', '| --- | --- | --- |', ...rows.sort()].join('\n');
}

function unlisted({ skipped }: Choice): string[] {
  const rest = skipped.get(undefined);
  if (!rest) return [];
  return [
    ['Not chosen, without a reason of their own:', '', ...rest.map((name) => `- \`${name}\``)].join('\n'),
  ];
}

const list = ({ cases }: GroupResult): string =>
  cases
    .map(
      ({ state, seconds, commit, name }) =>
        `- ${state}, ${Math.round(seconds)} s${commit ? `, at ${commit}` : ''}: \`${name}\``,
    )
    .join('\n');
