// podway lab env: what a shell needs to talk to the lab's EC2 and Kubernetes.
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import { readJson } from '../../lab/daemon/files.ts';
import { readRecord } from '../../lab/daemon/record.ts';
import { act, type Common, command, withLab, withOutput } from '../command.ts';
import { openLab } from '../labs.ts';
import { print, printJson } from '../output.ts';

type Keys = { accessKeyId: string; secretAccessKey: string };
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
      if (existsSync(paths.root) && process.getuid?.() !== 0)
        throw new LabError('NOT_ROOT', `the keys of lab ${lab} belong to root`, 'run it with sudo');
      const record = readRecord(paths.record);
      const keys = readJson<Keys>(paths.keys);
      if (!record || !keys)
        throw new LabError('LAB_NOT_UP', `lab ${lab} is not up`, `podway lab up --lab ${lab}`);
      const endpoint = `http://127.0.0.1:${record.ports.ec2}`;
      const values: Record<string, string> = {
        AWS_ENDPOINT_URL: endpoint,
        AWS_ENDPOINT_URL_EC2: endpoint,
        AWS_REGION: record.shape.region,
        // boto3 reads this one alone.
        AWS_DEFAULT_REGION: record.shape.region,
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
