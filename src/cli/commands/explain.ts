// podway explain CODE: what a cause means and what to do.
import type { Command } from 'commander';
import { causes, findCauses } from '../../base/causes.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { act, command, withOutput } from '../command.ts';
import { bold, type OutputOptions, print, printJson } from '../output.ts';

export function explainCommand(): Command {
  return withOutput(
    command('explain', 'what a cause means and what to do', [
      'podway explain ADDRESS_LIMIT',
      'podway explain 11',
    ]),
  )
    .argument('<code>', 'name or number of a cause')
    .action(
      act(async (code: string, options: OutputOptions) => {
        const names = findCauses(code);
        if (names.length === 0) {
          throw new LabError(
            'UNKNOWN_CODE',
            `no cause is called or numbered "${code}"`,
            `causes: ${Object.keys(causes).join(', ')}`,
          );
        }
        const rows = names.map((name) => ({
          code: name,
          number: causes[name].cni,
          transient: causes[name].transient,
          meaning: causes[name].meaning,
          next: causes[name].next,
        }));
        if (options.output === 'json') return printJson(rows.length === 1 ? rows[0] : rows);
        for (const row of rows) {
          print(
            `${bold(row.code)} (CNI error ${row.number}, ${row.transient ? 'passes by itself' : 'lasts until somebody acts'})`,
          );
          print(`  ${row.meaning}\n  Next: ${row.next}`);
        }
      }),
    );
}
