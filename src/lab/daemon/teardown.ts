// `lab down`: removes a lab whatever state it is in. Asks the daemon to let go (ends it when it does not), then, with
// nobody working against it: processes in the lab's namespaces, namespaces with all links, routes and tables in them,
// what the fabric has outside of them, the folder. Each step is safe to repeat; the folder goes last, as it is the map.
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { deleteNetns, listNetns } from '../../kernel/netns.ts';
import { createFabric } from '../fabric/index.ts';
import { ControlClient } from './client.ts';
import { LabError } from './errors.ts';
import { readJson } from './files.ts';
import { takeLock } from './lock.ts';
import { knownLabs, LABS_ROOT, type LabPaths, labPaths, namespacesOf, netnsPath, RUN_ROOT } from './paths.ts';
import { endAll, endProcess, identify, type ProcessId, processesInNamespaces } from './processes.ts';

const DAEMON_GRACE_MS = 5000;
const LOCK_BOUND_MS = 10_000;
const AGENT_GRACE_MS = 3000;

/** False when there was nothing of that lab. */
export async function removeLab(lab: string, say: (text: string) => void): Promise<boolean> {
  const paths = labPaths(lab);
  const before = ownNamespaces(lab);
  if (!existsSync(paths.root) && before.length === 0) return false;
  say('ending its processes');
  const lock = existsSync(paths.root) ? await endDaemon(paths) : undefined;
  if (existsSync(paths.root) && !lock)
    throw new LabError('LAB_BUSY', `another process holds lab ${lab}`, 'try again in a moment');
  try {
    const agents = readNames(paths.nodes).map((node) => readJson<ProcessId>(paths.node(node).agentPid));
    await Promise.all(agents.map((id) => endProcess(id, AGENT_GRACE_MS)));
    await endAll(processesInNamespaces(before.map(netnsPath)), 0);
    say('removing its namespaces');
    if (existsSync(paths.root)) {
      const fabric = createFabric({ lab, dir: paths.root });
      await fabric.destroy();
    }
    for (const name of ownNamespaces(lab)) {
      deleteNetns(name);
      rmSync(netnsPath(name), { force: true });
    }
  } finally {
    lock?.release();
  }
  rmSync(paths.root, { recursive: true, force: true });
  dropWhenEmpty(LABS_ROOT);
  dropWhenEmpty(RUN_ROOT);
  return true;
}

const ownNamespaces = (lab: string): string[] => namespacesOf(lab, listNetns(), knownLabs());

/** Ends the daemon and takes its place, so that none starts meanwhile. One that is just starting has no pid file yet. */
async function endDaemon(paths: LabPaths): Promise<{ release(): void } | undefined> {
  const control = new ControlClient(paths.lab, paths.control);
  const end = performance.now() + LOCK_BOUND_MS;
  do {
    const ping = await control.call<{ pid: number }>('GET', '/v1/ping').catch(() => undefined);
    await endProcess(ping ? identify(ping.pid) : readJson<ProcessId>(paths.pid), DAEMON_GRACE_MS);
    const lock = takeLock(paths.lock);
    if (lock) return lock;
    await sleep(50);
  } while (performance.now() < end);
  return undefined;
}

const readNames = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);

function dropWhenEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // Another lab lives there, or it was never made.
  }
}
