// podway policy show and wait: what is in force on the nodes, by their agents.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { PolicyView } from '../../agent/policy-keeper.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { type PlaceOptions, placeKind, withLivePlace, withPlace } from '../cluster/place.ts';
import { agentViews, openWorld, type ShownView } from '../cluster/policies.ts';
import { act, command, podKey, wholeNumber } from '../command.ts';
import { reportFailed } from '../errors.ts';
import { bold, dim, print, printJson, red, yellow } from '../output.ts';

export function showCommand(): Command {
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
        const key = pod === undefined ? undefined : podKey(pod, options.namespace);
        const { views, failed } = await agentViews(options, { pod: key });
        const shown = key === undefined ? views : views.filter(({ view }) => view?.pod?.node === view?.node);
        if (options.output === 'json') {
          printJson(shown.map(({ node, view }): ShownView => view ?? { node, policies: 0 }));
          return reportFailed(failed);
        }
        if (key !== undefined && shown.length === 0 && failed.length === 0)
          throw new LabError('NO_SUCH_POD', `no node has policies for a pod ${key}`, 'podway pod list');
        if (shown.length > 0) print(shown.map(({ node, view }) => viewText(node, view)).join('\n'));
        return reportFailed(failed);
      }),
    );
}

function viewText(node: string, view: PolicyView | null): string {
  if (!view) return `${bold(node)} has seen no policy`;
  const lines = [
    `${bold(node)} ${view.mode === 'enforce' ? '' : `${yellow(view.mode)} `}generation ${view.generation} since ${new Date(view.since).toISOString()}: ${view.policies} policies, ${view.classes} classes, ${view.identities} identities${view.isSettled ? '' : yellow(', changing')}${view.isCurrent ? '' : red(`, has heard nothing of pods for ${Math.round(view.silentMs / 1000)} s`)}${view.broken === null ? '' : red(`, ${view.broken}`)}`,
  ];
  if (!view.pod) return lines.join('\n');
  lines.push(`  ${view.pod.key} ${view.pod.ips.join(' ')}`);
  for (const direction of ['egress', 'ingress'] as const) {
    const one = view.pod[direction];
    if (!one) lines.push(`  ${dim(direction.padEnd(8))} not isolated`);
    for (const { tier, objects, rules } of one?.stages ?? [])
      lines.push(
        `  ${dim(direction.padEnd(8))} ${tier}: ${objects.join(', ')} (${rules.length} rules, chain ${one!.name})${one!.isAudit ? yellow(' audit: what it denies passes') : ''}`,
      );
  }
  return lines.join('\n');
}

const WAIT_LOOK_MS = 100;
/** Each look starts a program in each agent's container. */
const CLUSTER_LOOK_MS = 2_000;

export function waitCommand(): Command {
  return withLivePlace(
    command('wait', 'until the policies that the API has now are in force on all nodes', [
      'podway policy wait',
      'podway policy wait --timeout 10',
    ]),
  )
    .option('--timeout <seconds>', 'give up after this', wholeNumber('--timeout', 1, 3600), 30)
    .action(
      act(async (options: PlaceOptions & { timeout: number }) => {
        const isCluster = placeKind(options) === 'cluster';
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
          const { views, failed } = await agentViews(options);
          const late = views.filter(({ view }) => !isThere(view)).map(({ node }) => node);
          if (late.length + failed.length === 0) {
            if (options.output === 'json')
              printJson(views.map(({ node, view }) => ({ node, generation: view?.generation ?? 0 })));
            else print(`${wanted.length} policies are in force on ${views.length} nodes`);
            return;
          }
          if (performance.now() > end && failed.length > 0) return reportFailed(failed);
          if (performance.now() > end)
            throw new LabError(
              'POLICY_NOT_IN_FORCE',
              `after ${options.timeout} s the policies are not in force on ${late.join(', ')}`,
              'podway policy show',
            );
          await sleep(isCluster ? CLUSTER_LOOK_MS : WAIT_LOOK_MS);
        }
      }),
    );
}
