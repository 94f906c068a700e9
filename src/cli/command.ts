// What every command shares: the options that all have, and an action that reports its failure the one way there is.
import { Command, Option } from 'commander';
import { report, usageError } from './errors.ts';
import type { LabOptions } from './labs.ts';
import type { OutputOptions } from './output.ts';

export type Common = LabOptions & OutputOptions;

export function command(name: string, summary: string, examples: string[]): Command {
  const made = new Command(name).description(summary);
  const shown = examples.map((example) => `  ${example}`).join('\n');
  made.addHelpText('after', `\nExamples:\n${shown}`);
  return made.helpOption('-h, --help', 'show this help').showHelpAfterError(false);
}

const ONE_THAT_IS_UP = 'the lab (else PODWAY_LAB, else the only one that is up, else default)';

export const withLab = (made: Command, which = ONE_THAT_IS_UP): Command =>
  made.option('--lab <name>', which).addOption(new Option('--name <name>', 'the same as --lab').hideHelp());

/** For a command that reads: `--from`. */
export const withDump = (made: Command): Command =>
  made.option('--from <file>', 'read a dump that podway sysdump made, offline');

export const withOutput = (made: Command): Command =>
  made.addOption(new Option('-o, --output <format>', 'json for scripts').choices(['json', 'text']));

export const withQuiet = (made: Command): Command => made.option('-q, --quiet', 'no progress');

/** Runs the action; its failure is reported and becomes the exit code. */
export function act<A extends unknown[]>(
  run: (...args: A) => Promise<number | undefined> | Promise<void>,
): (...args: A) => Promise<void> {
  return async (...args) => {
    const made = args.at(-1) as Command;
    const json = (made.optsWithGlobals() as OutputOptions).output === 'json';
    try {
      process.exitCode = (await run(...args)) ?? 0;
    } catch (error) {
      process.exitCode = report(error, json);
    }
  };
}

export function wholeNumber(name: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw usageError(`${name} is "${text}", not a whole number from ${min} to ${max}`, 'see --help');
    }
    return value;
  };
}

/** A pod that is named `[NAMESPACE/]POD`. Throws USAGE. */
export function podOf(text: string, namespace: string): { namespace: string; name: string } {
  const parts = text.split('/');
  if (parts.length > 2 || parts.includes(''))
    throw usageError(`"${text}" is not [NAMESPACE/]POD`, 'see --help');
  return { namespace: parts.length === 2 ? parts[0]! : namespace, name: parts.at(-1)! };
}

/** The same as `namespace/name`. */
export function podKey(text: string, within: string): string {
  const { namespace, name } = podOf(text, within);
  return `${namespace}/${name}`;
}

export const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
