// podway connectivity test: real packets between pods, nodes, the plain instance and the internet, with figures.
import type { Command } from 'commander';
import type { Check } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withLab, withOutput, withQuiet } from '../command.ts';
import { ExitCode } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson, progress } from '../output.ts';
import { checkLine, failedChecks } from '../views.ts';

export function connectivityCommand(): Command {
  const made = command(
    'test',
    'prove that packets go where they should, with the addresses they should have',
    ['podway connectivity test', 'podway connectivity test -o json'],
  );
  const test = withQuiet(withOutput(withLab(made))).action(
    act(async (options: Common) => {
      const { control } = await openLab(options);
      const shown = progress(options);
      let checks: Check[];
      try {
        ({ checks } = await control.follow<{ checks: Check[] }>('POST', '/v1/connectivity', {}, (line) => {
          if (line.kind === 'progress') shown.say(line.text);
        }));
      } finally {
        shown.done();
      }
      const failed = checks.filter((check) => !check.ok);
      if (options.output === 'json') printJson({ ok: failed.length === 0, checks });
      else if (!options.quiet) for (const check of checks) print(checkLine(check));
      if (failed.length === 0) return;
      throw options.output === 'json' ? new ExitCode(1) : failedChecks(failed);
    }),
  );
  return command('connectivity', 'proofs by packets', ['podway connectivity test']).addCommand(test);
}
