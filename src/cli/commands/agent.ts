// podway agent: the daemon of a node, and the way off it. The launcher starts the daemon without this file; here are its
// help text, the way to it for whoever calls the command line itself, and `agent uninstall`.
import type { Command } from 'commander';
import { act, command, withOutput } from '../command.ts';
import { type OutputOptions, print, printJson } from '../output.ts';

export function agentCommand(): Command {
  const made = command('agent', 'run the agent of this node', [
    'podway agent --node-name ip-10-0-1-20 --kubeconfig /etc/podway/kubeconfig',
    'NODE_NAME=ip-10-0-1-20 PODWAY_INSTALL=1 podway agent --listen :9464',
    'podway agent uninstall --help',
  ]);
  return made
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[flags...]')
    .addCommand(uninstallCommand())
    .action(async (flags: string[]) => {
      const { entryFile } = await import('../../lab/daemon/parts.ts');
      const { execPath, execArgv, env } = process;
      process.execve?.(execPath, [execPath, ...execArgv, entryFile('agent/main'), ...flags], env);
    });
}

type Options = OutputOptions & {
  runDir: string;
  hostBinDir: string;
  hostConfDir: string;
  nodeName?: string;
  kubeconfig?: string;
};

function uninstallCommand(): Command {
  const env = (name: string, fallback: string): string => process.env[name] || fallback;
  return withOutput(
    command('uninstall', 'take Podway off this node, which must be drained and without an agent', [
      'podway agent uninstall',
      'podway agent uninstall --host-bin-dir /opt/cni/bin --host-conf-dir /etc/cni/net.d -o json',
    ]),
  )
    .option('--run-dir <dir>', 'of the agent (PODWAY_RUN_DIR)', env('PODWAY_RUN_DIR', '/run/podway'))
    .option(
      '--host-bin-dir <dir>',
      "the host's plugins (PODWAY_HOST_BIN_DIR)",
      env('PODWAY_HOST_BIN_DIR', '/host/opt/cni/bin'),
    )
    .option(
      '--host-conf-dir <dir>',
      "the host's network configs (PODWAY_HOST_CONF_DIR)",
      env('PODWAY_HOST_CONF_DIR', '/host/etc/cni/net.d'),
    )
    .option(
      '--node-name <name>',
      'whose conditions of Podway are removed (NODE_NAME)',
      process.env['NODE_NAME'] || undefined,
    )
    .option(
      '--kubeconfig <file>',
      "by this API (PODWAY_KUBECONFIG, else the pod's service account)",
      process.env['PODWAY_KUBECONFIG'] || undefined,
    )
    .action(
      act(async (options: Options) => {
        const { uninstall } = await import('../../agent/install/uninstall.ts');
        const { runDir, hostBinDir, hostConfDir, nodeName, kubeconfig } = options;
        const inCluster = kubeconfig === undefined && Boolean(process.env['KUBERNETES_SERVICE_HOST']);
        const isKnown = nodeName !== undefined && (inCluster || kubeconfig !== undefined);
        const done = await uninstall({
          runDir,
          hostBinDir,
          hostConfDir,
          ...(isKnown
            ? { node: { nodeName, inCluster, ...(kubeconfig === undefined ? {} : { kubeconfig }) } }
            : {}),
        });
        if (options.output === 'json') return printJson(done);
        for (const what of done.removed) print(`removed ${what}`);
        for (const note of done.notes) print(note);
        if (done.removed.length === 0) print('there was nothing of Podway on this node');
      }),
    );
}
