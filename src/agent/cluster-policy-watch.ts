// Follows ClusterNetworkPolicies in the latest version that the API serves. Their definition is the cluster's own: it may
// not be there, come later, or go; a watch of that one definition tells when. Invariant: what was told stays until some
// version says otherwise, so that a version that is withdrawn opens nothing. Never throws.
import type { Alarm } from '../base/alarm.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import type { KubeClient, KubeObject, Sink } from '../kube/index.ts';

/** Between two looks whether there is a definition, where the agent may not watch it (ms, up to half longer). */
const LOOK_MS = 30_000;
/** And where it does: in case a notice was missed. */
const WATCHED_LOOK_MS = 3_600_000;
const GONE_MS = 1_000;
/** Looks, GONE_MS apart, after a notice: an API server serves a definition some seconds after it shows it. */
const LOOKS_AFTER_NOTICE = 15;
const DEFINITION = 'clusternetworkpolicies.policy.networking.k8s.io';

export type ClusterPolicyOptions = {
  client: KubeClient;
  kube: Pick<
    typeof import('../kube/index.ts'),
    'clusterNetworkPolicies' | 'customResourceDefinitions' | 'followEach'
  >;
  sink: Sink<KubeObject>;
  onAway: (error: Error) => void;
  alarm?: Alarm;
};

/** Whether there is a definition, as far as the API tells, and who waits for it. */
class Definition implements Sink<KubeObject> {
  #isWatched = false;
  #looksLeft = 0;
  #notice = new AbortController();

  replace(found: readonly KubeObject[]): void {
    this.#isWatched = true;
    if (found.length > 0) this.put();
  }

  put(): void {
    this.#looksLeft = LOOKS_AFTER_NOTICE;
    this.#notice.abort();
    this.#notice = new AbortController();
  }

  remove(): void {}

  /** What cannot be watched is looked for. */
  away(error: Error): void {
    if ((error as { code?: number }).code === 403) this.#isWatched = false;
  }

  /** Until it is time to look again. */
  async wait(clock: Clock, signal: AbortSignal): Promise<void> {
    const isSoon = this.#looksLeft > 0;
    if (isSoon) this.#looksLeft--;
    const look = (this.#isWatched ? WATCHED_LOOK_MS : LOOK_MS) * (1 + Math.random() / 2);
    const until = AbortSignal.any([signal, this.#notice.signal]);
    await clock.sleep(isSoon ? GONE_MS : look, until).catch(() => undefined);
  }
}

/** Ends when `signal` aborts. */
export async function followClusterPolicies(
  { client, kube, sink, onAway, alarm }: ClusterPolicyOptions,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> {
  const definition = new Definition();
  const watched = kube.followEach(
    client,
    kube.customResourceDefinitions,
    {
      fieldSelector: `metadata.name=${DEFINITION}`,
      sink: definition,
      onAway: (error) => definition.away(error),
    },
    signal,
  );
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
        { sink: noting, onAway, endsWhenGone: true, ...(alarm ? { alarm } : {}) },
        signal,
      );
      if (isServed || signal.aborted) break;
    }
    if (signal.aborted) break;
    // A version that has gone: which one is served now is asked soon.
    if (isServed) await clock.sleep(GONE_MS, signal).catch(() => undefined);
    else {
      sink.replace([]);
      await definition.wait(clock, signal);
    }
  }
  await watched;
}
