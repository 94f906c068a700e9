// The node runner's network: the CNI chain of the node's conf dir, called as a container runtime does: in the node's
// namespace, with containerd's arguments, with what the pod offers as capabilities, with the node's own result cache.
import { existsSync } from 'node:fs';
import { PLUGIN_TYPE } from '../../cni/conflist.ts';
import { CniError } from '../../cni/errors.ts';
import {
  addNetworkList,
  delNetworkList,
  ListError,
  loadNetworkList,
  type NetworkList,
  type RuntimeOptions,
  statusNetworkList,
} from '../../cni/runtime/index.ts';
import { hasVerb, LATEST_VERSION } from '../../cni/versions.ts';
import { openNetns, withNetns } from '../../kernel/netns.ts';
import { NetworkFailure, type PodNetwork } from '../cluster/nodes/network.ts';
import type { PodFailure } from '../cluster/nodes/pod-status.ts';
import { capabilitiesOf, withoutEffect } from './capabilities.ts';
import { type NodePaths, netnsPath } from './paths.ts';

const IFNAME = 'eth0';
/** STATUS is to answer at once (specs: 100 ms); a node whose plugin takes this long is not ready. */
const STATUS_TIMEOUT_MS = 5000;

export function podNetwork(paths: NodePaths, nodeNetns: string): PodNetwork {
  const options = (): RuntimeOptions => ({
    binDirs: [paths.cniBinDir],
    cacheDir: paths.cniCacheDir,
    enter: (start) => {
      using netns = openNetns(netnsPath(nodeNetns));
      return withNetns(netns, start);
    },
  });
  const list = (): NetworkList => loadNetworkList(paths.cniConfDir);

  return {
    add: ({ containerId, netnsPath: netns, pod }, signal) =>
      typed(async () => {
        const chain = list();
        const offered = capabilitiesOf(pod);
        const { result } = await addNetworkList(chain, {
          ...options(),
          ...(signal ? { signal } : {}),
          containerId,
          netns,
          ifname: IFNAME,
          args: podArgs(
            pod.metadata.namespace ?? 'default',
            pod.metadata.name!,
            pod.metadata.uid!,
            containerId,
          ),
          capabilityArgs: offered,
        });
        const declared = new Set(chain.plugins.flatMap(({ capabilities }) => capabilities));
        return {
          ips: result.ips.map((each) => each.address.split('/')[0]!),
          without: withoutEffect(offered, declared),
        };
      }),
    del: ({ containerId, netnsPath: netns, namespace, name, uid }) =>
      typed(async () => {
        // The node's namespace is gone, and with it everything that DEL could undo.
        if (!existsSync(netnsPath(nodeNetns))) return;
        const args = podArgs(namespace, name, uid, containerId);
        await delNetworkList(list(), {
          ...options(),
          containerId,
          netns: existsSync(netns) ? netns : '',
          ifname: IFNAME,
          args,
          asAdded: true,
        });
      }),
    status: async () => {
      try {
        await statusNetworkList(askable(list()), { ...options(), timeoutMs: STATUS_TIMEOUT_MS });
        return undefined;
      } catch (error) {
        return failureOf(error);
      }
    },
  };
}

/**
 * With a chained plugin that speaks no 1.1.0 a runtime asks no STATUS, and the Node would be ready before its agent: the
 * lab then asks our plugin alone, which stands for the taint and condition that an agent in a cluster keeps on its Node.
 */
const askable = (list: NetworkList): NetworkList =>
  hasVerb(list.cniVersion, 'STATUS')
    ? list
    : {
        ...list,
        cniVersion: LATEST_VERSION,
        plugins: list.plugins.filter(({ type }) => type === PLUGIN_TYPE),
      };

const podArgs = (namespace: string, name: string, uid: string, containerId: string) =>
  [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', namespace],
    ['K8S_POD_NAME', name],
    ['K8S_POD_INFRA_CONTAINER_ID', containerId],
    ['K8S_POD_UID', uid],
  ] as const;

async function typed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new NetworkFailure(failureOf(error), { cause: error });
  }
}

/** 11 is CNI's "try again later"; every other code lasts until an operator acts. */
const TRY_AGAIN = 11;

export function failureOf(error: unknown): PodFailure {
  if (error instanceof CniError) {
    const named = /^([A-Z][A-Z0-9_]+): (.*)$/s.exec(error.msg);
    const cause = named?.[1] ?? `CNI_${error.code}`;
    return { cause, text: named?.[2] ?? error.msg, transient: error.code === TRY_AGAIN };
  }
  if (error instanceof ListError) return { cause: 'INVALID_CONFIG', text: error.message, transient: false };
  return { cause: 'INTERNAL', text: error instanceof Error ? error.message : String(error), transient: true };
}
