// podway ipam trace-generate: a trace of pods on nodes, as `ipam simulate` replays it.
import { writeFileSync } from 'node:fs';
import { Argument, type Command, Option } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import {
  defaultShapeOptions as defaults,
  generateTrace,
  type ShapeName,
  shapes,
} from '../../planner/shapes/index.ts';
import { formatTraceEvent, TRACE_HEADER } from '../../planner/trace.ts';
import { act, command, wholeNumber } from '../command.ts';
import { usageError } from '../errors.ts';
import { writeOut } from '../output.ts';

type Options = {
  seed: number;
  nodes: number;
  podsPerNode: number;
  hours: number;
  churn: number;
  lead: number;
  format: 'csv' | 'json';
  out?: string;
};

export function traceGenerateCommand(): Command {
  const names = Object.keys(shapes) as ShapeName[];
  const made = command('trace-generate', 'write a trace of pod starts and stops for ipam simulate', [
    'podway ipam trace-generate rolling --seed 7 >rolling.csv',
    'podway ipam trace-generate swing --nodes 50 --pods-per-node 40 --out swing.csv',
    'podway ipam trace-generate burst --hours 2 --churn 3 --lead 1.5 --format json',
  ])
    .addArgument(new Argument('<shape>', 'what the day looks like').choices(names))
    .option(
      '--seed <seed>',
      'the same seed gives the same trace',
      wholeNumber('--seed', 0, 2 ** 32 - 1),
      defaults.seed,
    )
    .option('--nodes <count>', 'nodes at the start', wholeNumber('--nodes', 1, 100_000), defaults.nodes)
    .option(
      '--pods-per-node <count>',
      'pods that a node runs on average at full load',
      wholeNumber('--pods-per-node', 1, 1_000),
      defaults.podsPerNode,
    )
    .option('--hours <hours>', 'length of the trace', numberBetween('--hours', 0.1, 24 * 31), defaults.hours)
    .option(
      '--churn <factor>',
      "multiple of the shape's own rates",
      numberBetween('--churn', 0.01, 1_000),
      defaults.churn,
    )
    .option(
      '--lead <seconds>',
      'write a bound event so long before each start; 0 writes none',
      numberBetween('--lead', 0, 600),
      defaults.lead,
    )
    .addOption(new Option('--format <format>', 'csv, or JSON lines').choices(['csv', 'json']).default('csv'))
    .option('--out <file>', 'write to this file instead of standard output')
    .action(
      act(async (shape: ShapeName, options: Options) => {
        const { seed, nodes, podsPerNode, hours, churn, lead } = options;
        const events = generateTrace(shape, { seed, nodes, podsPerNode, hours, churn, lead });
        const lines =
          options.format === 'csv'
            ? [TRACE_HEADER, ...events.map(formatTraceEvent)]
            : events.map((one) => JSON.stringify(one));
        const text = `${lines.join('\n')}\n`;
        if (options.out === undefined) return writeOut(text);
        try {
          writeFileSync(options.out, text);
        } catch (error) {
          throw new LabError(
            'FILE_UNWRITABLE',
            `${options.out}: ${(error as Error).message}`,
            'name another file',
          );
        }
      }),
    );
  const about = names.map((name) => `  ${name.padEnd(14)}${shapes[name].summary}`).join('\n');
  return made.addHelpText('after', `\nShapes:\n${about}`);
}

export function numberBetween(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < min || value > max)
      throw usageError(`${name} is "${text}", not a number from ${min} to ${max}`, 'see --help');
    return value;
  };
}
