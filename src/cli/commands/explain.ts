// podway explain CODE: what a cause means and what to do.
import type { Command } from 'commander';
import { type Cause, causes, docOf, findCauses } from '../../base/causes.ts';
import { labCauses } from '../../lab/daemon/causes.ts';
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
        const own = Object.entries(labCauses).filter(([name]) => name === code.toUpperCase());
        const rows: Row[] = [
          ...findCauses(code).map((name) => rowOf(name)),
          ...own.map(([name, { transient, meaning, next }]) => ({
            ...{ code: name, number: null, transient, meaning, next },
            doc: `docs/causes.md#${name.toLowerCase()}`,
          })),
          ...foreign(code),
        ];
        if (rows.length === 0) {
          throw new LabError(
            'UNKNOWN_CODE',
            `no cause is called or numbered "${code}"`,
            `causes: ${[...Object.keys(causes), ...Object.keys(labCauses)].join(', ')}`,
          );
        }
        if (options.output === 'json') return printJson(rows.length === 1 ? rows[0] : rows);
        for (const row of rows) {
          const where = row.number === null ? 'of the lab' : `CNI error ${row.number}`;
          print(
            `${bold(row.code)} (${where}, ${row.transient ? 'passes by itself' : 'lasts until somebody acts'})`,
          );
          print(`  ${row.meaning}`);
          if (row.does !== undefined) print(`  Podway: ${row.does}`);
          print(`  Next: ${row.next}`);
          if (row.doc !== undefined) print(`  See ${row.doc}`);
        }
      }),
    );
}

type Row = {
  code: string;
  /** Of the CNI error; null for a cause of the lab. */
  number: number | null;
  transient: boolean;
  meaning: string;
  does?: string;
  next: string;
  doc?: string;
};

function rowOf(name: Cause): Row {
  const { cni, transient, meaning, does, next } = causes[name];
  return { code: name, number: cni, transient, meaning, does, next, doc: docOf(name) };
}

/** CNI's "try again later"; every other code lasts until an operator acts. */
const TRY_AGAIN = 11;

/** `CNI_11`, `CNI_999`: what a pod shows whose chain failed with a number and without a cause of ours. */
function foreign(code: string): Row[] {
  const number = /^CNI_(\d{1,4})$/i.exec(code)?.[1];
  if (number === undefined) return [];
  const transient = Number(number) === TRY_AGAIN;
  return [
    {
      code: code.toUpperCase(),
      number: Number(number),
      transient,
      meaning: `A plugin of the node's chain that names no cause of ours answered with CNI error ${number}${transient ? ', which asks to try again later' : ''}.`,
      next: "The message is the plugin's own; podway lab logs NODE, or the log of that plugin, says more.",
    },
  ];
}
