// Tells people what is refused of policies, from one place: each version of an object is told once in a term, in its Events
// and, where it has a status, in its condition. Bounded in writes at once, and by the recorder's budget of each object.
// Never throws; a condition that another writes over meanwhile is written again with the next version.
import { type Clock, rfc3339, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import {
  type Condition,
  clusterNetworkPolicies,
  type EventRecorder,
  followEach,
  isConflict,
  isNotFound,
  type KubeClient,
  type KubeObject,
  keyOf,
  networkPolicies,
  type Resource,
  type Sink,
} from '../../kube/index.ts';
import { ACCEPTED, wordOn } from './word.ts';

/** Between two looks whether there is a definition of ClusterNetworkPolicies (ms). */
const LOOK_MS = 10_000;
const GONE_MS = 1_000;

export type PolicyTellerOptions = {
  client: KubeClient;
  events: Pick<EventRecorder, 'record'>;
  isLeading: () => boolean;
  log: Log;
  clock?: Clock;
};

type WithStatus = KubeObject & { status?: { conditions?: (Condition & { observedGeneration?: number })[] } };

export class PolicyTeller {
  readonly #o: PolicyTellerOptions;
  readonly #clock: Clock;
  /** uid and generation of what was told, by kind and key. */
  readonly #told = new Map<string, string>();
  #last: Promise<void> = Promise.resolve();

  constructor(options: PolicyTellerOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { client, log } = this.#o;
    const onAway = (error: Error) => log.warn({ error: error.message }, 'policies are not looked at for now');
    await Promise.all([
      followEach(client, networkPolicies, { sink: this.#sink(networkPolicies), onAway }, signal),
      this.#followOfCluster(onAway, signal),
    ]);
    await this.#last;
  }

  /** The definition is the cluster's own, and may come later: the later version that is served counts. */
  async #followOfCluster(onAway: (error: Error) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let isServed = false;
      for (const resource of clusterNetworkPolicies) {
        const own = this.#sink(resource);
        const sink: Sink<KubeObject> = {
          ...own,
          replace: (all) => {
            isServed = true;
            own.replace(all);
          },
        };
        await followEach(this.#o.client, resource, { sink, onAway, endsWhenGone: true }, signal);
        if (isServed || signal.aborted) break;
      }
      await this.#clock.sleep(isServed ? GONE_MS : LOOK_MS, signal).catch(() => undefined);
    }
  }

  #sink(resource: Resource): Sink<KubeObject> {
    return {
      replace: (all) => {
        for (const one of all) this.#note(resource, one);
      },
      put: (one) => this.#note(resource, one),
      remove: (one) => void this.#told.delete(`${resource.kind} ${keyOf(one)}`),
    };
  }

  #note(resource: Resource, object: KubeObject): void {
    const { uid = '', generation = 0, name = '', namespace } = object.metadata;
    const key = `${resource.kind} ${keyOf(object)}`;
    const version = `${uid} ${generation}`;
    if (this.#told.get(key) === version || !this.#o.isLeading()) return;
    this.#told.set(key, version);
    const { events, condition } = wordOn(resource, object);
    const regarding = {
      apiVersion: `${resource.group}/${resource.version}`,
      kind: resource.kind,
      name,
      uid,
      ...(namespace === undefined ? {} : { namespace }),
    };
    for (const { type, reason, message } of events) this.#o.events.record(regarding, type, reason, message);
    if (condition) this.#last = this.#last.then(() => this.#say(resource, name, condition));
  }

  async #say(
    resource: Resource,
    name: string,
    word: { status: 'True' | 'False'; reason: string; message: string },
  ): Promise<void> {
    const { client, log, isLeading } = this.#o;
    try {
      const object = (await client.get(resource, name)) as WithStatus;
      const conditions = object.status?.conditions ?? [];
      const known = conditions.find(({ type }) => type === ACCEPTED);
      const { generation = 0, resourceVersion } = object.metadata;
      const isSaid =
        known?.status === word.status &&
        known.message === word.message &&
        known.observedGeneration === generation;
      if (isSaid || !isLeading()) return;
      const since = known?.status === word.status ? known.lastTransitionTime : undefined;
      const condition = {
        type: ACCEPTED,
        ...word,
        observedGeneration: generation,
        lastTransitionTime: since ?? rfc3339(this.#clock.now()),
      };
      // Of a definition of others nobody knows how its lists merge: the whole list, if nobody changed it meanwhile.
      const others = conditions.filter(({ type }) => type !== ACCEPTED);
      await client.patch(
        resource,
        name,
        undefined,
        { metadata: { resourceVersion }, status: { conditions: [...others, condition] } },
        { subresource: 'status' },
      );
    } catch (error) {
      if (isNotFound(error)) return;
      if (isConflict(error)) this.#told.delete(`${resource.kind} ${name}`);
      else log.warn({ error: (error as Error).message, name }, 'the condition of a policy is not written');
    }
  }
}
