// Ends an instance's sandboxes and records after a power-off or a termination. Reads only the disk, the kernel and the
// API, so that it also finishes the work of a killed daemon. Each step can be repeated.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '../../../kube/types.ts';
import { type LabPaths, netnsPath } from '../../daemon/paths.ts';
import { endAll, processesInNamespaces } from '../../daemon/processes.ts';
import { emptyRunDir } from './node-files.ts';
import { isOver, type PodFailure, powerOffStatus } from './pod-status.ts';
import { dropSandbox } from './sandbox.ts';
import { openSandboxJournal } from './sandbox-journal.ts';
import type { ClusterStore } from './store.ts';

export type PowerDeps = { paths: LabPaths; store: ClusterStore; now(): number };

export const nodeStopped = (name: string): PodFailure => ({
  cause: 'NODE_STOPPED',
  text: `the instance of ${name} is stopped`,
  transient: true,
});

/**
 * Nothing runs on and /run is empty, as on a machine without power. Sandboxes stay on record as ended, so that the next
 * boot calls DEL for them, as a container runtime does; their pods wait for it, those that never start again have failed.
 */
export async function powerOff({ paths, store, now }: PowerDeps, place: string): Promise<void> {
  await endAll(processesInNamespaces([netnsPath(paths.netns(place))]), 0);
  const journal = openSandboxJournal(paths.pods);
  const records = journal.list(place);
  await Promise.all(
    records.map(async (record) => {
      await dropSandbox(record);
      record.state = 'ending';
      delete record.process;
      journal.save(record);
    }),
  );
  const node = paths.node(place);
  rmSync(node.agentPid, { force: true });
  rmSync(join(paths.instance(place), 'server.pid'), { force: true });
  emptyRunDir(node);
  for (const pod of podsOf(store, place)) {
    if (pod.metadata.deletionTimestamp) await store.removePod(pod);
    else if (!isOver(pod)) {
      const record = records.find((each) => each.podUid === pod.metadata.uid);
      await store.setPodStatus(pod, powerOffStatus({ pod, now: now() }, record, nodeStopped(place)));
    }
  }
}

/** The instance is gone for good: its Node goes, its pods with it, as the pod garbage collector has it, and its folders. */
export async function dropInstance(deps: PowerDeps, place: string): Promise<void> {
  const { paths, store } = deps;
  await powerOff(deps, place);
  await store.removeNode(place);
  for (const pod of podsOf(store, place)) {
    await store.removePod(pod);
    rmSync(paths.pod(pod.metadata.uid!), { recursive: true, force: true });
  }
  const journal = openSandboxJournal(paths.pods);
  for (const record of journal.list(place)) journal.forget(record.podUid);
  rmSync(paths.node(place).root, { recursive: true, force: true });
  rmSync(paths.instance(place), { recursive: true, force: true });
}

/** Places of which there is a folder. */
export const placesWithFolders = (paths: LabPaths): string[] =>
  [paths.nodes, paths.instances].flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : []));

const podsOf = (store: ClusterStore, node: string): Pod[] =>
  store.pods().filter((pod) => pod.spec.nodeName === node);
