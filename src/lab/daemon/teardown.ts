// `lab down`: removes a lab in any state. Asks the daemon to stop (kills it otherwise) and then removes, in this order:
// processes with the lab's mark or in its namespaces, the namespaces with their contents, the folder. Each step is safe
// to repeat; the folder is last, since it lists the rest. A second `lab down` at the same time waits for the first and
// finds nothing.
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deleteNetns, listNetns } from '../../kernel/netns.ts';
import { openSandboxJournal } from '../cluster/nodes/sandbox-journal.ts';
import { createFabric } from '../fabric/index.ts';
import { INTERNET, ROUTER } from '../fabric/names.ts';
import { Spaces } from '../fabric/spaces.ts';
import { endRealNode } from '../kubernetes/end-node.ts';
import { BULK_ROOT, bulkFolder } from '../kubernetes/layout.ts';
import { ControlClient } from './client.ts';
import { LabError } from './errors.ts';
import { readJson } from './files.ts';
import { takeLock } from './lock.ts';
import { processesMarked, readMark } from './mark.ts';
import { LABS_ROOT, type LabPaths, labPaths, namespacesOf, netnsPath, RUN_ROOT } from './paths.ts';
import { endAll, endProcess, identify, type ProcessId, processesInNamespaces } from './processes.ts';
import { isEarlier } from './record.ts';

const DAEMON_GRACE_MS = 5000;
/** Longest that another `lab down` of the same lab is waited for. */
const LOCK_BOUND_MS = 30_000;
const LOCK_PAUSE_MS = 50;
const AGENT_GRACE_MS = 3000;

/** False when there was nothing of that lab. */
export async function removeLab(lab: string, say: (text: string) => void): Promise<boolean> {
  const paths = labPaths(lab);
  if (!existsSync(paths.root)) return removeNamespaces(lab, namespacesOf(lab, listNetns()));
  say('ending its processes');
  const lock = await endDaemon(paths);
  if (lock === 'gone') return false;
  try {
    const agents = readNames(paths.nodes).map((node) => readJson<ProcessId>(paths.node(node).agentPid));
    await Promise.all(agents.map((id) => endProcess(id, AGENT_GRACE_MS)));
    const namespaces = [...namespacesOf(lab, listNetns()), ...namedInFolder(paths)];
    await endAll(
      [...processesMarked(readMark(paths)), ...processesInNamespaces(namespaces.map(netnsPath))],
      0,
    );
    for (const node of readNames(paths.nodes)) await endRealNode(paths, node);
    rmSync(bulkFolder(paths), { recursive: true, force: true });
    for (const dir of [BULK_ROOT, dirname(BULK_ROOT)]) dropWhenEmpty(dir);
    say('removing its namespaces');
    const fabric = createFabric({ lab, dir: paths.root });
    await fabric.destroy();
    await removeNamespaces(lab, namespaces);
    removeFolder(paths);
  } finally {
    lock.release();
  }
  dropWhenEmpty(LABS_ROOT);
  dropWhenEmpty(RUN_ROOT);
  return true;
}

async function removeNamespaces(lab: string, names: string[]): Promise<boolean> {
  await endAll(processesInNamespaces(names.map(netnsPath)), 0);
  for (const name of new Set([...names, ...namespacesOf(lab, listNetns())])) deleteNetns(name);
  return names.length > 0;
}

/** Namespace names recorded in the folder. A lab of an earlier version can be identified only by them. */
function namedInFolder(paths: LabPaths): string[] {
  const journal = openSandboxJournal(paths.pods);
  const pods = journal.list().filter((record) => !record.hostNetwork);
  const places = isEarlier(paths.record)
    ? [ROUTER, INTERNET, ...new Spaces(paths.lab, paths.root).recorded()]
    : [];
  return [...pods.map((record) => record.netns), ...places.map((where) => `podway-${paths.lab}-${where}`)];
}

/**
 * Ends the daemon and takes its place, so that none starts meanwhile. One that is just starting has no pid file yet.
 * `gone`: another `lab down` was here.
 */
async function endDaemon(paths: LabPaths): Promise<{ release(): void } | 'gone'> {
  const control = new ControlClient(paths.lab, paths.control);
  const end = performance.now() + LOCK_BOUND_MS;
  do {
    const ping = await control.call<{ pid: number }>('GET', '/v1/ping').catch(() => undefined);
    await endProcess(ping ? identify(ping.pid) : readJson<ProcessId>(paths.pid), DAEMON_GRACE_MS);
    if (!existsSync(paths.root)) return 'gone';
    const lock = takeLock(paths.lock);
    if (lock) return lock;
    await sleep(LOCK_PAUSE_MS);
  } while (performance.now() < end);
  throw new LabError('LAB_BUSY', `another process holds lab ${paths.lab}`, 'try again in a moment');
}

/** Removes the lock's file last, while the lock is held: a later `lab down` finds nothing. */
function removeFolder(paths: LabPaths): void {
  const lock = basename(paths.lock);
  for (const entry of readdirSync(paths.root)) {
    if (!entry.startsWith(lock)) rmSync(join(paths.root, entry), { recursive: true, force: true });
  }
  for (const entry of readdirSync(paths.root))
    rmSync(join(paths.root, entry), { recursive: true, force: true });
  dropWhenEmpty(paths.root);
}

const readNames = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);

function dropWhenEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Another lab lives there, the next `lab up` has begun, or it is gone already.
    if (code !== 'ENOTEMPTY' && code !== 'ENOENT' && code !== 'EBUSY') throw error;
  }
}
