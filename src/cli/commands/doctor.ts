// podway doctor: what this machine has and lacks.
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import { act, command, withOutput } from '../command.ts';
import { ExitCode } from '../errors.ts';
import { green, type OutputOptions, print, printJson, red, table, yellow } from '../output.ts';

export function doctorCommand(): Command {
  return withOutput(
    command('doctor', 'what this machine has and lacks', ['podway doctor', 'podway doctor -o json']),
  ).action(
    act(async (options: OutputOptions) => {
      const { machineRows } = await import('../doctor/checks.ts');
      const rows = await machineRows();
      const lacking = rows.filter((row) => row.state === 'missing');
      if (options.output === 'json') printJson({ ok: lacking.length === 0, checks: rows });
      else {
        const mark = { ok: green('ok'), missing: red('missing'), note: yellow('note') };
        print(
          table(
            ['CHECK', 'STATE', 'DETAIL'],
            rows.map((row) => [
              row.name,
              mark[row.state],
              row.next ? `${row.detail} (${row.next})` : row.detail,
            ]),
          ),
        );
      }
      if (lacking.length === 0) return;
      if (options.output === 'json') throw new ExitCode(1);
      throw new LabError('MACHINE', lacking[0]!.detail, lacking[0]!.next);
    }),
  );
}
