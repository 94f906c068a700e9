// The end of a node of a real cluster, from the disk and the kernel alone: nothing of it needs to run, and each step can
// be repeated. Shims and daemons are in the instance's network namespace, containers in their cgroups; the mounts of the
// node's view go with its last process.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type LabPaths, netnsPath } from '../daemon/paths.ts';
import { endAll, processesInNamespaces } from '../daemon/processes.ts';
import { containerGroups, processesInCgroups, removeCgroup } from './cgroups.ts';
import { realNodePaths } from './layout.ts';

/** A shim may start one more program while it ends; more rounds than this mean a defect. */
const ROUNDS = 10;

/** Nothing of the node runs on, and its /run is empty, as after a power-off. */
export async function endRealNode(labPaths: LabPaths, node: string): Promise<void> {
  const paths = realNodePaths(labPaths, node);
  const namespace = netnsPath(labPaths.netns(node));
  // Shims first: one that lives sees its container die and calls for more.
  for (let tries = 0; tries < ROUNDS; tries += 1) {
    const alive = [...processesInNamespaces([namespace]), ...processesInCgroups(containerGroups(paths))];
    if (alive.length === 0) break;
    await endAll(alive, 0);
  }
  for (const group of containerGroups(paths)) await removeCgroup(group);
  for (const dir of [paths.run, paths.containerdRun, paths.netns, paths.shadows])
    if (existsSync(dir))
      for (const entry of readdirSync(dir)) rmSync(join(dir, entry), { recursive: true, force: true });
  for (const program of ['view', 'containerd', 'kubelet', 'kube-proxy'])
    rmSync(paths.processPid(program), { force: true });
  rmSync(paths.agentPid, { force: true });
}
