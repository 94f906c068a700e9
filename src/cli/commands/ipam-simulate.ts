// podway ipam simulate: replays a trace through Podway's pool and through the AWS VPC CNI's allocator, and prints what each
// costs in addresses, EC2 calls and waiting.
import { readFileSync, writeFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { limitsFromTable } from '../../cloud/limits.ts';
import type { Environment } from '../../ipam/config/incumbent-env.ts';
import type { Targets } from '../../ipam/policy.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { incumbentChoice, type PodwayChoice, podwayChoice } from '../../planner/choices.ts';
import { plotDay } from '../../planner/plot.ts';
import { type AllocatorChoice, type Run, simulate } from '../../planner/simulate.ts';
import { parseTrace } from '../../planner/trace.ts';
import { act, collect, command, wholeNumber, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { type OutputOptions, print, printError, printJson, table } from '../output.ts';

type Options = OutputOptions & {
  trace: string;
  allocator?: string[];
  env?: string[];
  set?: string[];
  instanceType: string;
  subnetSize?: number;
  seed: number;
  plot?: string;
};

export function simulateCommand(): Command {
  return withOutput(
    command('simulate', 'replay a trace of pods through the pool and a modelled EC2', [
      'podway ipam trace-generate rolling >day.csv && podway ipam simulate --trace day.csv',
      'podway ipam simulate --trace day.csv --allocator podway --set addressing=prefix -o json',
      'podway ipam simulate --trace day.csv --allocator incumbent --env WARM_IP_TARGET=5 --env MINIMUM_IP_TARGET=10',
      'podway ipam simulate --trace day.csv --instance-type m5.4xlarge --subnet-size 256 --plot day.svg',
    ]),
  )
    .requiredOption(
      '--trace <file>',
      'CSV with the header time,node,pod,event, or JSON lines; - is standard input',
    )
    .addOption(
      new Option('--allocator <name>', 'podway, incumbent (the AWS VPC CNI), or both in turn')
        .choices(['podway', 'incumbent'])
        .argParser(collectChoice),
    )
    .option('--env <K=V>', "a variable of the AWS VPC CNI's environment (repeatable)", collect)
    .option(
      '--set <KEY=VALUE>',
      'a setting of Podway: warm=N, addressing=secondary|prefix|auto, cooldown=SECONDS, idleRelease=SECONDS (repeatable)',
      collect,
    )
    .option('--instance-type <type>', 'the type of every node', 'm5.large')
    .option(
      '--subnet-size <n>',
      'addresses of the one subnet, a power of two from 16 to 65536; else as many /16s as all nodes could fill',
      subnetSize,
    )
    .option('--seed <seed>', "for EC2's times and choices", wholeNumber('--seed', 0, 2 ** 32 - 1), 1)
    .option('--plot <file>', 'draw held and taken addresses over time into this SVG')
    .action(act(run));
}

async function run(options: Options): Promise<void> {
  const limits = limitsFromTable(options.instanceType);
  if (!limits)
    throw usageError(
      `there is no instance type "${options.instanceType}" in the table`,
      'for example --instance-type m5.large',
    );
  const asked = readSettings(options.set ?? []);
  const environment = readPairs('--env', options.env ?? []);
  const incumbent = incumbentChoice(limits, environment);
  for (const warning of incumbent.warnings) printError(`--env: ${warning}`);
  const choices: Record<string, AllocatorChoice> = {
    podway: podwayChoice(limits, asked),
    incumbent: incumbent.choice,
  };
  const names = options.allocator ?? Object.keys(choices);
  const events = parseTrace(readTrace(options.trace), options.trace);
  const end = events.at(-1)!.time * 1000;
  const runs: (Run & { allocator: string; settings: object })[] = [];
  for (const allocator of names) {
    const choice = choices[allocator]!;
    const result = await simulate(events, {
      limits,
      allocator: choice,
      seed: options.seed,
      ...(options.subnetSize === undefined ? {} : { subnetSize: options.subnetSize }),
      ...(options.plot === undefined ? {} : { sampleEvery: Math.max(1_000, end / SAMPLES) }),
    });
    runs.push({ allocator, settings: choice.settings, ...result });
  }
  if (options.plot !== undefined) writePlot(options.plot, plotDay(runs));
  const shown = runs.map(({ samples: _, ...rest }) => rest);
  if (options.output === 'json')
    printJson({ trace: options.trace, instanceType: options.instanceType, runs: shown });
  else print(runsTable(shown));
}

/** Points of a plotted line. */
const SAMPLES = 480;

function runsTable(runs: (Omit<Run, 'samples'> & { allocator: string })[]): string {
  const sum = (calls: Record<string, number>, isWanted: (action: string) => boolean) =>
    Object.entries(calls).reduce((all, [action, count]) => all + (isWanted(action) ? count : 0), 0);
  const isReading = (action: string) => action.startsWith('Describe');
  const failed = (causes: Record<string, number>) =>
    Object.entries(causes)
      .map(([cause, count]) => `${count} ${cause}`)
      .join(', ') || '0';
  const seconds = (ms: number) => `${Number((ms / 1000).toFixed(1))} s`;
  const actions = [...new Set(runs.flatMap((one) => Object.keys(one.calls)))].sort();
  const rows: [string, (one: (typeof runs)[number]) => string | number][] = [
    ['idle address-minutes', (one) => one.idleAddressMinutes],
    ['ENI-minutes', (one) => one.eniMinutes],
    ['peak addresses', (one) => one.peakAddresses],
    ['peak ENIs', (one) => one.peakEnis],
    ['calls that change', (one) => sum(one.calls, (action) => !isReading(action))],
    ['describes', (one) => sum(one.calls, isReading)],
    ...actions.map((name): (typeof rows)[number] => [`  ${name}`, (one) => one.calls[name] ?? 0]),
    ['throttled', (one) => one.throttled],
    ['wait p50', (one) => seconds(one.waitMs.p50)],
    ['wait p90', (one) => seconds(one.waitMs.p90)],
    ['wait p99', (one) => seconds(one.waitMs.p99)],
    ['wait max', (one) => seconds(one.waitMs.max)],
    ['pods that failed', (one) => failed(one.failed)],
  ];
  return table(
    ['', ...runs.map((one) => one.allocator)],
    rows.map(([title, of]) => [title, ...runs.map((one) => String(of(one)))]),
  );
}

function collectChoice(value: string, before: string[] | undefined): string[] {
  if (value !== 'podway' && value !== 'incumbent')
    throw usageError(`--allocator is "${value}", not podway or incumbent`, 'see --help');
  return [...new Set([...(before ?? []), value])];
}

function subnetSize(text: string): number {
  const size = Number(text);
  if (/^\d+$/.test(text) && size >= 16 && size <= 65_536 && Number.isInteger(Math.log2(size))) return size;
  throw usageError(
    `--subnet-size is "${text}", not a power of two from 16 to 65536`,
    'for example 256, a /24',
  );
}

function readPairs(flag: string, texts: readonly string[]): Environment {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=');
      if (at < 1) throw usageError(`${flag} is "${text}", not KEY=VALUE`, 'see --help');
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function readSettings(texts: readonly string[]): PodwayChoice {
  const asked: PodwayChoice = {};
  for (const [key, text = ''] of Object.entries(readPairs('--set', texts))) {
    const wrong = (rule: string) => usageError(`--set ${key} is "${text}", not ${rule}`, 'see --help');
    const number = (most: number): number => {
      const value = Number(text.replace(/s$/, ''));
      if (!/^\d+(\.\d+)?s?$/.test(text) || value > most) throw wrong(`a number from 0 to ${most}`);
      return value;
    };
    if (key === 'warm') asked.targets = { kind: 'warm', free: Math.floor(number(10_000)) } satisfies Targets;
    else if (key === 'cooldown') asked.cooldownMs = number(86_400) * 1000;
    else if (key === 'idleRelease') asked.idleReleaseMs = number(86_400) * 1000;
    else if (key === 'addressing') {
      if (text !== 'secondary' && text !== 'prefix' && text !== 'auto')
        throw wrong('secondary, prefix or auto');
      asked.addressing = text;
    } else
      throw usageError(`--set does not know ${key}`, 'it takes warm, addressing, cooldown and idleRelease');
  }
  return asked;
}

function readTrace(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new LabError(
      'FILE_UNREADABLE',
      `${file}: ${(error as Error).message}`,
      'podway ipam trace-generate steady --out FILE writes a trace',
    );
  }
}

function writePlot(file: string, svg: string): void {
  try {
    writeFileSync(file, svg);
  } catch (error) {
    throw new LabError('FILE_UNWRITABLE', `${file}: ${(error as Error).message}`, 'name another file');
  }
}
