// podway ipam show|check|release: who holds which address, and whether journal, kernel, cloud and API agree on it.
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { IpamCheck, IpamNode } from '../../lab/daemon/protocol.ts';
import { act, type Common, command, withLab, withOutput } from '../command.ts';
import { ExitCode } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson } from '../output.ts';
import { differenceTable, ipamText } from '../views.ts';
import { ipamExplainCommand } from './ipam-explain.ts';
import { maxPodsCommand, migrateReportCommand } from './ipam-migrate.ts';
import { simulateCommand } from './ipam-simulate.ts';
import { ipamDefragCommand, ipamReleaseIdleCommand, ipamSubnetsCommand } from './ipam-subnets.ts';
import { traceGenerateCommand } from './ipam-trace.ts';

export function ipamCommand(): Command {
  const show = withOutput(
    withLab(
      command('show', 'ENIs and addresses of the nodes', [
        'podway ipam show',
        'podway ipam show --node node-1 -o json',
      ]),
    ),
  )
    .option('--node <node>', 'only this node')
    .action(
      act(async (options: Common & { node?: string }) => {
        const { control } = await openLab(options);
        const query = options.node === undefined ? '' : `?node=${encodeURIComponent(options.node)}`;
        const nodes = await control.call<IpamNode[]>('GET', `/v1/ipam${query}`);
        if (options.output === 'json') printJson(nodes);
        else print(ipamText(nodes));
      }),
    );
  const check = withOutput(
    withLab(
      command('check', 'compare journal, kernel, cloud and API; differences are exit 1', [
        'podway ipam check',
      ]),
    ),
  ).action(
    act(async (options: Common) => {
      const { control, lab } = await openLab(options);
      const result = await control.call<IpamCheck>('GET', '/v1/ipam/check');
      if (options.output === 'json') printJson(result);
      if (result.ok) return void (options.output === 'json' || print('journal, kernel, cloud and API agree'));
      if (options.output === 'json') throw new ExitCode(1);
      print(differenceTable(result.differences));
      const count = result.differences.length;
      throw new LabError(
        'IPAM_DIFFERENCES',
        `lab ${lab} has ${count} ${count === 1 ? 'difference' : 'differences'} between journal, kernel, cloud and API`,
        'podway lab logs NODE tells what the agent does about them',
      );
    }),
  );
  const release = withLab(
    command('release', 'end the quarantine of an address that nobody has', [
      'podway ipam release 10.0.3.7 --node node-1',
    ]),
  )
    .argument('<address>', 'an address in quarantine')
    .requiredOption('--node <node>', 'the node that keeps it back')
    .action(
      act(async (address: string, options: Common & { node: string }) => {
        const { control } = await openLab(options);
        await control.call('POST', '/v1/ipam/release', { node: options.node, address });
        print(`${address} is out of quarantine on ${options.node}; it cools before it is given again`);
      }),
    );
  return command('ipam', 'addresses', ['podway ipam show'])
    .addCommand(show)
    .addCommand(ipamExplainCommand())
    .addCommand(ipamSubnetsCommand())
    .addCommand(ipamDefragCommand())
    .addCommand(ipamReleaseIdleCommand())
    .addCommand(check)
    .addCommand(release)
    .addCommand(maxPodsCommand())
    .addCommand(migrateReportCommand())
    .addCommand(traceGenerateCommand())
    .addCommand(simulateCommand());
}
