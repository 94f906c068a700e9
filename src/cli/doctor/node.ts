// What `podway doctor --local` and `kubectl podway doctor` find on a node: its agent, what is installed on the host, other
// networks' configs, and what the kernel has.
import type { NodeView } from '../../agent/routes.ts';
import { forwardingRows, kernelRows, type Row } from './checks.ts';

const row = (name: string, state: Row['state'], detail: string, next = ''): Row => ({
  name,
  state,
  detail,
  next,
});

export function agentRows({ cause, host, node, version, enis, totals }: NodeView): Row[] {
  const rows: Row[] = [];
  if (cause) rows.push(row('agent', 'missing', `${cause.code}: ${cause.message}`, cause.next ?? ''));
  else {
    const counts = totals ? `, ${totals.held} held and ${totals.free} free addresses` : '';
    rows.push(
      row(
        'agent',
        'ok',
        `version ${version} serves ${node} with ${enis} ${enis === 1 ? 'ENI' : 'ENIs'}${counts}`,
      ),
    );
  }
  if (!host) {
    rows.push(
      row(
        'conflist',
        'note',
        'the agent installs nothing on this host',
        'start it with --install, or install both by hand',
      ),
    );
    return rows;
  }
  const { plugin, conflist, binDir, confDir, chain, error, others } = host;
  rows.push(
    plugin === 'installed'
      ? row('plugin', 'ok', `${binDir}/podway-cni is this agent's`)
      : row('plugin', 'missing', `${error?.message ?? `${binDir} has no podway-cni`}`, error?.next ?? ''),
    conflist === 'installed'
      ? row('conflist', 'ok', `${confDir}: ${['podway-cni', ...chain].join(', ')}`)
      : row(
          'conflist',
          conflist === 'waiting' ? 'note' : 'missing',
          error?.message ??
            (conflist === 'waiting' ? 'written when the node can serve' : `${confDir} lacks it`),
          error?.next ?? '',
        ),
  );
  for (const { wins, damaged, text } of others)
    rows.push(
      row(
        'other network',
        wins && damaged === null ? 'missing' : 'note',
        text,
        damaged === null ? 'remove it when no pod of it is left' : 'remove it',
      ),
    );
  return rows;
}

/** Of the node that this runs on, from its agent's answer. */
export const nodeRows = async (view: NodeView): Promise<Row[]> => [
  ...agentRows(view),
  ...(await kernelRows()),
  ...(await forwardingRows()),
];
