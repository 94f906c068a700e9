// podway policy: what NetworkPolicies say of a connection, and what stands in them. Reads the Kubernetes API of a lab or a
// cluster; the answer is computed as the nodes' agents compute theirs.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { PolicyView } from '../../agent/policy-keeper.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Trace } from '../../policy/explain.ts';
import type { LintRow } from '../../policy/lint.ts';
import { type PlaceOptions, placeKind, withLivePlace, withPlace } from '../cluster/place.ts';
import { act, command, wholeNumber } from '../command.ts';
import { usageError } from '../errors.ts';
import { readLab } from '../labs.ts';
import { bold, dim, green, print, printJson, red, table, yellow } from '../output.ts';
import { Dump } from '../sysdump/dump.ts';

export function policyCommand(): Command {
  const made = command('policy', 'who may talk to whom, and why', [
    'podway policy list',
    'podway policy trace web db:5432',
  ]);
  for (const each of [listCommand(), showCommand(), traceCommand(), waitCommand(), lintCommand()])
    made.addCommand(each);
  return made;
}

/** The API of the lab or the cluster that the options name. */
async function openWorld(options: PlaceOptions) {
  const { openApi } = await import('../cluster/api.ts');
  const { readWorld } = await import('../../policy/world.ts');
  const api = await openApi(options);
  try {
    return await readWorld(api);
  } finally {
    api.close();
  }
}

function listCommand(): Command {
  return withPlace(
    command('list', 'the policies, the pods that they select, and what was refused of them', [
      'podway policy list',
      'podway policy list -n shop -o json',
    ]),
  )
    .option('-n, --namespace <namespace>', 'only of this namespace')
    .action(
      act(async (options: PlaceOptions & { namespace?: string }) => {
        const world = await openWorld(options);
        const { listPolicies } = await import('../../policy/list.ts');
        const rows = listPolicies(world).filter(
          ({ namespace }) => options.namespace === undefined || namespace === options.namespace,
        );
        if (options.output === 'json') return printJson(rows);
        if (rows.length === 0) return print('no policies: every pod reaches every other');
        print(
          table(
            ['NAMESPACE', 'NAME', 'TIER', 'DIRECTIONS', 'PODS', 'RULES', 'REFUSED'],
            rows.map((row) => [
              row.namespace ?? '-',
              row.name,
              [row.tier ?? '-', row.priority ?? ''].join(' ').trim(),
              row.directions.join(',') || '-',
              `${row.pods}`,
              `${row.rules}`,
              row.problems.length === 0
                ? ''
                : yellow(`${row.problems[0]!.field} ${row.problems[0]!.because}`),
            ]),
          ),
        );
      }),
    );
}

function traceCommand(): Command {
  return withPlace(
    command('trace', 'the verdict on a connection, the rules that decide, and those that nearly match', [
      'podway policy trace web db:5432',
      'podway policy trace shop/web 203.0.113.10:443',
      'podway policy trace node/node-1 dns:53/udp -o json',
    ]),
  )
    .argument('<from>', '[NAMESPACE/]POD, an address, or node/NAME')
    .argument('<to>', 'the same, with :PORT and /tcp, /udp or /sctp')
    .option('-n, --namespace <namespace>', 'of pods without one', 'default')
    .action(
      act(async (from: string, to: string, options: PlaceOptions & { namespace: string }) => {
        const { parseEnd, parseTarget, QuestionError, traceIn } = await import('../../policy/question.ts');
        const told = await answer(
          () => ({ from: parseEnd(from, options.namespace), to: parseTarget(to, options.namespace) }),
          async (question) => traceIn(await openWorld(options), question.from, question.to),
          QuestionError,
        );
        if (options.output === 'json') printJson(told);
        else print(traceText(from, to, told));
      }),
    );
}

/** A question that cannot be read is wrong usage; one whose ends are not there has failed. */
async function answer<Q, A>(
  read: () => Q,
  find: (question: Q) => Promise<A>,
  kind: new () => Error,
): Promise<A> {
  let question: Q;
  try {
    question = read();
  } catch (error) {
    if (error instanceof kind) throw usageError(error.message, 'podway policy trace --help');
    throw error;
  }
  try {
    return await find(question);
  } catch (error) {
    if (error instanceof kind)
      throw new LabError('NO_SUCH_END', error.message, 'podway pod list shows pods with their addresses');
    throw error;
  }
}

function traceText(
  from: string,
  to: string,
  { verdict, egress, ingress, nearMisses, notes }: Trace & { notes: string[] },
): string {
  const shown = (one: 'allow' | 'deny') => (one === 'allow' ? green('allow') : red('deny'));
  const row = (name: string, side: Trace['egress']) =>
    `  ${dim(name.padEnd(8))} ${shown(side.verdict)}  ${side.because}`;
  return [
    `${bold(`${from} to ${to}`)}: ${shown(verdict)}`,
    row('egress', egress),
    row('ingress', ingress),
    ...nearMisses.map(
      ({ object, rule, because }) => `  ${dim('near'.padEnd(8))} rule ${rule} of ${object} ${because}`,
    ),
    ...notes.map((text) => `  ${dim('note'.padEnd(8))} ${text}`),
  ].join('\n');
}

function lintCommand(): Command {
  return withPlace(
    command('lint', 'what in the policies hardly does what was meant', [
      'podway policy lint',
      'podway policy lint -o json',
    ]),
  ).action(
    act(async (options: PlaceOptions) => {
      const world = await openWorld(options);
      const { lint } = await import('../../policy/lint.ts');
      const rows: LintRow[] = lint(world);
      if (options.output === 'json') printJson(rows);
      else if (rows.length === 0) print('nothing to say');
      else
        print(
          table(
            ['POLICY', 'KIND', 'SAYS'],
            rows.map(({ object, kind, text }) => [object, yellow(kind), text]),
          ),
        );
      return rows.length === 0 ? 0 : 1;
    }),
  );
}

/** What each agent of a lab has in force, or that of this node; null where it has seen no policy. */
async function agentViews(
  options: PlaceOptions,
  pod?: string,
): Promise<{ node: string; view: PolicyView | null }[]> {
  const path = pod === undefined ? '/v1/policy' : `/v1/policy?pod=${encodeURIComponent(pod)}`;
  const kind = placeKind(options);
  if (kind === 'local') {
    const dump = options.from === undefined ? undefined : Dump.open(options.from);
    const view = dump
      ? await dump.agent<PolicyView | null>(dump.place.name, path)
      : await (await import('../cluster/local.ts')).askLocal<PolicyView | null>(path);
    return [{ node: view?.node ?? 'this node', view }];
  }
  if (kind === 'cluster')
    throw usageError(
      'the agents of a cluster are asked one by one',
      'kubectl exec into the agent: podway policy show --local',
    );
  const lab = await readLab(options);
  const { nodes } = await lab.call<{ nodes: { name: string }[] }>('GET', '/v1/status');
  return Promise.all(
    nodes.map(async ({ name }) => ({
      node: name,
      view: await lab.agent<PolicyView | null>(name, path),
    })),
  );
}

function showCommand(): Command {
  return withPlace(
    command('show', 'what is in force on each node, or for a pod, with the generation and since when', [
      'podway policy show',
      'podway policy show shop/web',
      'podway policy show --local -o json',
    ]),
  )
    .argument('[pod]', '[NAMESPACE/]POD')
    .option('-n, --namespace <namespace>', 'of a pod without one', 'default')
    .action(
      act(async (pod: string | undefined, options: PlaceOptions & { namespace: string }) => {
        const key = pod === undefined || pod.includes('/') ? pod : `${options.namespace}/${pod}`;
        const views = await agentViews(options, key);
        const shown = key === undefined ? views : views.filter(({ view }) => view?.pod?.node === view?.node);
        if (options.output === 'json')
          return printJson(shown.map(({ node, view }) => view ?? { node, policies: 0 }));
        if (key !== undefined && shown.length === 0)
          throw new LabError('NO_SUCH_POD', `no node has policies for a pod ${key}`, 'podway pod list');
        print(shown.map(({ node, view }) => viewText(node, view)).join('\n'));
      }),
    );
}

function viewText(node: string, view: PolicyView | null): string {
  if (!view) return `${bold(node)} has seen no policy`;
  const lines = [
    `${bold(node)} generation ${view.generation} since ${new Date(view.since).toISOString()}: ${view.policies} policies, ${view.classes} classes, ${view.identities} identities${view.isSettled ? '' : yellow(', changing')}${view.broken === null ? '' : red(`, ${view.broken}`)}`,
  ];
  if (!view.pod) return lines.join('\n');
  lines.push(`  ${view.pod.key} ${view.pod.ips.join(' ')}`);
  for (const direction of ['egress', 'ingress'] as const) {
    const one = view.pod[direction];
    if (!one) lines.push(`  ${dim(direction.padEnd(8))} not isolated`);
    for (const { tier, objects, rules } of one?.stages ?? [])
      lines.push(
        `  ${dim(direction.padEnd(8))} ${tier}: ${objects.join(', ')} (${rules.length} rules, chain ${one!.name})`,
      );
  }
  return lines.join('\n');
}

const WAIT_LOOK_MS = 100;

function waitCommand(): Command {
  return withLivePlace(
    command('wait', 'until the policies that the API has now are in force on all nodes', [
      'podway policy wait',
      'podway policy wait --timeout 10',
    ]),
  )
    .option('--timeout <seconds>', 'give up after this', wholeNumber('--timeout', 1, 3600), 30)
    .action(
      act(async (options: PlaceOptions & { timeout: number }) => {
        const { decoded } = await openWorld(options);
        const wanted = decoded.map(({ namespace, name, source }) => ({
          key: namespace === null ? name : `${namespace}/${name}`,
          version: source.metadata.resourceVersion ?? '',
        }));
        // A later version of an object is as good: it came after this one.
        const isSeen = (view: PolicyView, { key, version }: (typeof wanted)[number]) =>
          Number(view.objects[key] ?? -1) >= Number(version);
        const isThere = (view: PolicyView | null) =>
          view ? view.isSettled && wanted.every((one) => isSeen(view, one)) : wanted.length === 0;
        const end = performance.now() + options.timeout * 1000;
        for (;;) {
          const views = await agentViews(options);
          const late = views.filter(({ view }) => !isThere(view)).map(({ node }) => node);
          if (late.length === 0) {
            if (options.output === 'json')
              printJson(views.map(({ node, view }) => ({ node, generation: view?.generation ?? 0 })));
            else print(`${wanted.length} policies are in force on ${views.length} nodes`);
            return;
          }
          if (performance.now() > end)
            throw new LabError(
              'POLICY_NOT_IN_FORCE',
              `after ${options.timeout} s the policies are not in force on ${late.join(', ')}`,
              'podway policy show',
            );
          await sleep(WAIT_LOOK_MS);
        }
      }),
    );
}
