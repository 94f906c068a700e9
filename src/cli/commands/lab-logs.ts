// podway lab logs WHERE: what a node's agent, an instance's server, the internet host or the lab itself wrote.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { LabPaths } from '../../lab/daemon/paths.ts';
import { CONTROL_PLANE, controlPlanePaths, realNodePaths } from '../../lab/kubernetes/layout.ts';
import { act, type Common, command, withLab } from '../command.ts';
import { labNotUp, openLab } from '../labs.ts';

export function labLogsCommand(): Command {
  return withLab(
    command(
      'logs',
      'the log of a node (its agent), a plain instance, `internet`, `controller` or `vpc` (the lab itself)',
      ['podway lab logs node-1', 'podway lab logs db --follow', 'podway lab logs node-1 --program kubelet'],
    ),
  )
    .argument('<where>', 'a node, an instance, internet, controller or vpc')
    .option('-f, --follow', 'go on as it grows')
    .option(
      '--program <name>',
      'with --kubernetes, of a node: kubelet, containerd, kube-proxy; of control-plane: kube-apiserver (default), etcd, kube-scheduler, kube-controller-manager',
    )
    .action(
      act(async (where: string, options: Common & { follow?: boolean; program?: string }) => {
        const { lab, paths } = await openLab(options);
        if (!existsSync(paths.root)) throw labNotUp(lab);
        if (![where, options.program ?? 'agent'].every((each) => /^[a-z0-9][a-z0-9._-]*$/i.test(each)))
          throw noLog(lab, where);
        const candidates = await logsOf(paths, where, options.program);
        const file = candidates.find((each) => existsSync(each));
        if (file === undefined) throw noLog(lab, where);
        const { tail } = await import('../tail.ts');
        await tail(file, options.follow === true);
      }),
    );
}

async function logsOf(paths: LabPaths, where: string, program: string | undefined): Promise<string[]> {
  if (where === CONTROL_PLANE) return [controlPlanePaths(paths).log(program ?? 'kube-apiserver')];
  if (program !== undefined && program !== 'agent') return [realNodePaths(paths, where).processLog(program)];
  if (where === 'vpc') return [paths.log];
  const files = [paths.node(where).agentLog, join(paths.instance(where), 'log')];
  if (where !== 'controller') return files;
  // Loaded here: the command line of an image has no lab.
  const { controllerPaths } = await import('../../lab/cluster/controller.ts');
  return [...files, controllerPaths(paths.controller).log];
}

const noLog = (lab: string, where: string): LabError =>
  new LabError(
    'NO_SUCH_PLACE',
    `lab ${lab} has no log of "${where}"`,
    `WHERE is a node, an instance that serves, internet, controller or vpc; podway lab status --lab ${lab} lists them`,
  );
