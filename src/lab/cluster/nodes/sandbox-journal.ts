// Records on disk what a node runner makes for pods, before it makes it: one folder per pod uid with `sandbox.json` and
// the pod's log. Invariant: a namespace, attachment or process of a pod exists only while its record does, so that a
// runner finds all of them again after a kill.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { PodSpec } from '../../../kube/types.ts';
import { privateDir, readJson, writeJson } from '../../daemon/files.ts';
import type { ProcessId } from '../../daemon/processes.ts';

export type SandboxRecord = {
  containerId: string;
  podUid: string;
  namespace: string;
  name: string;
  node: string;
  hostNetwork: boolean;
  /** Name under `ip netns`: the sandbox's own, or the node's for a pod on the host network. */
  netns: string;
  /** `making`: some of it may exist; `made`: network is up; `ending`: being torn down. */
  state: 'making' | 'made' | 'ending';
  ips: string[];
  process?: ProcessId;
  restarts: number;
  startedAt?: number;
  /** How the last process ended. */
  exit?: { code: number; signal?: number; at: number; startedAt?: number };
  restartPolicy: NonNullable<PodSpec['restartPolicy']>;
};

export type SandboxJournal = ReturnType<typeof openSandboxJournal>;

export function openSandboxJournal(podsDir: string) {
  const file = (uid: string) => join(podsDir, uid, 'sandbox.json');
  return {
    logFile: (uid: string) => join(podsDir, uid, 'log'),
    save(record: SandboxRecord): void {
      privateDir(join(podsDir, record.podUid));
      writeJson(file(record.podUid), record);
    },
    /** Records of the pods of a node, or of all nodes. */
    list(node?: string): SandboxRecord[] {
      if (!existsSync(podsDir)) return [];
      return readdirSync(podsDir)
        .map((uid) => readJson<SandboxRecord>(file(uid)))
        .filter(
          (record) => record !== undefined && (node === undefined || record.node === node),
        ) as SandboxRecord[];
    },
    forget(uid: string): void {
      rmSync(join(podsDir, uid), { recursive: true, force: true });
    },
    /** Drops the record and keeps the log, for a pod that ended and is still an object of the API. */
    keepLogOnly(uid: string): void {
      rmSync(file(uid), { force: true });
    },
    uids: (): string[] => (existsSync(podsDir) ? readdirSync(podsDir) : []),
  };
}
