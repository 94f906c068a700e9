// podway lab list: the labs of this machine.
import type { Command } from 'commander';
import { knownLabs, labPaths } from '../../lab/daemon/paths.ts';
import { act, command, withOutput } from '../command.ts';
import { controlOf, needAccess } from '../labs.ts';
import { type OutputOptions, print, printJson, table } from '../output.ts';

type Ping = { state: string; ec2Endpoint: string; nodes: number; pods: number };

export function labListCommand(): Command {
  return withOutput(command('list', 'the labs of this machine', ['podway lab list -o json'])).action(
    act(async (options: OutputOptions) => {
      needAccess();
      const labs = await Promise.all(
        knownLabs().map(async (name) => {
          const ping = await controlOf(name)
            .call<Ping>('GET', '/v1/ping')
            .catch(() => undefined);
          return {
            name,
            state: ping?.state ?? 'interrupted',
            ec2Endpoint: ping?.ec2Endpoint ?? '',
            nodes: ping?.nodes ?? 0,
            pods: ping?.pods ?? 0,
            dir: labPaths(name).root,
          };
        }),
      );
      if (options.output === 'json') printJson(labs);
      else if (labs.length === 0) print('no labs');
      else
        print(
          table(
            ['LAB', 'STATE', 'NODES', 'PODS', 'EC2'],
            labs.map((lab) => [lab.name, lab.state, String(lab.nodes), String(lab.pods), lab.ec2Endpoint]),
          ),
        );
    }),
  );
}
