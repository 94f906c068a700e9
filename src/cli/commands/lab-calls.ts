// podway lab calls: what was asked of a lab's EC2, by whom, and what AWS would have throttled of it.
import type { Command } from 'commander';
import type { CallsView } from '../../lab/daemon/protocol.ts';
import { parseDuration } from '../../lab/shape/settings.ts';
import { act, type Common, command, withDump, withLab, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { readLab } from '../labs.ts';
import { print, printJson, table } from '../output.ts';

export function labCallsCommand(): Command {
  return withDump(
    withOutput(
      withLab(
        command('calls', "the EC2 calls since the lab's process began, of everybody but the lab itself", [
          'podway lab calls',
          'podway lab calls --since 5m -o json',
        ]),
      ),
    ),
  )
    .option('--since <duration>', 'only the calls of so long')
    .action(
      act(async (options: Common & { since?: string }) => {
        const ms = options.since === undefined ? undefined : parseDuration(options.since);
        if (options.since !== undefined && ms === undefined)
          throw usageError(`--since is "${options.since}", which is no duration`, 'as 30s or 5m');
        const lab = await readLab(options);
        const view = await lab.call<CallsView>('GET', `/v1/calls${ms === undefined ? '' : `?sinceMs=${ms}`}`);
        if (options.output === 'json') printJson(view);
        else print(text(view));
      }),
    );
}

/** Calls that a person is shown one by one. */
const LAST = 20;

function text({ calls, totals, throttledByAws, from }: CallsView): string {
  if (calls.length === 0) return `no calls since ${from}`;
  const last = calls
    .slice(-LAST)
    .map(({ at, action, caller, result, ms }) => [at.slice(11, 23), caller, action, `${ms} ms`, result]);
  const sums = Object.entries(totals)
    .sort()
    .map(([action, results]) => [
      action,
      String(Object.values(results).reduce((sum, count) => sum + count, 0)),
      String(throttledByAws[action] ?? 0),
      Object.entries(results)
        .map(([result, count]) => `${count} ${result}`)
        .join(', '),
    ]);
  return [
    `the last ${last.length} of ${calls.length} calls since ${from}`,
    table(['AT', 'CALLER', 'ACTION', 'TOOK', 'RESULT'], last),
    '',
    table(['ACTION', 'CALLS', 'AWS WOULD THROTTLE', 'RESULTS'], sums),
  ].join('\n');
}
