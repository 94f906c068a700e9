// Follows ClusterNetworkPolicies in the latest version that the API serves. Their definition is the cluster's own: it may
// not be there, come later, or go. Invariant: what was told stays until some version says otherwise, so that a version
// that is withdrawn opens nothing. Never throws.
import { type Clock, systemClock } from '../base/clock.ts';
import type { KubeClient, KubeObject, Sink } from '../kube/index.ts';

/** Between two looks whether there is a definition (ms, up to half longer). */
const LOOK_MS = 30_000;
const GONE_MS = 1_000;

export type ClusterPolicyOptions = {
  client: KubeClient;
  kube: Pick<typeof import('../kube/index.ts'), 'clusterNetworkPolicies' | 'followEach'>;
  sink: Sink<KubeObject>;
  onAway: (error: Error) => void;
};

/** Ends when `signal` aborts. */
export async function followClusterPolicies(
  { client, kube, sink, onAway }: ClusterPolicyOptions,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> {
  while (!signal.aborted) {
    let isServed = false;
    const noting: Sink<KubeObject> = {
      ...{ put: (one) => sink.put(one), remove: (one) => sink.remove(one) },
      replace: (all) => {
        isServed = true;
        sink.replace(all);
      },
    };
    for (const clusterNetworkPolicy of kube.clusterNetworkPolicies) {
      await kube.followEach(
        client,
        clusterNetworkPolicy,
        { sink: noting, onAway, endsWhenGone: true },
        signal,
      );
      if (isServed || signal.aborted) break;
    }
    if (signal.aborted) return;
    // A version that has gone: which one is served now is asked soon.
    if (!isServed) sink.replace([]);
    const pause = isServed ? GONE_MS : LOOK_MS * (1 + Math.random() / 2);
    await clock.sleep(pause, signal).catch(() => undefined);
  }
}
