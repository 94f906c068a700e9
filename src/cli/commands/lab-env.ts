// podway lab env: what a shell needs to talk to the lab's EC2 and Kubernetes.
import type { Command } from 'commander';
import { act, type Common, command, withLab, withOutput } from '../command.ts';
import { ec2Of, openLab } from '../labs.ts';
import { print, printJson } from '../output.ts';

const UNSET = ['AWS_SESSION_TOKEN', 'AWS_PROFILE'];

export function labEnvCommand(): Command {
  return withOutput(
    withLab(
      command('env', 'export lines for AWS clients and kubectl', [
        'eval "$(podway lab env)"',
        'podway lab env --lab other',
      ]),
    ),
  ).action(
    act(async (options: Common) => {
      const { lab, paths } = await openLab(options);
      const { endpoint, region, keys } = ec2Of(lab, paths);
      const values: Record<string, string> = {
        AWS_ENDPOINT_URL: endpoint,
        AWS_ENDPOINT_URL_EC2: endpoint,
        AWS_REGION: region,
        // boto3 reads this one alone.
        AWS_DEFAULT_REGION: region,
        AWS_ACCESS_KEY_ID: keys.accessKeyId,
        AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
        KUBECONFIG: paths.kubeconfig,
        PODWAY_LAB: lab,
      };
      if (options.output === 'json') return printJson({ ...values, unset: UNSET });
      for (const [name, value] of Object.entries(values)) print(`export ${name}='${value}'`);
      print(`unset ${UNSET.join(' ')}`);
    }),
  );
}
