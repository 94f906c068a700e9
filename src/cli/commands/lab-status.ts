// podway lab status: all that there is in a lab.
import type { Command } from 'commander';
import type { LabStatus } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withLab, withOutput } from '../command.ts';
import { openLab } from '../labs.ts';
import { print, printJson } from '../output.ts';
import { statusText } from '../views.ts';

export function labStatusCommand(): Command {
  return withOutput(
    withLab(
      command('status', 'VPCs, nodes, instances and pods of a lab', [
        'podway lab status',
        'podway lab status -o json',
      ]),
    ),
  ).action(
    act(async (options: Common) => {
      const { control } = await openLab(options);
      const status = await control.call<LabStatus>('GET', '/v1/status');
      if (options.output === 'json') printJson(status);
      else print(statusText(status));
    }),
  );
}
