// podway lab throttle: the account's token buckets in a lab's EC2.
import type { Command } from 'commander';
import type { ThrottleRequest, ThrottleView } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withLab, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson, table } from '../output.ts';

type Options = Common & { action?: string; rate?: number; burst?: number; reset?: boolean };

export function labThrottleCommand(): Command {
  return withOutput(
    withLab(
      command(
        'throttle',
        "set the size of an action's token bucket, or show what is set; --set ec2Throttle=aws gives all their published sizes",
        [
          'podway lab throttle --action CreateNetworkInterface --rate 1 --burst 5',
          'podway lab throttle --rate 2 --burst 10',
          'podway lab throttle',
          'podway lab throttle --reset',
        ],
      ),
    ),
  )
    .option('--action <action>', 'an EC2 action (default: each that has no size of its own)')
    .option('--rate <r>', 'tokens that come back per second', Number)
    .option('--burst <b>', 'tokens that the bucket holds', Number)
    .option('--reset', 'end what was set, for the action or for all')
    .action(
      act(async (options: Options) => {
        const request = requestOf(options);
        const { control } = await openLab(options);
        const view = request
          ? await control.call<ThrottleView>('POST', '/v1/throttle', request)
          : await control.call<ThrottleView>('GET', '/v1/throttle');
        if (options.output === 'json') printJson(view);
        else print(text(view));
      }),
    );
}

function requestOf({ action, rate, burst, reset }: Options): ThrottleRequest | undefined {
  if (reset && (rate !== undefined || burst !== undefined))
    throw usageError('--reset ends what was set', 'leave --rate and --burst away');
  const which = action === undefined ? {} : { action };
  if (reset) return { ...which, reset };
  if (rate === undefined && burst === undefined && action === undefined) return undefined;
  if (rate === undefined || burst === undefined || Number.isNaN(rate) || Number.isNaN(burst))
    throw usageError('a bucket has a rate and a burst, both numbers', 'for example --rate 5 --burst 100');
  return { ...which, size: { perSecond: rate, burst } };
}

function text({ setting, sizes }: ThrottleView): string {
  const rest =
    setting === 'aws' ? 'every other action: the sizes that AWS publishes' : 'every other action: no limit';
  if (sizes.length === 0)
    return setting === 'aws' ? 'every action: the sizes that AWS publishes' : 'no action has a limit';
  const rows = sizes.map(({ action, perSecond, burst }) => [
    action === '*' ? 'every action' : action,
    String(perSecond),
    String(burst),
  ]);
  const shown = table(['ACTION', 'PER SECOND', 'BURST'], rows);
  return sizes.some(({ action }) => action === '*') ? shown : `${shown}\n${rest}`;
}
