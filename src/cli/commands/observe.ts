// podway observe: the connections that policies decided, as the nodes' flow logs tell them, one line for each.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { FlowPage, NumberedFlow } from '../../policy/flow-log.ts';
import type { FlowEnd, FlowEvent } from '../../policy/flows.ts';
import type { Agent } from '../cluster/agents.ts';
import { type PlaceOptions, placeKind, withLivePlace } from '../cluster/place.ts';
import { act, command, podKey, wholeNumber } from '../command.ts';
import { openLab } from '../labs.ts';
import { dim, green, print, red, writeOut, yellow } from '../output.ts';

type ObserveOptions = PlaceOptions & {
  pod?: string;
  namespace: string;
  verdict?: FlowEvent['verdict'];
  node?: string;
  follow?: boolean;
  /** Of the cluster's own questions: events after this number, and for how long. */
  after: number;
  seconds?: number;
};

/** Ms that an agent waits for the next connection, and between two questions to one that tells none. */
const WAIT_MS = 10_000;
const AGAIN_MS = 1_000;

export function observeCommand(): Command {
  return withLivePlace(
    command('observe', 'connections that policies denied, or allowed where the flow log is `all`', [
      'podway observe',
      'podway observe --pod shop/web --verdict denied --follow',
      'podway observe -o json | jq .object',
    ]),
  )
    .option('--pod <pod>', 'only from or to this [NAMESPACE/]POD')
    .option('-n, --namespace <namespace>', 'of a pod without one', 'default')
    .addOption(new Option('--verdict <verdict>', 'only these').choices(['denied', 'allowed', 'audited']))
    .option('--node <node>', 'only of this node')
    .option('--follow', 'go on, with each connection as it comes')
    .addOption(
      new Option('--after <number>')
        .argParser(wholeNumber('--after', 0, 2 ** 48))
        .default(0)
        .hideHelp(),
    )
    .addOption(new Option('--seconds <seconds>').argParser(wholeNumber('--seconds', 1, 3600)).hideHelp())
    .action(
      act(async (options: ObserveOptions) => {
        const stop = new AbortController();
        for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
        if (options.seconds !== undefined) setTimeout(() => stop.abort(), options.seconds * 1000).unref();
        const isWanted = wantedBy(options);
        const show = (event: NumberedFlow) => {
          if (!isWanted(event)) return;
          if (options.output === 'json') writeOut(`${JSON.stringify(event)}\n`);
          else print(lineOf(event));
        };
        const note = (text: string) => process.stderr.write(`${text}\n`);
        if (placeKind(options) === 'cluster') await observeCluster(options, show, note, stop.signal);
        else await observeSockets(options, show, note, stop.signal);
      }),
    );
}

function wantedBy({ pod, namespace, verdict }: ObserveOptions): (event: FlowEvent) => boolean {
  const key = pod === undefined ? undefined : podKey(pod, namespace);
  return (event) =>
    (verdict === undefined || event.verdict === verdict) &&
    (key === undefined || event.from.pod === key || event.to.pod === key);
}

const COLOURS = { denied: red, allowed: green, audited: yellow } as const;

const endOf = ({ ip, port, pod }: FlowEnd): string => {
  const address = port === undefined ? ip : `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
  return pod === undefined ? address : `${pod} (${address})`;
};

function lineOf({ at, node, verdict, direction, protocol, from, to, tier, object, rule }: FlowEvent): string {
  const by = object === undefined ? (tier ?? '') : `${object}${rule === undefined ? '' : `, rule ${rule}`}`;
  return [
    dim(at.slice(11, 23)),
    node,
    COLOURS[verdict](verdict.padEnd(7)),
    direction.padEnd(7),
    protocol.padEnd(4),
    `${endOf(from)} > ${endOf(to)}`,
    dim(by),
  ].join('  ');
}

type Source = { node: string; ask: (after: number, waitMs: number) => Promise<FlowPage | null> };

/** The agents of a lab, or that of this node. */
async function sourcesOf(options: ObserveOptions): Promise<Source[]> {
  const { askLocal, askSocket } = await import('../cluster/local.ts');
  const pathOf = (after: number, waitMs: number) => `/v1/flows?after=${after}&waitMs=${waitMs}`;
  if (placeKind(options) === 'local')
    return [{ node: 'this node', ask: (after, waitMs) => askLocal(pathOf(after, waitMs)) }];
  const { control, paths } = await openLab(options);
  const { nodes } = await control.call<{ nodes: { name: string }[] }>('GET', '/v1/status');
  const chosen = nodes.filter(({ name }) => options.node === undefined || name === options.node);
  if (chosen.length === 0)
    throw new LabError('NO_SUCH_NODE', `there is no node ${options.node}`, 'podway node list');
  return chosen.map(({ name }) => ({
    node: name,
    ask: (after, waitMs) => askSocket(paths.node(name).apiSocket, pathOf(after, waitMs)),
  }));
}

const untold = (node: string): string =>
  `${node} tells no connections: it has seen no policy, or its flow log is off`;

async function observeSockets(
  options: ObserveOptions,
  show: (event: NumberedFlow) => void,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const sources = await sourcesOf(options);
  const pages = await Promise.all(
    sources.map(async ({ node, ask }) => ({ node, page: await ask(options.after, 0) })),
  );
  for (const { node, page } of pages) if (!page) note(untold(node));
  const events = pages.flatMap(({ page }) => page?.events ?? []);
  for (const event of events.sort((a, b) => (a.at < b.at ? -1 : 1))) show(event);
  if (!options.follow) return;
  const stopped = new Promise<void>((resolve) =>
    signal.addEventListener('abort', () => resolve(), { once: true }),
  );
  const follow = async ({ node, ask }: Source, first: FlowPage | null) => {
    let after = first?.last ?? 0;
    while (!signal.aborted) {
      const page = await ask(after, WAIT_MS).catch(() => null);
      if (!page) {
        // The agent is starting, or has nothing to tell yet.
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
        continue;
      }
      if (page.missed > 0) note(`${node}: ${page.missed} connections came faster than they were read`);
      after = page.last;
      for (const event of page.events) show(event);
    }
  };
  for (const [at, source] of sources.entries()) void follow(source, pages[at]!.page);
  await stopped;
}

/** Seconds that a command in an agent's container lives: nobody ends it when the connection to it breaks. */
const RUN_SECONDS = 60;

/** The same command in the container of each agent; what it prints are events, one on each line. */
async function observeCluster(
  { node, follow, ...options }: ObserveOptions,
  show: (event: NumberedFlow) => void,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { Cluster } = await import('../cluster/agents.ts');
  const cluster = await Cluster.open(options);
  try {
    const observe = async (agent: Agent) => {
      let after = 0;
      const once = async () => {
        let rest = '';
        const onStdout = (bytes: Buffer) => {
          const lines = (rest + bytes.toString('utf8')).split('\n');
          rest = lines.pop()!;
          for (const line of lines) {
            if (line === '') continue;
            const event = JSON.parse(line) as NumberedFlow;
            after = event.number;
            show(event);
          }
        };
        const going = follow ? ['--follow', '--seconds', `${RUN_SECONDS}`] : [];
        const args = ['observe', '-o', 'json', '--after', `${after}`, ...going];
        const { stderr } = await cluster.run(agent, args, {
          onStdout,
          signal,
          timeoutMs: RUN_SECONDS * 2_000,
        });
        if (stderr.trim() !== '') note(`${agent.node}: ${stderr.trim()}`);
      };
      do {
        try {
          await once();
        } catch (error) {
          if (signal.aborted) return;
          note(`${agent.node}: ${(error as Error).message}`);
          if (follow) await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
        }
      } while (follow && !signal.aborted);
    };
    await Promise.all((await cluster.agents(node)).map(observe));
  } finally {
    cluster.close();
  }
}
