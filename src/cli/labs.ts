// Which lab a command talks to: the flag, PODWAY_LAB, the only lab that is up, `default`.
import { accessSync, constants, existsSync } from 'node:fs';
import { ControlClient } from '../lab/daemon/client.ts';
import { LabError } from '../lab/daemon/errors.ts';
import { readJson } from '../lab/daemon/files.ts';
import { checkLabName, knownLabs, type LabPaths, labPaths, RUN_ROOT } from '../lab/daemon/paths.ts';
import { readRecord } from '../lab/daemon/record.ts';
import { usageError } from './errors.ts';
import { Dump } from './sysdump/dump.ts';

/** `from`: a dump instead of a lab. */
export type LabOptions = { lab?: string; name?: string; from?: string };

export const controlOf = (lab: string): ControlClient => new ControlClient(lab, labPaths(lab).control);

export function namedLab(options: LabOptions): string | undefined {
  if (options.lab !== undefined && options.name !== undefined && options.lab !== options.name) {
    throw usageError(`--lab ${options.lab} and --name ${options.name} name two labs`, 'give one of them');
  }
  const name = options.lab ?? options.name ?? (process.env['PODWAY_LAB'] || undefined);
  return name === undefined ? undefined : checkLabName(name);
}

/** The lab of every command but `lab up`. Two up and none named is wrong usage. */
export async function resolveLab(options: LabOptions): Promise<string> {
  const named = namedLab(options);
  if (named !== undefined) return named;
  const known = knownLabs();
  const up: string[] = [];
  for (const lab of known) if (await controlOf(lab).alive()) up.push(lab);
  if (up.length > 1) throw usageError(`labs ${up.join(' and ')} are up`, 'name one with --lab');
  // A lab whose daemon was killed is still the only one there is.
  return up[0] ?? (known.length === 1 ? known[0]! : 'default');
}

/** True where `podway lab env` set the environment, of a lab that runs the agents itself: no pod of its cluster has one. */
export function isEnvOfOwnAgents(): boolean {
  const lab = namedLab({});
  if (lab === undefined || process.env['KUBECONFIG'] !== labPaths(lab).kubeconfig) return false;
  needAccess();
  const record = readRecord(labPaths(lab).record);
  return record !== undefined && record.shape.settings.agent !== 'none';
}

/** Only root may use labs: another user gets this error and nothing else. */
export function needAccess(root: string = RUN_ROOT): void {
  try {
    accessSync(root, constants.R_OK | constants.X_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') return;
    throw new LabError('NOT_ROOT', 'the labs of this machine belong to root', 'run it with sudo');
  }
}

export async function openLab(
  options: LabOptions,
): Promise<{ lab: string; paths: LabPaths; control: ControlClient }> {
  needAccess();
  const lab = await resolveLab(options);
  return { lab, paths: labPaths(lab), control: controlOf(lab) };
}

/** What a command that reads asks of a lab: its process, and its agents' introspection. */
export type LabReader = {
  lab: string;
  call: ControlClient['call'];
  agent<T>(node: string, path: string): Promise<T>;
};

/** A lab, or the dump of one. */
export async function readLab(options: LabOptions): Promise<LabReader> {
  if (options.from !== undefined) {
    if (options.lab !== undefined || options.name !== undefined)
      throw usageError('--from and --lab name two places', 'give one of them');
    const dump = Dump.open(options.from);
    dump.needLab();
    return {
      lab: dump.place.name,
      call: (method, path) => dump.call(method, path),
      agent: (node, path) => dump.agent(node, path),
    };
  }
  const { lab, paths, control } = await openLab(options);
  return {
    lab,
    call: (method, path, body) => control.call(method, path, body),
    async agent(node, path) {
      const { askSocket } = await import('./cluster/local.ts');
      return askSocket(paths.node(node).apiSocket, path);
    },
  };
}

/** Where no daemon is asked: its logs and namespaces outlive it, but not `lab down`. */
export const labNotUp = (lab: string): LabError =>
  new LabError('LAB_NOT_UP', `lab ${lab} is not up`, `podway lab up --lab ${lab}`);

/** How a lab's EC2 is asked. Throws NOT_ROOT, LAB_NOT_UP. */
export function ec2Of(lab: string, paths: LabPaths) {
  if (existsSync(paths.root) && process.getuid?.() !== 0)
    throw new LabError('NOT_ROOT', `the keys of lab ${lab} belong to root`, 'run it with sudo');
  const record = readRecord(paths.record);
  const keys = readJson<{ accessKeyId: string; secretAccessKey: string }>(paths.keys);
  if (!record || !keys) throw labNotUp(lab);
  return { endpoint: `http://127.0.0.1:${record.ports.ec2}`, region: record.shape.region, keys };
}

export function needRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new LabError(
      'NOT_ROOT',
      'this needs root: it makes network namespaces and links',
      'run it with sudo',
    );
  }
}
