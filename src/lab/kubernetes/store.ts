// The lab's view of a real API: pods and nodes, listed and watched as every client does it, and the few writes that the
// lab's commands make. What the API last said stays while it is away.
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from '../../kube/client.ts';
import { KubeError } from '../../kube/errors.ts';
import { follow } from '../../kube/follow.ts';
import { nodes, pods } from '../../kube/resources.ts';
import type { Node, ObjectMeta, Pod } from '../../kube/types.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';

/** A watch tells of a new object within milliseconds. */
const SEEN_TRIES = 250;
const SEEN_PAUSE_MS = 20;

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;

export type RealStore = ClusterStore & { close(): void };

export function realStore(client: KubeClient, onAway: (error: Error) => void): RealStore {
  let allPods: ReadonlyMap<string, Pod> = new Map();
  let allNodes: ReadonlyMap<string, Node> = new Map();
  const listeners = new Set<Parameters<ClusterStore['watch']>[0]>();
  const ending = new AbortController();
  const { signal } = ending;
  void follow(
    client,
    pods,
    {
      keep: keptPod,
      onAway,
      onChange: (kept) => {
        allPods = kept;
        for (const object of kept.values()) {
          for (const tell of [...listeners]) tell({ kind: 'Pod', type: 'MODIFIED', object });
          break;
        }
      },
    },
    signal,
  );
  void follow(
    client,
    nodes,
    {
      keep: keptNode,
      onAway: () => {},
      onChange: (kept) => {
        allNodes = kept;
        for (const object of kept.values()) {
          for (const tell of [...listeners]) tell({ kind: 'Node', type: 'MODIFIED', object });
          break;
        }
      },
    },
    signal,
  );
  const never = (what: string) => (): Promise<never> =>
    Promise.reject(new Error(`${what} is the work of kubelet and of the controllers`));
  return {
    pods: () => [...allPods.values()],
    pod: (namespace, name) => allPods.get(keyOf(namespace, name)),
    nodes: () => [...allNodes.values()],
    createPod: async (pod) => {
      const made = await client.create(pods, pod);
      const { name = '', namespace = '' } = made.metadata;
      // Whoever waits for it looks here: it is not gone because the watch has not told of it yet.
      for (let tries = 0; tries < SEEN_TRIES && !allPods.has(keyOf(namespace, name)); tries += 1)
        await sleep(SEEN_PAUSE_MS);
      return made;
    },
    deletePod: async (namespace, name) => {
      await ifThere(client.delete(pods, name, namespace));
    },
    removePod: async ({ metadata: { name = '', namespace = '', uid } }) => {
      const preconditions = uid === undefined ? {} : { preconditions: { uid } };
      await ifThere(client.delete(pods, name, namespace, { gracePeriodSeconds: 0, ...preconditions }));
    },
    removeNode: async (name) => {
      await ifThere(client.delete(nodes, name));
    },
    bindPod: never('binding a pod'),
    setPodStatus: never('the status of a pod'),
    putNode: never('registering a node'),
    setNodeStatus: never('the status of a node'),
    recordEvent: never('telling an event of a pod'),
    watch: (onChange) => {
      listeners.add(onChange);
      return { close: () => void listeners.delete(onChange) };
    },
    close: () => ending.abort(),
  };
}

async function ifThere(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    // 409: it was deleted and made again meanwhile; that one is not meant.
    if (!(error instanceof KubeError) || (error.code !== 404 && error.code !== 409)) throw error;
  }
}

const keptMeta = ({ managedFields: _, ...metadata }: ObjectMeta & { managedFields?: unknown }): ObjectMeta =>
  metadata;

/** Without what only kubelet reads, so that a comparison of all pods stays cheap. */
function keptPod({ metadata, spec, status }: Pod): Pod {
  const { nodeName, hostNetwork, schedulerName } = spec;
  const set = <K extends string, V>(key: K, value: V | undefined) =>
    (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
  return {
    metadata: keptMeta(metadata),
    spec: {
      containers: spec.containers.map(({ name, image, resources }) => ({
        name,
        ...set('image', image),
        ...set('resources', resources),
      })),
      ...set('nodeName', nodeName),
      ...set('hostNetwork', hostNetwork),
      ...set('schedulerName', schedulerName),
    },
    ...set('status', status),
  } as Pod;
}

function keptNode({ metadata, spec, status }: Node): Node {
  const { images: _, ...rest } = (status ?? {}) as Node['status'] & { images?: unknown };
  return { metadata: keptMeta(metadata), ...(spec ? { spec } : {}), status: rest } as Node;
}
