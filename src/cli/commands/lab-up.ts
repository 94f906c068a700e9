// podway lab up: starts or goes on with a lab; returns when its nodes are Ready.
import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { labPaths } from '../../lab/daemon/paths.ts';
import type { Check, IpamNode, UpRequest, UpResult } from '../../lab/daemon/protocol.ts';
import { KUBERNETES_VERSION, kubernetesVersion } from '../../lab/kubernetes/version.ts';
import { parseSettingArguments, settingsHelp } from '../../lab/shape/settings.ts';
import { MAX_NODES } from '../../lab/shape/shape.ts';
import {
  act,
  type Common,
  collect,
  command,
  wholeNumber,
  withLab,
  withOutput,
  withQuiet,
} from '../command.ts';
import { ExitCode, usageError } from '../errors.ts';
import { controlOf, namedLab, needRoot } from '../labs.ts';
import { print, printJson, progress } from '../output.ts';
import { failedChecks, labSummary } from '../views.ts';

type Options = Common & {
  nodes?: number;
  instanceType?: string;
  demo?: boolean;
  file?: string;
  set?: string[];
  kubernetes?: boolean;
  version?: string;
  kubeBin?: string;
};

export function labUpCommand(): Command {
  const made = command('up', 'start a lab, or go on with one; returns when its nodes are Ready', [
    'podway lab up --demo',
    'podway lab up --nodes 3 --instance-type m5.xlarge',
    'podway lab up -f examples/two-tiers.yaml',
    'podway lab up --kubernetes --demo',
    'podway lab up -f examples/security-groups.yaml --demo',
    'podway lab up --lab other --set cooldown=0s --set ec2Latency=realistic',
  ])
    .option(
      '--nodes <k>',
      'nodes, round robin over the subnets (default 2)',
      wholeNumber('--nodes', 1, MAX_NODES),
    )
    .option('--instance-type <type>', 'instance type of the nodes (default m5.large)')
    .option(
      '--demo',
      'a plain instance `db`, four pods, and the connectivity test; or the demo that the file names',
    )
    .option('-f, --file <lab.yaml>', 'the shape from a file')
    .option(
      '--kubernetes',
      'a real Kubernetes instead of the embedded API: etcd to kubelet, containerd, CoreDNS',
    )
    .option('--version <v>', `with --kubernetes: its version (default ${KUBERNETES_VERSION})`)
    .option('--kube-bin <dir>', "with --kubernetes: a folder with its programs, before the cache's")
    .option('--set <key=value>', 'a setting, see below', collect)
    .addHelpText('after', `\nSettings:\n${settingsHelp()}`);
  return withQuiet(withOutput(withLab(made, 'the lab (else PODWAY_LAB, else default)'))).action(act(up));
}

async function up(options: Options): Promise<number> {
  const lab = namedLab(options) ?? 'default';
  const request = await upRequest(options);
  needRoot();
  const { checkMachine } = await import('../doctor/checks.ts');
  await checkMachine();
  const { startDaemon } = await import('../../lab/daemon/start.ts');
  const shown = progress(options);
  const control = controlOf(lab);
  let result: UpResult;
  let checks: Check[] = [];
  let ipam: IpamNode[] = [];
  try {
    shown.say(`lab ${lab}: starting`);
    if (request.flags.kubernetes) await checkPrograms(request.flags.kubernetes, shown.say);
    await startDaemon(labPaths(lab));
    result = await control.follow<UpResult>('POST', '/v1/up', request, (line) => {
      if (line.kind === 'progress') shown.say(`lab ${lab}: ${line.text}`);
    });
    if (options.demo) {
      ({ checks } = await control.follow<{ checks: Check[] }>('POST', '/v1/demo', {}, (line) => {
        if (line.kind === 'item') shown.say(`checked ${(line.item as Check).name}`);
      }));
    }
    if (options.output !== 'json' && !options.quiet) ipam = await control.call('GET', '/v1/ipam');
  } finally {
    shown.done();
  }
  const failed = checks.filter((check) => !check.ok);
  if (options.output === 'json') printJson({ ...result, ...(options.demo ? { checks } : {}) });
  else if (!options.quiet) {
    const podway = process.env['PODWAY_LAUNCHER'] ?? 'podway';
    print(labSummary(lab, { result, checks, ipam, podway }));
  }
  if (failed.length === 0) return 0;
  throw options.output === 'json' ? new ExitCode(1) : failedChecks(failed);
}

function kubernetesFlag({ kubernetes, version, kubeBin }: Options): Pick<UpRequest['flags'], 'kubernetes'> {
  if (!kubernetes) {
    const [idle] = [...(version ? ['--version'] : []), ...(kubeBin ? ['--kube-bin'] : [])];
    if (idle === undefined) return {};
    throw usageError(`${idle} is for a real Kubernetes`, 'add --kubernetes');
  }
  const wanted = kubernetesVersion(version ?? KUBERNETES_VERSION);
  if (wanted === undefined)
    throw usageError(`"${version}" is no version of Kubernetes`, `for example ${KUBERNETES_VERSION}`);
  return { kubernetes: { version: wanted, ...(kubeBin === undefined ? {} : { binDir: resolve(kubeBin) }) } };
}

/** Before anything is made: a lab that lacks its programs would be half there. */
async function checkPrograms(
  { version, binDir }: NonNullable<UpRequest['flags']['kubernetes']>,
  say: (text: string) => void,
): Promise<void> {
  const { ensurePackages } = await import('../../lab/kubernetes/packages.ts');
  const { findBinaries } = await import('../../lab/kubernetes/binaries.ts');
  await ensurePackages(['runc'], say);
  findBinaries({ version, ...(binDir === undefined ? {} : { dir: binDir }) });
}

async function upRequest(options: Options): Promise<UpRequest> {
  const settings = parseSettingArguments(options.set ?? []);
  const demo = options.demo === true;
  const kubernetes = kubernetesFlag(options);
  if (options.instanceType !== undefined) {
    const { instanceTypeExists } = await import('../../lab/shape/types.ts');
    if (!instanceTypeExists(options.instanceType))
      throw usageError(`there is no instance type "${options.instanceType}"`, 'for example m5.large');
  }
  if (options.file === undefined) {
    return {
      demo,
      flags: {
        ...kubernetes,
        settings,
        ...(options.nodes === undefined ? {} : { nodes: options.nodes }),
        ...(options.instanceType === undefined ? {} : { instanceType: options.instanceType }),
      },
    };
  }
  if (options.nodes !== undefined || options.instanceType !== undefined) {
    throw usageError('--file says which nodes there are', 'leave --nodes and --instance-type away');
  }
  let text: string;
  try {
    text = readFileSync(options.file, 'utf8');
  } catch (error) {
    throw usageError(
      `${options.file} cannot be read: ${(error as Error).message}`,
      'name a lab.yaml; examples/ holds some',
    );
  }
  const { parseLabYaml } = await import('../../lab/shape/yaml-rules.ts');
  const shape = parseLabYaml(text, basename(options.file));
  return { demo, flags: kubernetes, shape: { ...shape, settings: { ...shape.settings, ...settings } } };
}
