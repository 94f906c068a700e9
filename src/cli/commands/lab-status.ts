// podway lab status: all that there is in a lab.
import type { Command } from 'commander';
import type { LabStatus } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withDump, withLab, withOutput } from '../command.ts';
import { readLab } from '../labs.ts';
import { print, printJson } from '../output.ts';
import { statusText } from '../views.ts';

export function labStatusCommand(): Command {
  return withDump(
    withOutput(
      withLab(
        command('status', 'VPCs, nodes, instances and pods of a lab', [
          'podway lab status',
          'podway lab status -o json',
        ]),
      ),
    ),
  ).action(
    act(async (options: Common) => {
      const lab = await readLab(options);
      const status = await lab.call<LabStatus>('GET', '/v1/status');
      if (options.output === 'json') printJson(status);
      else print(statusText(status));
    }),
  );
}
