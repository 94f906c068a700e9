// The node runner's and the scheduler's view of the embedded API: its object store, in process.
import { events, nodes, pods } from '../../kube/resources.ts';
import type { KubeEvent, Node, Pod } from '../../kube/types.ts';
import { ApiError, type KubeApi } from '../cluster/api/index.ts';
import { kubeTime } from '../cluster/nodes/pod-status.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';

const isGone = (error: unknown): boolean => error instanceof ApiError && error.code === 404;

/** What another wrote in between is read again; more tries than this mean a defect. */
const CONFLICT_TRIES = 5;

export function clusterStore(api: KubeApi, now: () => number = Date.now): ClusterStore {
  const { store } = api;
  const pod = (namespace: string, name: string) =>
    (store.find(pods, name, namespace) as Pod | null) ?? undefined;

  /** Everything here is synchronous inside the store; a missing object is nobody's failure. */
  const ifThere = (work: () => void): Promise<void> => {
    try {
      work();
    } catch (error) {
      if (!isGone(error)) return Promise.reject(error);
    }
    return Promise.resolve();
  };

  return {
    pods: () => store.list(pods) as Pod[],
    pod,
    nodes: () => store.list(nodes) as Node[],
    createPod: async (object) => store.create(pods, object) as Pod,
    bindPod: (object, node) =>
      ifThere(() => store.bindPod(object.metadata.name!, object.metadata.namespace!, node)),
    setPodStatus: (object, status) =>
      ifThere(() => {
        const { name = '', namespace = '', uid } = object.metadata;
        const known = pod(namespace, name);
        if (known?.metadata.uid === uid && known) store.updateStatus(pods, { ...known, status });
      }),
    deletePod: (namespace, name) => ifThere(() => void store.delete(pods, name, namespace)),
    removePod: (object) =>
      ifThere(() => {
        const { name = '', namespace = '', uid } = object.metadata;
        const known = pod(namespace, name);
        if (known?.metadata.uid !== uid) return;
        store.delete(pods, name, namespace, { gracePeriodSeconds: 0, preconditions: { uid: uid! } });
      }),
    putNode: async (object) => {
      const name = object.metadata.name!;
      for (let attempt = 1; ; attempt += 1) {
        const known = store.find(nodes, name) as Node | null;
        try {
          if (!known) store.create(nodes, object);
          else {
            const metadata = {
              ...known.metadata,
              labels: { ...known.metadata.labels, ...object.metadata.labels },
            };
            store.update(nodes, { ...known, metadata, spec: { ...known.spec, ...object.spec } });
          }
          return;
        } catch (error) {
          if (!(error instanceof ApiError) || error.code !== 409 || attempt >= CONFLICT_TRIES) throw error;
        }
      }
    },
    setNodeStatus: (name, status) =>
      ifThere(() => {
        const known = store.find(nodes, name) as Node | null;
        if (known) store.updateStatus(nodes, { ...known, status });
      }),
    removeNode: (name) => ifThere(() => void store.delete(nodes, name)),
    recordEvent: async (object, component, { type, reason, message }) => {
      const { name = '', namespace = 'default', uid } = object.metadata;
      // One Event per pod, reason and cause: it is counted up while its words (addresses, numbers) may change.
      const cause = /^[A-Z][A-Z0-9_]+(?=: )/.exec(message)?.[0] ?? 'plain';
      const eventName = `${name}.${uid?.slice(0, 8)}.${reason}.${cause}`
        .toLowerCase()
        .replace(/[^a-z0-9.-]/g, '-')
        .slice(0, 250);
      const at = kubeTime(now());
      const known = store.find(events, eventName, namespace) as KubeEvent | null;
      if (known) {
        store.update(events, { ...known, message, count: (known.count ?? 1) + 1, lastTimestamp: at });
        return;
      }
      const event: KubeEvent = {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: eventName, namespace },
        involvedObject: {
          apiVersion: 'v1',
          kind: 'Pod',
          name,
          namespace,
          ...(uid === undefined ? {} : { uid }),
        },
        type,
        reason,
        message,
        count: 1,
        firstTimestamp: at,
        lastTimestamp: at,
        source: { component },
        reportingComponent: component,
        reportingInstance: '',
      };
      try {
        store.create(events, event);
      } catch {
        // An Event is a courtesy: a namespace that is going takes none.
      }
    },
    watch: (onChange) => {
      const podWatch = store.watch(pods, ({ type, object }) =>
        onChange({ kind: 'Pod', type, object: object as Pod }),
      );
      const nodeWatch = store.watch(nodes, ({ type, object }) =>
        onChange({ kind: 'Node', type, object: object as Node }),
      );
      return {
        close: () => {
          podWatch.close();
          nodeWatch.close();
        },
      };
    },
  };
}
