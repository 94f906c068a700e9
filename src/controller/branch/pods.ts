// The pods of the cluster that ask for a branch and have a node, by uid. One that has ended or is gone stays known as over until
// nothing of it is left, so that its branch's end need not wait for describes to agree that it is nobody's.
import type { Log } from '../../base/log.ts';
import {
  asksForBranch,
  decodePodEnis,
  followEach,
  type KubeClient,
  type KubeObject,
  POD_ENI,
  type Pod,
  type PodEni,
  pods,
  type Sink,
} from '../../kube/index.ts';
import type { BranchPod } from './plan.ts';

export class PodView {
  readonly #pods = new Map<string, BranchPod>();
  readonly #ofNode = new Map<string, Set<BranchPod>>();
  readonly #onChange: (node: string) => void;
  #isWhole = false;

  constructor(onChange: (node: string) => void) {
    this.#onChange = onChange;
  }

  get isWhole(): boolean {
    return this.#isWhole;
  }

  get all(): Iterable<BranchPod> {
    return this.#pods.values();
  }

  find(uid: string): BranchPod | undefined {
    return this.#pods.get(uid);
  }

  ofNode(node: string): BranchPod[] {
    return [...(this.#ofNode.get(node) ?? [])];
  }

  /** Nothing of it is left. */
  forget(pod: BranchPod): void {
    this.#pods.delete(pod.uid);
    const list = this.#ofNode.get(pod.node);
    list?.delete(pod);
    if (list?.size === 0) this.#ofNode.delete(pod.node);
  }

  /** Ends when `signal` aborts. */
  async follow(client: KubeClient, log: Log, signal: AbortSignal): Promise<void> {
    const onAway = (error: Error) => log.warn({ error: error.message }, 'pods are not to be had');
    await followEach(client, pods, { sink: this.sink, fieldSelector: 'spec.nodeName!=', onAway }, signal);
  }

  readonly sink: Sink<Pod> = {
    replace: (objects) => {
      const there = new Set(objects.map(({ metadata }) => metadata.uid!));
      for (const object of objects) this.#put(object);
      for (const pod of this.#pods.values()) if (!there.has(pod.uid)) this.#end(pod);
      this.#isWhole = true;
    },
    put: (object) => this.#put(object),
    remove: ({ metadata }: KubeObject) => {
      const pod = this.#pods.get(metadata.uid!);
      if (pod) this.#end(pod);
    },
  };

  #put({ metadata, spec, status }: Pod): void {
    if (!spec.nodeName || spec.hostNetwork || !asksForBranch({ spec })) return;
    const isOver = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    const known = this.#pods.get(metadata.uid!);
    if (known) {
      known.annotated = annotatedIn(metadata) ?? known.annotated;
      known.isOver ||= isOver;
    } else {
      const pod: BranchPod = {
        uid: metadata.uid!,
        namespace: metadata.namespace!,
        name: metadata.name!,
        node: spec.nodeName,
        labels: metadata.labels ?? {},
        serviceAccount: spec.serviceAccountName ?? 'default',
        annotated: annotatedIn(metadata),
        isOver,
      };
      this.#pods.set(pod.uid, pod);
      const list = this.#ofNode.get(pod.node) ?? new Set();
      this.#ofNode.set(pod.node, list.add(pod));
    }
    this.#onChange(spec.nodeName);
  }

  #end(pod: BranchPod): void {
    pod.isOver = true;
    this.#onChange(pod.node);
  }
}

/** An annotation that cannot be read names nothing: the pod gets a new one. */
function annotatedIn({ annotations }: KubeObject['metadata']): PodEni[] | null {
  const text = annotations?.[POD_ENI];
  if (text === undefined) return null;
  try {
    return decodePodEnis(text);
  } catch {
    return null;
  }
}
