// podway ipam show|check|release: who holds which address, and whether journal, kernel, cloud and API agree on it.
import { isIP } from 'node:net';
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import { openPlace, type PlaceOptions, withPlace } from '../cluster/place.ts';
import { act, type Common, command, withLab } from '../command.ts';
import { ExitCode, reportFailed, usageError } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson } from '../output.ts';
import { differenceTable, ipamText } from '../views.ts';
import { ipamExplainCommand } from './ipam-explain.ts';
import { maxPodsCommand, migrateReportCommand } from './ipam-migrate.ts';
import { simulateCommand } from './ipam-simulate.ts';
import { ipamDefragCommand, ipamReleaseIdleCommand, ipamSubnetsCommand } from './ipam-subnets.ts';
import { traceGenerateCommand } from './ipam-trace.ts';

export function ipamCommand(): Command {
  const show = withPlace(
    command('show', 'ENIs and addresses of the nodes', [
      'podway ipam show',
      'podway ipam show --node node-1 -o json',
      'kubectl podway ipam show',
    ]),
  )
    .option('--node <node>', 'only this node')
    .action(
      act(async (options: PlaceOptions & { node?: string }) => {
        const place = await openPlace(options);
        const { values, failed } = await place.ipam(options.node).finally(() => place.close());
        if (options.output === 'json') printJson(values);
        else if (values.length > 0) print(ipamText(values));
        return reportFailed(failed);
      }),
    );
  const check = withPlace(
    command('check', 'compare journal, kernel, cloud and API; differences are exit 1', [
      'podway ipam check',
      'kubectl podway ipam check',
    ]),
  ).action(
    act(async (options: PlaceOptions) => {
      const place = await openPlace(options);
      const { failed, ...result } = await place.check().finally(() => place.close());
      if (options.output === 'json') printJson(result);
      if (result.ok) return void (options.output === 'json' || print('journal, kernel, cloud and API agree'));
      reportFailed(failed);
      if (options.output === 'json') throw new ExitCode(1);
      const count = result.differences.length;
      if (count === 0) return 1;
      print(differenceTable(result.differences));
      throw new LabError(
        'IPAM_DIFFERENCES',
        `there ${count === 1 ? 'is 1 difference' : `are ${count} differences`} between journal, kernel, cloud and API`,
        "the log of the node's agent tells what it does about them",
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
        if (isIP(address) === 0)
          throw usageError(`"${address}" is not an address`, 'podway ipam show lists them');
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
