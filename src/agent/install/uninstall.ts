// Takes Podway off a node that has no pod of ours any more: conflist and plugin, then what we made in the kernel and the
// settings that we changed, then the run directory, then our conditions of the Node. ENIs and their addresses stay: they
// go with the instance, or by whoever manages them. Idempotent, also after a kill. Refused while an agent serves or a pod
// is left, since a runtime without a config can remove no sandbox. Fails with NODE_IN_USE, HOST_UNWRITABLE.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { asPodwayError, PodwayError } from '../../base/errors.ts';
import { formatIp } from '../../base/ip.ts';
import type { Log } from '../../base/log.ts';
import { createDatapath, type Datapath } from '../../datapath/datapath.ts';
import { type DirectoryLock, tryLockDirectory } from '../../kernel/lock.ts';
import { currentNetns } from '../../kernel/netns.ts';
import { removePolicyTables } from '../../policy/remove.ts';
import { createApiServer } from '../api-server.ts';
import { CLOUD_REACHABLE, NETWORK_UNAVAILABLE } from '../node-condition.ts';
import { POLICY_CURRENT } from '../policy-freshness.ts';
import { hostName } from './keep.ts';
import { CONFLIST, PLUGIN } from './network-configs.ts';
import { removeFile } from './place.ts';

/** Named in a refusal; the rest is counted. */
const NAMED = 5;

export type UninstallOptions = {
  runDir: string;
  hostBinDir: string;
  hostConfDir: string;
  /** Absent with no kubeconfig and no service account: the Node is left as it is. */
  node?: { nodeName: string; kubeconfig?: string; inCluster: boolean };
};

/** What was removed, a sentence each; and what could not be done and does not matter to the node's network. */
export type Uninstalled = { removed: string[]; notes: string[] };

export async function uninstall(options: UninstallOptions): Promise<Uninstalled> {
  const { runDir, hostBinDir, hostConfDir } = options;
  const removed: string[] = [];
  const notes: string[] = [];
  const lock = existsSync(runDir) ? seatOf(runDir) : null;
  const netns = currentNetns();
  const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };
  const datapath = createDatapath({ netns, log: silent, sysctlFile: join(runDir, 'sysctls.json') });
  try {
    const was = standingOf(datapath);
    for (const path of [join(hostConfDir, CONFLIST), join(hostBinDir, PLUGIN)])
      if (removeFile(path)) removed.push(hostName(path));
    await datapath.removeAll();
    await removePolicyTables(netns);
    if (was)
      removed.push('links, routes, rules and the nft tables of Podway; settings are as they were before');
  } finally {
    await datapath.close();
    netns.close();
    lock?.release();
  }
  if (lock) {
    // The directory itself may be a mount.
    for (const name of readdirSync(runDir)) rmSync(join(runDir, name), { recursive: true, force: true });
    removed.push(`what was in ${runDir}`);
  }
  if (options.node) await leaveNode(options.node, removed, notes);
  return { removed, notes };
}

function seatOf(runDir: string): DirectoryLock {
  const lock = tryLockDirectory(runDir);
  if (lock) return lock;
  throw new PodwayError('NODE_IN_USE', `an agent serves ${runDir}`, {
    object: runDir,
    next: 'Remove the agent from the node first (helm uninstall, or its DaemonSet).',
  });
}

/** True when anything of ours is in the kernel. Throws NODE_IN_USE for pods. */
function standingOf(datapath: Datapath): boolean {
  const { pods, any } = datapath.standing();
  if (pods.length === 0) return any;
  const names = pods.map(({ attachment, hostIfname, ips }) => {
    const pod = attachment?.pod;
    return `${pod ? `${pod.namespace}/${pod.name}` : hostIfname} (${ips.map(formatIp).join() || 'no address'})`;
  });
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  const count = `${pods.length} ${pods.length === 1 ? 'pod' : 'pods'}`;
  throw new PodwayError(
    'NODE_IN_USE',
    `the node has ${count} of Podway: ${names.slice(0, NAMED).join(', ')}${more}`,
    {
      has: pods.length,
      limit: 0,
    },
  );
}

async function leaveNode(
  { nodeName, kubeconfig, inCluster }: NonNullable<UninstallOptions['node']>,
  removed: string[],
  notes: string[],
): Promise<void> {
  const api = createApiServer({ nodeName, inCluster, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
  try {
    const { client, kube } = await api.connect();
    // The controller then takes away the taint that says what the agent said.
    await client.delete(kube.podwayNodes, nodeName).then(
      () => removed.push(`the PodwayNode ${nodeName}`),
      (error: unknown) => {
        if (!kube.isNotFound(error)) throw error;
      },
    );
    const node = await client.get(kube.nodes, nodeName);
    const ours = [CLOUD_REACHABLE, NETWORK_UNAVAILABLE, POLICY_CURRENT];
    const types = ours.filter((type) => node.status?.conditions?.some((one) => one.type === type));
    if (types.length === 0) return;
    const conditions = types.map((type) => ({ type, $patch: 'delete' }));
    const options = { type: 'strategic', subresource: 'status' } as const;
    await client.patch(kube.nodes, nodeName, undefined, { status: { conditions } }, options);
    removed.push(`conditions ${types.join(' and ')} of node ${nodeName}`);
  } catch (error) {
    notes.push(`the conditions of node ${nodeName} stay: ${asPodwayError(error).message}`);
  } finally {
    api.close();
  }
}
