// The node runner's and the scheduler's view of the embedded API: its object store, in process.
import { nodes, pods } from '../../kube/resources.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { ApiError, type KubeApi } from '../cluster/api/index.ts';
import { recordEvent } from '../cluster/events.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';

const isGone = (error: unknown): boolean => error instanceof ApiError && error.code === 404;

/** After a conflicting write the object is read again; more tries than this mean a defect. */
const CONFLICT_TRIES = 5;

/** Who `podway pod run` is to webhooks: as the lab's kubeconfig. */
const ADMIN = { name: 'podway-admin', groups: ['system:masters', 'system:authenticated'] };

export function clusterStore(api: KubeApi, now: () => number = Date.now): ClusterStore {
  const { store } = api;
  const pod = (namespace: string, name: string) =>
    (store.find(pods, name, namespace) as Pod | null) ?? undefined;

  /** Everything here is synchronous inside the store; a missing object is no failure. */
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
    createPod: async (object) => (await store.createAdmitted(pods, object, ADMIN)) as Pod,
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
    recordEvent: async (object, component, notice) => recordEvent(store, now, object, component, notice),
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
