// podway policy: what NetworkPolicies say of a connection, and what stands in them. Reads the Kubernetes API of a lab or a
// cluster; the answer is computed as the nodes' agents compute theirs.
import type { Command } from 'commander';
import type { StageCount } from '../../agent/policy-keeper.ts';
import { formatIp } from '../../base/ip.ts';
import type { PolicyMode } from '../../base/policy-words.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Trace } from '../../policy/explain.ts';
import type { LintRow } from '../../policy/lint.ts';
import type { Direction, PodView } from '../../policy/model.ts';
import type { NamedEnd } from '../../policy/question.ts';
import type { ReadWorld } from '../../policy/world.ts';
import { openPlace, type PlaceOptions, withPlace } from '../cluster/place.ts';
import { agentViews, openWorld } from '../cluster/policies.ts';
import { act, command } from '../command.ts';
import { usageError } from '../errors.ts';
import { bold, dim, green, print, printJson, red, table, yellow } from '../output.ts';
import { type Way, type WayEnd, waysOf, wayText } from '../trace-ways.ts';
import { applyCommand, diffCommand } from './policy-apply.ts';
import { showCommand, waitCommand } from './policy-force.ts';

export function policyCommand(): Command {
  const made = command('policy', 'who may talk to whom, and why', [
    'podway policy list',
    'podway policy trace web db:5432',
  ]);
  for (const each of [
    ...[applyCommand(), diffCommand(), listCommand(), showCommand()],
    ...[traceCommand(), waitCommand(), lintCommand()],
  ])
    made.addCommand(each);
  return made;
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
        if (rows.length === 0)
          return print(
            options.namespace === undefined
              ? 'no policies: every pod reaches every other'
              : `no policies of namespace ${options.namespace}`,
          );
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
    .argument('<to>', 'the same, with :PORT and /tcp, /udp or /sctp; without a port ICMP')
    .option('-n, --namespace <namespace>', 'of pods without one', 'default')
    .action(
      act(async (from: string, to: string, options: PlaceOptions & { namespace: string }) => {
        const { parseEnd, parseTarget, podOfEnd, QuestionError, traceIn } = await import(
          '../../policy/question.ts'
        );
        const told = await answer(
          () => ({ from: parseEnd(from, options.namespace), to: parseTarget(to, options.namespace) }),
          async (question) => {
            const world = await openWorld(options);
            const ends = {
              egress: podOfEnd(question.from, world),
              ingress: podOfEnd(question.to.end, world),
            };
            const counted = await countsOf(options, ends);
            const modes = Object.fromEntries(counted.map(({ direction, mode }) => [direction, mode]));
            const told = traceIn(world, question.from, question.to, modes);
            const ways = await waysBetween(options, question, ends, world);
            return { ...told, ways, kernel: counted.filter(({ chain }) => chain !== null) };
          },
          QuestionError,
        );
        if (options.output === 'json') printJson(told);
        else print(traceText(from, to, told));
      }),
    );
}

type Counted = {
  direction: Direction;
  node: string;
  mode: PolicyMode;
  /** Of the pod's class, which pods with the same policies share; null: nothing judges it. */
  chain: string | null;
  stages: StageCount[];
};

/** What the kernels of the ends' nodes counted. Left out where an agent cannot be asked. */
async function countsOf(
  options: PlaceOptions,
  ends: Record<Direction, PodView | undefined>,
): Promise<Counted[]> {
  const asked = (['egress', 'ingress'] as const).map(async (direction): Promise<Counted[]> => {
    const pod = ends[direction];
    if (!pod?.node) return [];
    try {
      const { views } = await agentViews(options, { pod: `${pod.namespace}/${pod.name}`, node: pod.node });
      return views.flatMap(({ node, view }): Counted[] => {
        if (view?.pod?.node !== node) return [];
        const { counts, ...own } = view.pod;
        const chain = own[direction]?.name ?? null;
        return [{ direction, node, mode: view.mode, chain, stages: counts[direction] }];
      });
    } catch (error) {
      if (error instanceof LabError) return [];
      throw error;
    }
  });
  return (await Promise.all(asked)).flat();
}

/** Left out where an agent cannot be asked. */
async function waysBetween(
  options: PlaceOptions,
  { from, to }: { from: NamedEnd; to: { end: NamedEnd } },
  pods: Record<Direction, PodView | undefined>,
  world: ReadWorld,
): Promise<Way[]> {
  const endOf = (end: NamedEnd, pod: PodView | undefined): WayEnd => {
    if (end.kind === 'node') return { node: end.name, ips: world.nodes.get(end.name)?.map(formatIp) ?? [] };
    if (pod) return { node: pod.node, pod: `${pod.namespace}/${pod.name}`, ips: pod.ips.map(formatIp) };
    if (end.kind === 'address') return { ips: [formatIp(end.ip)] };
    // Of the host's network: its node.
    const host = world.pods.find(({ namespace, name }) => namespace === end.namespace && name === end.name);
    return host ? { node: host.node, ips: host.ips.map(formatIp) } : {};
  };
  const ends = [endOf(from, pods.egress), endOf(to.end, pods.ingress)] as const;
  const names = new Set(ends.flatMap(({ node, pod }) => (node && pod !== undefined ? node : [])));
  const place = await openPlace(options);
  try {
    const shown = await Promise.all([...names].map((name) => place.ipam(name).catch(() => ({ values: [] }))));
    return waysOf(
      shown.flatMap(({ values }) => values),
      ...ends,
    );
  } finally {
    place.close();
  }
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
  told: Trace & { notes: string[]; kernel: Counted[]; ways: Way[] },
): string {
  const { verdict, egress, ingress, nearMisses, notes, kernel, ways } = told;
  const shown = (one: 'allow' | 'deny') => (one === 'allow' ? green('allow') : red('deny'));
  const row = (name: string, side: Trace['egress']) =>
    `  ${dim(name.padEnd(8))} ${shown(side.verdict)}  ${side.because}`;
  return [
    `${bold(`${from} to ${to}`)}: ${shown(verdict)}`,
    row('egress', egress),
    row('ingress', ingress),
    ...(verdict === 'allow' ? alsoAllowing({ egress, ingress }) : []),
    ...nearMisses.map(
      ({ object, rule, because }) => `  ${dim('near'.padEnd(8))} rule ${rule} of ${object} ${because}`,
    ),
    ...ways.map((one) => `  ${dim('way'.padEnd(8))} ${wayText(one)}`),
    ...kernel.map(({ direction, node, chain, stages }) => {
      const texts = stages.map(
        ({ tier, asked, undecided }) => `${tier} was asked of ${asked} packets, no rule decided ${undecided}`,
      );
      return `  ${dim('kernel'.padEnd(8))} ${node}, ${direction}, pods of chain ${chain}: ${texts.join('; ')}`;
    }),
    ...notes.map((text) => `  ${dim('note'.padEnd(8))} ${text}`),
  ].join('\n');
}

/** Rules beside the one that decided. */
const alsoAllowing = (sides: Record<Direction, Trace['egress']>): string[] =>
  (['egress', 'ingress'] as const).flatMap((direction) => {
    const { verdict, object, rule, allowedBy } = sides[direction];
    if (verdict !== 'allow' || object === null) return [];
    return allowedBy
      .filter((one) => one.object !== object || one.rule !== rule)
      .map((one) => `  ${dim('also'.padEnd(8))} rule ${one.rule} of ${one.object} allows it, ${direction}`);
  });

function lintCommand(): Command {
  return withPlace(
    command('lint', 'what in the policies hardly does what was meant', [
      'podway policy lint',
      'podway policy lint -o json',
    ]),
  ).action(
    act(async (options: PlaceOptions) => {
      const world = await openWorld(options, true);
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
