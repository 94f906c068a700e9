// podway lab down: removes a lab and all that it made, also when its process is dead or it is half up.
import type { Command } from 'commander';
import { knownLabs } from '../../lab/daemon/paths.ts';
import { act, type Common, command, withLab, withOutput, withQuiet } from '../command.ts';
import { usageError } from '../errors.ts';
import { namedLab, needRoot, resolveLab } from '../labs.ts';
import { print, printJson, progress } from '../output.ts';

export function labDownCommand(): Command {
  const made = command('down', 'remove a lab and all that it made', [
    'podway lab down',
    'podway lab down --lab other',
    'podway lab down --all',
  ]).option('--all', 'every lab of this machine');
  return withQuiet(withOutput(withLab(made))).action(
    act(async (options: Common & { all?: boolean }) => {
      if (
        options.all &&
        namedLab({ ...options }) !== undefined &&
        (options.lab ?? options.name) !== undefined
      ) {
        throw usageError('--all and --lab exclude each other', 'give one of them');
      }
      needRoot();
      const labs = options.all ? knownLabs() : [await resolveLab(options)];
      const { removeLab } = await import('../../lab/daemon/teardown.ts');
      const shown = progress(options);
      const removed: string[] = [];
      try {
        for (const lab of labs) {
          if (await removeLab(lab, (text) => shown.say(`lab ${lab}: ${text}`))) removed.push(lab);
        }
      } finally {
        shown.done();
      }
      if (options.output === 'json') printJson({ removed });
      else if (!options.quiet)
        print(
          removed.length > 0
            ? `removed lab ${removed.join(', ')}`
            : `no lab${options.all ? '' : ` ${labs[0]}`} is up`,
        );
    }),
  );
}
