// A lab of a test: made and removed by the command line as a user would, asked over its control socket, and killed at
// its pid files. Every name begins as the test says, so that two tests and a user's lab stand side by side.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { KILL_AT, KILLED_AT } from '../../src/agent/faults.ts';
import { ControlClient } from '../../src/lab/daemon/client.ts';
import { type LabPaths, labPaths } from '../../src/lab/daemon/paths.ts';
import { identify, isAlive, type ProcessId } from '../../src/lab/daemon/processes.ts';
import type { IpamCheck, IpamNode, LabStatus, PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from './wait.ts';

const run = promisify(execFile);
const podway = join(import.meta.dirname, '../../bin/podway');

export const podwayCommand = (args: string[], env: Record<string, string> = {}) =>
  run(podway, args, { env: { ...process.env, ...env }, maxBuffer: 64 << 20, timeout: 120_000 });

/** The families of every test's lab that names none: `npm run test:families` runs the suites again with both. */
export const FAMILIES = process.env['PODWAY_TEST_FAMILIES'];

export type LabOptions = { nodes?: number; instanceType?: string; set?: string[] };

export class TestLab {
  readonly name: string;
  readonly paths: LabPaths;
  readonly control: ControlClient;
  readonly #options: LabOptions;

  constructor(name: string, options: LabOptions = {}) {
    this.name = name;
    this.paths = labPaths(name);
    this.control = new ControlClient(name, this.paths.control);
    this.#options = options;
  }

  /** Starts it, or goes on with it after a kill. Its agents look for `kill-at` files. */
  async up(): Promise<void> {
    const { nodes, instanceType, set = [] } = this.#options;
    const args = ['lab', 'up', '--lab', this.name, '--quiet'];
    if (nodes !== undefined) args.push('--nodes', String(nodes));
    if (instanceType !== undefined) args.push('--instance-type', instanceType);
    const isSet = (key: string) => set.some((each) => each.startsWith(`${key}=`));
    const families = FAMILIES && !isSet('families') ? [`families=${FAMILIES}`] : [];
    const controller = isSet('controller') ? [] : ['controller=none'];
    for (const each of [...set, ...families, ...controller]) args.push('--set', each);
    await podwayCommand(args, { PODWAY_FAULT: 'kill' });
  }

  async down(): Promise<void> {
    await podwayCommand(['lab', 'down', '--lab', this.name, '--quiet']);
  }

  status = (): Promise<LabStatus> => this.control.call('GET', '/v1/status');
  pods = (): Promise<PodView[]> => this.control.call('GET', '/v1/pods');
  show = (): Promise<IpamNode[]> => this.control.call('GET', '/v1/ipam');
  check = (): Promise<IpamCheck> => this.control.call('GET', '/v1/ipam/check');

  run(name: string, node: string, timeoutMs = 60_000): Promise<PodView> {
    const request = { namespace: 'default', name, node, labels: {}, command: [], timeoutMs, wait: true };
    return this.control.follow('POST', '/v1/pods', request, () => {});
  }

  async remove(names: string[], timeoutMs = 60_000): Promise<string[]> {
    const request = { namespace: 'default', names, timeoutMs };
    const { deleted } = await this.control.follow<{ deleted: string[] }>(
      'POST',
      '/v1/pods/delete',
      request,
      () => {},
    );
    return deleted;
  }

  /** Waits until all views agree, and answers what the nodes hold. Throws with the differences that stay. */
  async agreed(boundMs = 60_000): Promise<IpamNode[]> {
    let last: IpamCheck | undefined;
    try {
      // An agent may die between the two: then both are asked again.
      return await eventually(
        'ipam check is clean',
        async () => {
          last = undefined;
          last = await this.check();
          return last.ok && this.show();
        },
        boundMs,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${JSON.stringify(last?.differences, null, 1)}`);
    }
  }

  agentOf(node: string): ProcessId | undefined {
    return readId(this.paths.node(node).agentPid);
  }

  /** Asks the agent to end itself at the `count`-th boundary of that name after the scope's next begin. */
  armKill(node: string, scope: string, count: number, name = '*'): void {
    const file = join(this.paths.node(node).run, KILL_AT);
    writeFileSync(`${file}.new`, `${scope} ${name} ${count}`);
    renameSync(`${file}.new`, file);
  }

  /** Where the last armed kill fell (`SCOPE COUNT NAME`); forgotten once read. */
  killedAt(node: string): string | undefined {
    const file = join(this.paths.node(node).run, KILLED_AT);
    if (!existsSync(file)) return undefined;
    const text = readFileSync(file, 'utf8');
    rmSync(file);
    return text;
  }

  disarm(node: string): void {
    rmSync(join(this.paths.node(node).run, KILL_AT), { force: true });
  }

  /** The last lines of the lab's and its agents' logs: for a test that failed, before `down` takes them away. */
  lastWords(lines = 12): string {
    const nodes = existsSync(this.paths.nodes) ? readdirSync(this.paths.nodes) : [];
    const logs = [this.paths.log, ...nodes.map((node) => this.paths.node(node).agentLog)];
    const tail = (file: string) =>
      readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '' && !line.includes('put back what was changed'))
        .slice(-lines)
        .join('\n');
    return logs
      .filter((file) => existsSync(file))
      .map((file) => `== ${file}\n${tail(file)}`)
      .join('\n');
  }

  killAgent(node: string): void {
    kill9(this.agentOf(node));
  }

  killDaemon(): void {
    kill9(readId(this.paths.pid));
  }
}

function kill9(id: ProcessId | undefined): void {
  if (id === undefined || !isAlive(id)) return;
  try {
    process.kill(id.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function readId(file: string): ProcessId | undefined {
  try {
    const id = JSON.parse(readFileSync(file, 'utf8')) as ProcessId;
    return identify(id.pid)?.startTime === id.startTime ? id : undefined;
  } catch {
    return undefined;
  }
}

/** Addresses that two attachments of the shown nodes hold at once. */
export function heldTwice(shown: IpamNode[]): string[] {
  const held = shown.flatMap((node) =>
    node.enis.flatMap((eni) => eni.addresses.filter((each) => each.state === 'held').map((each) => each.ip)),
  );
  return held.filter((ip, index) => held.indexOf(ip) !== index);
}
