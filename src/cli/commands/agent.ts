// podway agent: the daemon of a node. The launcher starts it without this file; here are its help text, and the way to it
// for whoever calls the command line itself.
import type { Command } from 'commander';
import { command } from '../command.ts';

export function agentCommand(): Command {
  const made = command('agent', 'run the agent of this node', [
    'podway agent --node-name ip-10-0-1-20 --kubeconfig /etc/podway/kubeconfig',
    'NODE_NAME=ip-10-0-1-20 PODWAY_INSTALL=1 podway agent --listen :9464',
  ]);
  return made
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[flags...]')
    .action(async (flags: string[]) => {
      const { entryFile } = await import('../../lab/daemon/parts.ts');
      const { execPath, execArgv, env } = process;
      process.execve?.(execPath, [execPath, ...execArgv, entryFile('agent/main'), ...flags], env);
    });
}
