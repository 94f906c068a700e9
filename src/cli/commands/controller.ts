// podway controller: the cluster's side, a process of its own that loads nothing of the command line. Here are its place in
// the help text and the way to it.
import type { Command } from 'commander';
import { command } from '../command.ts';

export function controllerCommand(): Command {
  const made = command('controller', "run the cluster's controller", [
    'podway controller --kubeconfig /etc/podway/kubeconfig --region eu-central-1',
    'POD_NAME=a podway controller --listen :9465',
  ]);
  return made
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[flags...]')
    .action(async (flags: string[]) => {
      const { entryFile } = await import('../../lab/daemon/parts.ts');
      const { execPath, execArgv, env } = process;
      process.execve?.(execPath, [execPath, ...execArgv, entryFile('controller/main'), ...flags], env);
    });
}
