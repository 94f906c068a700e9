// Deletes the ENIs that gone nodes have left, and the PodwayNodes that named them. Asks EC2 for nothing while every
// PodwayNode has its Node. Invariant: right before it deletes, this process leads and the API says that the node is gone.
// What it remembers is of this process alone: after a kill the looks begin anew. Never throws.
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { FleetCloud } from '../../cloud/fleet.ts';
import { CloudError } from '../../cloud/port.ts';
import { TAG_INSTANCE } from '../../ipam/ec2/tags.ts';
import { isConflict, isNotFound, type KubeClient, nodes, podwayNodes } from '../../kube/index.ts';
import type { ControllerMetrics } from '../metrics.ts';
import { instanceOf } from '../node-view.ts';
import type { ClusterView } from '../view.ts';
import { type Candidate, candidatesOf, type Memory, nothing, only, type Step, step } from './plan.ts';

/** With no gone node: between two looks at what is followed (ms). No call is made for it. */
const IDLE_MS = 1_000;
/** Deletions of one look: EC2's allowance for changes is the whole account's. */
const MOST_AT_ONCE = 20;
/** Between two deletions (ms). */
const APART_MS = 200;
/** Where all that is left waits for instances that run: in gaps. */
const UNENDED_GAPS = 10;

export type SweeperOptions = {
  view: Pick<ClusterView, 'isWhole' | 'nodes' | 'podwayNodes'>;
  client: KubeClient;
  cloud: FleetCloud;
  isLeading: () => boolean;
  metrics: Pick<ControllerMetrics, 'gone' | 'swept' | 'loose'>;
  log: Log;
  /** Ms between two looks that must agree. */
  gap: number;
  clock?: Clock;
};

export class Sweeper {
  readonly #o: SweeperOptions;
  readonly #clock: Clock;
  #memory: Memory = nothing;
  readonly #told = new Set<string>();
  #isTold = false;

  constructor(options: SweeperOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { view, gap, log, metrics } = this.#o;
    for (let nextAt = 0; !signal.aborted; ) {
      const candidates = view.isWhole ? candidatesOf(view.nodes, view.podwayNodes) : [];
      metrics.gone.set(candidates.length);
      this.#memory = only(this.#memory, candidates);
      if (candidates.length === 0) {
        metrics.loose.set(0);
      } else if (this.#clock.now() >= nextAt) {
        try {
          const unended = await this.#look(candidates, signal);
          const isResting = unended === candidates.length && this.#memory.loose.size === 0;
          nextAt = this.#clock.now() + gap * (isResting ? UNENDED_GAPS : 1) * (1 + Math.random() / 10);
          this.#isTold = false;
        } catch (error) {
          if (signal.aborted) return;
          // An answer that is missing is no look: what was seen before stays seen.
          nextAt = this.#clock.now() + gap;
          if (!this.#isTold)
            log.warn({ error: (error as Error).message }, 'ENIs of gone nodes are not looked for');
          this.#isTold = true;
        }
      }
      await this.#clock.sleep(IDLE_MS, signal).catch(() => undefined);
    }
  }

  /** Answers how many instances have not ended. */
  async #look(candidates: readonly Candidate[], signal: AbortSignal): Promise<number> {
    const { cloud, gap, metrics, log } = this.#o;
    const ids = candidates.map(({ instanceId }) => instanceId);
    const at = this.#clock.now();
    const [states, enis] = await Promise.all([
      cloud.instanceStates(ids, signal),
      cloud.taggedEnis(TAG_INSTANCE, ids, signal),
    ]);
    const found = step(this.#memory, candidates, { at, states, enis }, { gap });
    this.#memory = found.memory;
    metrics.loose.set(found.memory.loose.size);
    for (const eni of found.kept) {
      if (!this.#told.has(eni))
        log.warn({ eni }, 'an ENI of a gone node has an Elastic IP; it is left alone');
      this.#told.add(eni);
    }
    await this.#sweep(found, signal);
    for (const one of found.done) await this.#forget(one, signal);
    return found.unended;
  }

  async #sweep({ sweep }: Step, signal: AbortSignal): Promise<void> {
    const { cloud, isLeading, log, metrics } = this.#o;
    const gone = new Map<string, boolean>();
    for (const { eni, of } of sweep.slice(0, MOST_AT_ONCE)) {
      if (!gone.has(of.instanceId)) gone.set(of.instanceId, await this.#isGone(of, signal));
      if (!gone.get(of.instanceId)) continue;
      if (signal.aborted || !isLeading()) return;
      const { node, instanceId } = of;
      try {
        await cloud.deleteEni(eni, signal);
        metrics.swept.inc();
        log.info({ eni, node, instanceId }, 'deleted an ENI that a gone node has left');
      } catch (error) {
        if (!(error instanceof CloudError)) throw error;
        const isAway = /NotFound$/.test(error.ec2Code);
        if (!isAway) log.warn({ eni, node, error: error.message }, 'an ENI of a gone node is not deleted');
      }
      await this.#clock.sleep(APART_MS, signal);
    }
  }

  /** By the API's own word, now. */
  async #isGone({ node, instanceId }: Candidate, signal: AbortSignal): Promise<boolean> {
    try {
      const found = instanceOf(await this.#o.client.get(nodes, node, undefined, signal));
      return found !== null && found !== instanceId;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  async #forget(one: Candidate, signal: AbortSignal): Promise<void> {
    const { client, view, isLeading, log } = this.#o;
    const object = view.podwayNodes.get(one.node);
    if (!object?.spec || !isLeading() || !(await this.#isGone(one, signal))) return;
    const { uid, resourceVersion } = object.metadata;
    const former = (object.spec.former ?? []).filter(({ instanceId }) => instanceId !== one.instanceId);
    const isOwn = object.spec.instanceId === one.instanceId;
    // Those before it are looked for first.
    if (isOwn && former.length > 0) return;
    try {
      if (isOwn) {
        const preconditions = { uid: uid!, resourceVersion: resourceVersion! };
        await client.delete(podwayNodes, one.node, undefined, { preconditions }, signal);
      } else {
        const patch = { metadata: { resourceVersion }, spec: { former } };
        await client.patch(podwayNodes, one.node, undefined, patch, {}, signal);
      }
      log.info({ node: one.node, instanceId: one.instanceId }, 'a gone node has left nothing');
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }
}
