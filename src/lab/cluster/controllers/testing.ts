// For tests: an API with the controllers on it and, in place of nodes, a watch that makes pods run and end at once.
import { pino } from 'pino';
import type { KubeObject, Node, Pod } from '../../../kube/index.ts';
import { nodes, pods } from '../../../kube/index.ts';
import { ApiError, type Store } from '../api/index.ts';
import { type Harness, startApi } from '../api/testing.ts';
import { commandOf } from '../command.ts';
import { Controllers } from './run.ts';

export type Cluster = AsyncDisposable & {
  h: Harness;
  readonly store: Store;
  /** Pods of a namespace that are not ending. */
  alive(): Pod[];
  /** The most pods that were there at once, and the fewest ready ones after the first `n` were ready. */
  extremes(n: number): { most: number; fewestReady: number };
  /** Stops everything where it is and goes on from what is stored. */
  restart(): Promise<void>;
};

/** `exit`: how a pod with a command ends; undefined keeps it running. `refused`: what controllers may not create. */
export async function startCluster(
  nodeNames: readonly string[],
  exit: (pod: Pod) => number | undefined = () => undefined,
  refused: (object: KubeObject) => ApiError | undefined = () => undefined,
): Promise<Cluster> {
  const h = await startApi();
  for (const name of nodeNames)
    h.api.store.create(nodes, {
      metadata: { name, labels: { 'kubernetes.io/hostname': name } },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    } as Node);
  const samples: { all: number; ready: number }[] = [];
  const alive = () =>
    (h.api.store.list(pods) as Pod[]).filter((pod) => !pod.metadata.deletionTimestamp && !isEnded(pod));
  const open = () => {
    const { store } = h.api;
    const guarded = Object.create(store) as Store;
    guarded.create = (resource, object, namespace) => {
      const refusal = refused(object as KubeObject);
      if (refusal) throw refusal;
      return store.create(resource, object, namespace);
    };
    const controllers = new Controllers({ store: guarded, log: pino({ level: 'silent' }) });
    const watch = store.watch(pods, ({ type, object }) => {
      const all = alive();
      samples.push({ all: all.length, ready: all.filter(isReady).length });
      if (type !== 'DELETED')
        setImmediate(() => {
          if (running) act(store, nodeNames, object as Pod, exit);
        });
    });
    let running = true;
    return () => {
      running = false;
      watch.close();
      controllers.close();
    };
  };
  let close = open();
  return {
    h,
    get store() {
      return h.api.store;
    },
    alive,
    extremes(n) {
      const from = samples.findIndex(({ ready }) => ready >= n);
      const after = from < 0 ? [] : samples.slice(from);
      return {
        most: Math.max(...samples.map(({ all }) => all)),
        fewestReady: Math.min(...after.map(({ ready }) => ready)),
      };
    },
    async restart() {
      close();
      await h.restart();
      close = open();
    },
    async [Symbol.asyncDispose]() {
      close();
      await h[Symbol.asyncDispose]();
    },
  };
}

const isEnded = (pod: Pod): boolean => ['Succeeded', 'Failed'].includes(pod.status?.phase ?? '');
const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true;

/** No runner starts a pod on this node. */
export const ABSENT_NODE = 'nowhere';
let turn = 0;

/** One step of a pod's life, as scheduler and node runner would take it. */
function act(
  store: Store,
  nodeNames: readonly string[],
  seen: Pod,
  exit: (pod: Pod) => number | undefined,
): void {
  const { name = '', namespace = '' } = seen.metadata;
  try {
    const pod = store.find(pods, name, namespace) as Pod | null;
    if (pod?.metadata.uid !== seen.metadata.uid || !pod) return;
    if (pod.spec.nodeName === ABSENT_NODE) return;
    if (pod.metadata.deletionTimestamp) {
      if (pod.metadata.deletionGracePeriodSeconds !== 0)
        store.delete(pods, name, namespace, { gracePeriodSeconds: 0 });
    } else if (!pod.spec.nodeName) store.bindPod(name, namespace, nodeNames[turn++ % nodeNames.length]!);
    else if (pod.status?.phase === 'Pending') setStatus(store, pod, 'Running');
    else if (pod.status?.phase === 'Running' && commandOf(pod.spec.containers[0]!).length > 0) {
      const code = exit(pod);
      if (code !== undefined) setStatus(store, pod, code === 0 ? 'Succeeded' : 'Failed');
    }
  } catch (error) {
    // The pod was deleted or changed in between.
    if (!(error instanceof ApiError)) throw error;
  }
}

function setStatus(store: Store, pod: Pod, phase: 'Running' | 'Succeeded' | 'Failed'): void {
  const at = `${new Date().toISOString().slice(0, 19)}Z`;
  const ready = phase === 'Running';
  store.updateStatus(pods, {
    ...pod,
    status: {
      ...pod.status,
      phase,
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: at }],
      containerStatuses: [
        {
          name: pod.spec.containers[0]!.name,
          ready,
          restartCount: 0,
          image: '',
          imageID: '',
          state: ready ? { running: { startedAt: at } } : { terminated: { exitCode: 0, finishedAt: at } },
        },
      ],
    },
  });
}
