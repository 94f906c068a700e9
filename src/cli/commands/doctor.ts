// podway doctor: what this machine has and lacks for a lab; with --local this node for its agent; in a cluster each node.
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { LabStatus } from '../../lab/daemon/protocol.ts';
import { openPlace, type PlaceOptions, placeKind, withPlace } from '../cluster/place.ts';
import { act, command } from '../command.ts';
import { ExitCode, reportFailed } from '../errors.ts';
import { green, print, printJson, red, table, yellow } from '../output.ts';

type NodeRow = {
  node?: string;
  name: string;
  state: 'ok' | 'missing' | 'note';
  detail: string;
  next: string;
};

/** A lab's process that does not answer for so long is left out. */
const ANSWER_MS = 10_000;

export function doctorCommand(): Command {
  return withPlace(
    command('doctor', 'what this machine, this node or the nodes of a cluster have and lack', [
      'podway doctor',
      'podway doctor --local -o json',
      'kubectl podway doctor',
    ]),
  ).action(
    act(async (options: PlaceOptions) => {
      const { rows, failed } = await rowsOf(options);
      const lacking = rows.filter((row) => row.state === 'missing');
      const isOk = lacking.length + failed.length === 0;
      if (options.output === 'json') printJson({ ok: isOk, checks: rows });
      else print(rowTable(rows));
      reportFailed(failed);
      if (isOk) return;
      if (options.output === 'json' || lacking.length === 0) throw new ExitCode(1);
      const { node, detail, next } = lacking[0]!;
      throw new LabError('MACHINE', node === undefined ? detail : `${node}: ${detail}`, next);
    }),
  );
}

async function rowsOf(options: PlaceOptions): Promise<{ rows: NodeRow[]; failed: LabError[] }> {
  if (placeKind(options) === 'lab' && options.from === undefined) {
    const { machineRows } = await import('../doctor/checks.ts');
    return { rows: [...(await machineRows()), ...(await labRows(options))], failed: [] };
  }
  const place = await openPlace(options);
  const { values, failed } = await place.doctor().finally(() => place.close());
  return { rows: values, failed };
}

/** What others drop on the nodes of the lab that is meant. None when no lab is up, or two are and none is named. */
async function labRows(options: PlaceOptions): Promise<NodeRow[]> {
  const [{ openLab }, { forwardingRows }] = await Promise.all([
    import('../labs.ts'),
    import('../doctor/checks.ts'),
  ]);
  let nodes: LabStatus['nodes'];
  try {
    const { control } = await openLab(options);
    const signal = AbortSignal.timeout(ANSWER_MS);
    ({ nodes } = await control.call<LabStatus>('GET', '/v1/status', undefined, signal));
  } catch (error) {
    if (error instanceof LabError) return [];
    throw error;
  }
  const running = nodes.filter(({ state }) => state === 'running');
  const rows = await Promise.all(
    running.map(async ({ name, netnsPath }) =>
      (await forwardingRows(netnsPath)).map((row) => ({ node: name, ...row })),
    ),
  );
  return rows.flat();
}

function rowTable(rows: NodeRow[]): string {
  const mark = { ok: green('ok'), missing: red('missing'), note: yellow('note') };
  const hasNodes = rows.some((row) => row.node !== undefined);
  return table(
    [...(hasNodes ? ['NODE'] : []), 'CHECK', 'STATE', 'DETAIL'],
    rows.map((row) => [
      ...(hasNodes ? [row.node ?? ''] : []),
      row.name,
      mark[row.state],
      row.next ? `${row.detail} (${row.next})` : row.detail,
    ]),
  );
}
