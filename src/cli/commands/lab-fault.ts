// podway lab fault add|list|clear: makes EC2 or IMDS of a lab fail, by a seed.
import type { Command } from 'commander';
import { parseDuration } from '../../lab/shape/settings.ts';
import type { FaultEffect, FaultRequest, FaultView } from '../../lab/vpc/faults/index.ts';
import { act, type Common, command, wholeNumber, withLab, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson, table } from '../output.ts';

type AddOptions = Common & {
  action: string;
  error?: string;
  dropAnswer?: boolean;
  dropRequest?: boolean;
  delay?: string;
  stale?: string;
  empty?: boolean;
  rate?: number;
  count?: number;
  seed?: number;
  node?: string;
};

export function labFaultCommand(): Command {
  const add = withOutput(
    withLab(
      command('add', 'make requests fail from now on, until `fault clear`', [
        'podway lab fault add --action AttachNetworkInterface --error InternalError --rate 0.3 --seed 7',
        'podway lab fault add --action AssignPrivateIpAddresses --drop-answer --count 1',
        "podway lab fault add --action 'Describe*' --delay 2s --node node-1",
        "podway lab fault add --action '*' --drop-request",
        "podway lab fault add --action 'imds:network/interfaces/macs/*' --stale 10m",
        "podway lab fault add --action 'imds:*' --error 503 --rate 0.5",
      ]),
    ),
  )
    .requiredOption(
      '--action <action>',
      'an EC2 action, or imds:PATH below /latest/meta-data (imds:token: the token); * is any text',
    )
    .option('--error <code>', "EC2's error code, or IMDS' HTTP status; the request has no effect")
    .option('--drop-answer', 'the request has its effect, then the connection closes')
    .option('--drop-request', 'the connection closes, the request has no effect')
    .option('--delay <duration>', 'the request waits before it is looked at')
    .option('--stale <duration>', 'the answer is so old, but not older than this fault (describes and IMDS)')
    .option('--empty', 'IMDS answers 200 without a body')
    .option('--rate <share>', 'share of the requests that are hit (default 1)', Number)
    .option('--count <n>', 'ends after so many hits', wholeNumber('--count', 1, 1e9))
    .option(
      '--seed <s>',
      'the same seed hits the same of the requests (default 1)',
      wholeNumber('--seed', 0, 2 ** 32 - 1),
    )
    .option('--node <node>', 'only requests of this instance')
    .action(
      act(async (options: AddOptions) => {
        const request = faultOf(options);
        const { control } = await openLab(options);
        const fault = await control.call<FaultView>('POST', '/v1/faults', request);
        if (options.output === 'json') printJson(fault);
        else print(`${fault.id}: ${words(fault)}`);
      }),
    );
  const list = withOutput(
    withLab(
      command('list', 'the faults, and how many requests each has met and hit', ['podway lab fault list']),
    ),
  ).action(
    act(async (options: Common) => {
      const { control } = await openLab(options);
      const faults = await control.call<FaultView[]>('GET', '/v1/faults');
      if (options.output === 'json') printJson(faults);
      else if (faults.length === 0) print('no faults');
      else
        print(
          table(
            ['FAULT', 'MET', 'HIT', 'WHAT'],
            faults.map((fault) => [fault.id, String(fault.seen), String(fault.hit), words(fault)]),
          ),
        );
    }),
  );
  const clear = withOutput(
    withLab(
      command('clear', 'end one fault, or all', ['podway lab fault clear', 'podway lab fault clear f-2']),
    ),
  )
    .argument('[id]', 'a fault, as `fault list` shows it; absent: all')
    .action(
      act(async (id: string | undefined, options: Common) => {
        const { control } = await openLab(options);
        const ended = await control.call<FaultView[]>('POST', '/v1/faults/clear', { id });
        if (options.output === 'json') printJson(ended);
        else print(ended.length === 0 ? 'no faults' : `ended ${ended.map((fault) => fault.id).join(', ')}`);
      }),
    );
  return command('fault', 'failures of EC2 and IMDS on purpose', ['podway lab fault list'])
    .addCommand(add)
    .addCommand(list)
    .addCommand(clear);
}

function faultOf(options: AddOptions): FaultRequest {
  const { action, rate = 1, count, seed = 1, node } = options;
  return {
    action,
    effect: effectOf(options),
    rate,
    seed,
    ...(count === undefined ? {} : { count }),
    ...(node === undefined ? {} : { node }),
  };
}

function effectOf({ error, dropAnswer, dropRequest, delay, stale, empty }: AddOptions): FaultEffect {
  const asked: FaultEffect[] = [
    ...(error === undefined ? [] : [{ kind: 'error' as const, code: error }]),
    ...(dropAnswer ? [{ kind: 'drop-answer' as const }] : []),
    ...(dropRequest ? [{ kind: 'drop-request' as const }] : []),
    ...(delay === undefined ? [] : [{ kind: 'delay' as const, ms: milliseconds('--delay', delay) }]),
    ...(stale === undefined ? [] : [{ kind: 'stale' as const, ms: milliseconds('--stale', stale) }]),
    ...(empty ? [{ kind: 'empty' as const }] : []),
  ];
  const [only] = asked;
  if (only === undefined || asked.length > 1) {
    throw usageError(
      `a fault does one thing, asked for ${asked.length}`,
      'give one of --error, --drop-answer, --drop-request, --delay, --stale, --empty',
    );
  }
  return only;
}

function milliseconds(name: string, text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) throw usageError(`${name} is "${text}", which is no duration`, 'as 500ms or 2s');
  return ms;
}

function words({ action, effect, rate, count, seed, node }: FaultView): string {
  const what =
    effect.kind === 'error'
      ? `error ${effect.code}`
      : 'ms' in effect
        ? `${effect.kind} ${effect.ms} ms`
        : effect.kind.replace('-', ' ');
  const share = rate < 1 ? ` for ${rate * 100} % (seed ${seed})` : '';
  const times = count === undefined ? '' : `, at most ${count} times`;
  return `${action}: ${what}${share}${times}${node === undefined ? '' : `, from ${node}`}`;
}
