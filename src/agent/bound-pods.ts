// Tells the pool of pods that are bound to this node before the runtime asks for their addresses, so that EC2's answer
// is there when they come. Follows the node's own pods alone. While the API is away the pool expects what it was told.
// Never throws.
import type { Log } from '../base/log.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Pod } from '../kube/index.ts';
import { type ApiServer, isLive } from './api-server.ts';
import { type BranchPods, branchWish } from './branch-pods.ts';
import { connect } from './configuration-watch.ts';

/** True for a pod whose sandbox is still to come. */
export const isComing = (pod: Pod): boolean =>
  isLive(pod) &&
  pod.metadata.deletionTimestamp === undefined &&
  (pod.status?.phase ?? 'Pending') === 'Pending' &&
  !pod.status?.podIP;

/** Passes on what changed between two looks at the node's pods. */
export class BoundPods {
  readonly #pool: Pick<AddressPool, 'expectPod' | 'expectNoMore'>;
  #coming = new Set<string>();

  constructor(pool: Pick<AddressPool, 'expectPod' | 'expectNoMore'>) {
    this.#pool = pool;
  }

  /** By NAMESPACE/NAME, whether the pod is coming. */
  note(pods: ReadonlyMap<string, boolean>): void {
    const coming = new Set([...pods].flatMap(([pod, isOne]) => (isOne ? [pod] : [])));
    for (const pod of this.#coming) if (!coming.has(pod)) this.#pool.expectNoMore(pod);
    for (const pod of coming) if (!this.#coming.has(pod)) this.#pool.expectPod(pod);
    this.#coming = coming;
  }
}

/** Ends when `signal` aborts; at once where no API is configured. */
export async function watchBoundPods(
  api: ApiServer,
  pool: AddressPool,
  log: Log,
  signal: AbortSignal,
  branches?: BranchPods,
): Promise<void> {
  if (!api.isConfigured) return;
  const connection = await connect(api, log, signal);
  if (!connection) return;
  const { client, kube } = connection;
  const bound = new BoundPods(pool);
  await kube.follow(
    client,
    kube.pods,
    {
      fieldSelector: `spec.nodeName=${api.nodeName}`,
      keep: (pod: Pod) => {
        const wish = branchWish(pod);
        return wish === 'plain' ? isComing(pod) : { coming: isComing(pod), wish };
      },
      onChange: (kept) => {
        bound.note(new Map([...kept].map(([name, it]) => [name, typeof it === 'boolean' ? it : it.coming])));
        branches?.note(
          new Map([...kept].map(([name, it]) => [name, typeof it === 'boolean' ? 'plain' : it.wish])),
        );
      },
      onAway: (error) =>
        log.warn(
          { error: error.message },
          'the Kubernetes API does not tell which pods are bound to this node',
        ),
    },
    signal,
  );
}
