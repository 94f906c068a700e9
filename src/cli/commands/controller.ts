// podway controller: the cluster's side. The launcher starts the daemon without this file; here are its place in the help
// text, the way to it for whoever calls the command line itself, and `controller clear`.
import type { Command } from 'commander';
import { act, command, withOutput } from '../command.ts';
import { type OutputOptions, print, printJson } from '../output.ts';

export function controllerCommand(): Command {
  const made = command('controller', "run the cluster's controller", [
    'podway controller --kubeconfig /etc/podway/kubeconfig --region eu-central-1',
    'POD_NAME=a podway controller --listen :9465',
    'podway controller clear --help',
  ]);
  return made
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[flags...]')
    .addCommand(clearCommand())
    .action(async (flags: string[]) => {
      const { entryFile } = await import('../../lab/daemon/parts.ts');
      const { execPath, execArgv, env } = process;
      process.execve?.(execPath, [execPath, ...execArgv, entryFile('controller/main'), ...flags], env);
    });
}

type Options = OutputOptions & { kubeconfig?: string; namespace: string; lease: string };

function clearCommand(): Command {
  return withOutput(
    command('clear', 'remove all that agents and controller have left in the API', [
      'podway controller clear --kubeconfig ~/.kube/config',
      'podway controller clear -o json',
    ]),
  )
    .option(
      '--kubeconfig <file>',
      "of the cluster (PODWAY_KUBECONFIG, KUBECONFIG, else the pod's service account)",
      process.env['PODWAY_KUBECONFIG'] || undefined,
    )
    .option(
      '--namespace <name>',
      "of the Lease and the webhooks' Secret (POD_NAMESPACE)",
      process.env['POD_NAMESPACE'] || 'kube-system',
    )
    .option('--lease <name>', 'its name (PODWAY_LEASE)', process.env['PODWAY_LEASE'] || 'podway-controller')
    .action(
      act(async (options: Options) => {
        const [{ clear }, { clusterConfig }, kube] = await Promise.all([
          import('../../controller/clear.ts'),
          import('../cluster/credentials.ts'),
          import('../../kube/index.ts'),
        ]);
        const { kubeconfig, namespace, lease } = options;
        const client = new kube.KubeClient(
          await clusterConfig(kubeconfig === undefined ? {} : { kubeconfig }),
        );
        try {
          const done = await clear({ client, namespace, lease });
          if (options.output === 'json') printJson(done);
          else {
            print(
              `removed ${done.podwayNodes} PodwayNodes, ${done.cniNodes} CNINodes, ${done.secrets} Secrets, and of Nodes ${done.taints} taints, ${done.conditions} conditions and ${done.capacities} capacities of branches`,
            );
            if (!done.quiet) print('agents or a controller still write them: end those first');
          }
          return done.quiet ? 0 : 1;
        } finally {
          client.close();
        }
      }),
    );
}
