// podway node list
import type { Command } from 'commander';
import type { LabStatus } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withDump, withLab, withOutput } from '../command.ts';
import { readLab } from '../labs.ts';
import { print, printJson } from '../output.ts';
import { nodeTable } from '../views.ts';

export function nodeCommand(): Command {
  const list = withDump(
    withOutput(
      withLab(command('list', 'the nodes of a lab', ['podway node list', 'podway node list -o json'])),
    ),
  ).action(
    act(async (options: Common) => {
      const lab = await readLab(options);
      const { nodes } = await lab.call<LabStatus>('GET', '/v1/status');
      if (options.output === 'json') printJson(nodes);
      else print(nodes.length === 0 ? 'no nodes' : nodeTable(nodes));
    }),
  );
  return command('node', 'nodes', ['podway node list']).addCommand(list);
}
