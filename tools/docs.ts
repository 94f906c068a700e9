// Writes the pages of docs/ that are made from tables in the code. `npm run docs`; tools/docs.test.ts compares them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CauseRow, causes } from '../src/base/causes.ts';
import { labCauses } from '../src/lab/daemon/causes.ts';

export const causesPage = join(import.meta.dirname, '../docs/causes.md');

const kind = ({ transient }: { transient: boolean }): string =>
  transient ? 'passes by itself' : 'lasts until somebody acts';

function ownCause([name, row]: [string, CauseRow]): string {
  return [
    `### ${name}`,
    '',
    `CNI error ${row.cni}; ${kind(row)}${row.reserved ? '; reserved: no part of this version raises it' : ''}.`,
    '',
    row.meaning,
    '',
    `- Podway: ${row.does}`,
    `- You: ${row.next}`,
  ].join('\n');
}

const labCause = ([name, row]: [string, (typeof labCauses)[string]]): string =>
  [`### ${name}`, '', `${row.meaning} It ${kind(row)}.`, '', `- You: ${row.next}`].join('\n');

export function causesText(): string {
  const byNumber = (Object.entries(causes) as [string, CauseRow][]).sort((a, b) => a[1].cni - b[1].cni);
  return `${[
    '# Causes',
    '<!-- Made from src/base/causes.ts and src/lab/daemon/causes.ts by `npm run docs`. -->',
    [
      'What cannot be had is refused with a cause: a name, a sentence with the numbers, and the next step. The name is the same in',
      'the CNI error (`msg` begins with it; `details` is JSON), in the reason of the pod’s Event (`SubnetExhausted` is',
      '`SUBNET_EXHAUSTED`), in the label of `podway_cni_requests_total{result}` and `podway_pool_trouble{cause}`, in the field `cause`',
      'of the agent’s log, and in `podway explain NAME`.',
    ].join('\n'),
    [
      '`details` has `cause`; `object`, the id of what the cause is about; `has` and `limit`, where they can be counted; `since` and',
      '`nextAt`, milliseconds since 1970: when the cause began, and when Podway tries again by itself; `does`, what it does then;',
      '`next`, what you can do; and `doc`. Fields without a value are left out.',
    ].join('\n'),
    '`podway ipam explain POD` says which cause holds a pod now, and where in the line it stands.',
    '## Of the network',
    ...byNumber.map(ownCause),
    '## Of the lab and the command line',
    ...Object.entries(labCauses)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(labCause),
  ].join('\n\n')}\n`;
}

if (import.meta.main) writeFileSync(causesPage, causesText());
