// podway lab exec WHERE -- CMD: runs a command where a node, an instance, the router or the internet host is.
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import { readJson } from '../../lab/daemon/files.ts';
import { netnsPath } from '../../lab/daemon/paths.ts';
import { isAlive, type ProcessId } from '../../lab/daemon/processes.ts';
import { IN_VIEW, realNodePaths } from '../../lab/kubernetes/layout.ts';
import { act, type Common, command, withLab } from '../command.ts';
import { ExitCode, report } from '../errors.ts';
import { labNotUp, openLab } from '../labs.ts';
import { OURS, runInNamespace } from '../run.ts';

export function labExecCommand(): Command {
  return withLab(
    command('exec', 'run a command on a node, a plain instance, `internet` or `vpc` (the router)', [
      'podway lab exec node-1 -- ip address',
      'podway lab exec vpc -- ping -c 1 10.0.0.10',
    ]),
  )
    .argument('<where>', 'a node, an instance, internet or vpc')
    .argument('<cmd...>', 'the command, after --')
    .action(
      act(async (where: string, cmd: string[], options: Common) => {
        try {
          const { paths, lab } = await openLab(options);
          if (process.getuid?.() !== 0)
            throw new LabError('NOT_ROOT', 'entering a namespace needs root', 'run it with sudo');
          const { existsSync } = await import('node:fs');
          if (!existsSync(paths.root)) throw labNotUp(lab);
          const path = netnsPath(paths.netns(where));
          if (!/^[a-z0-9][a-z0-9._-]*$/i.test(where) || where.startsWith('pod-') || !existsSync(path)) {
            throw new LabError(
              'NO_SUCH_PLACE',
              `lab ${lab} has no node or running instance "${where}"`,
              `podway lab status --lab ${lab} lists them`,
            );
          }
          const holder = readJson<ProcessId>(realNodePaths(paths, where).processPid('view'));
          if (holder && isAlive(holder))
            return await runInNamespace(
              path,
              cmd,
              { KUBECONFIG: `${IN_VIEW.kubernetes}/kubelet.conf` },
              { holder: holder.pid },
            );
          return await runInNamespace(path, cmd, { KUBECONFIG: paths.kubeconfig });
        } catch (error) {
          throw new ExitCode(report(error, false) === 2 ? 2 : OURS);
        }
      }),
    );
}
