// podway status: who serves and who does not, by node: of a cluster's agents, of this node's, or of a lab.
import type { Command } from 'commander';
import type { NodeView } from '../../agent/routes.ts';
import type { LabStatus } from '../../lab/daemon/protocol.ts';
import { openPlace, type PlaceOptions, placeKind, withPlace } from '../cluster/place.ts';
import { act, command } from '../command.ts';
import { reportFailed } from '../errors.ts';
import { readLab } from '../labs.ts';
import { green, print, printJson, red, table, yellow } from '../output.ts';
import { statusText } from '../views.ts';

export function statusCommand(): Command {
  return withPlace(
    command('status', 'which nodes give pods their network, and why others do not', [
      'kubectl podway status',
      'podway status --local -o json',
      'podway status --lab default',
    ]),
  ).action(
    act(async (options: PlaceOptions) => {
      const isJson = options.output === 'json';
      if (placeKind(options) === 'lab') {
        const lab = await readLab(options);
        const status = await lab.call<LabStatus>('GET', '/v1/status');
        if (isJson) printJson(status);
        else print(statusText(status));
        return 0;
      }
      const place = await openPlace(options);
      const { values, failed } = await place.nodes().finally(() => place.close());
      if (isJson) printJson(values);
      else if (values.length > 0) print(agentTable(values));
      const down = values.filter(({ cause }) => cause !== null).length;
      return Math.max(reportFailed(failed), down > 0 ? 1 : 0);
    }),
  );
}

function agentTable(nodes: NodeView[]): string {
  return table(
    ['NODE', 'SERVES', 'VERSION', 'ENIS', 'HELD', 'FREE', 'COOLING', 'CONFLIST', 'CAUSE'],
    nodes.map(({ node, cause, version, enis, totals, host }) => [
      node,
      cause ? red('no') : green('yes'),
      version,
      String(enis),
      String(totals?.held ?? '-'),
      String(totals?.free ?? '-'),
      String(totals?.cooling ?? '-'),
      conflist(host),
      causeText(cause ?? host?.error ?? null),
    ]),
  );
}

function conflist(host: NodeView['host']): string {
  if (!host) return '-';
  if (host.conflist !== 'installed') return red(host.conflist);
  const other = host.others.find(({ wins, damaged }) => wins && damaged === null);
  return other ? yellow(`behind ${other.file}`) : green('installed');
}

const causeText = (cause: { code: string; message: string } | null): string =>
  cause ? `${cause.code}: ${cause.message}` : '';
