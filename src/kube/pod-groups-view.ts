// The SecurityGroupPolicies as the API last said, and which groups they give a pod. The labels of a service account are asked for
// when a policy selects by them, and kept for a moment. `groupsOf` fails with KubeError when the API does not answer.
import { type Clock, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { KubeClient } from './client.ts';
import { isNotFound } from './errors.ts';
import { followEach, keyOf, type Sink } from './follow.ts';
import { decodePolicy, type NewPod, type Policy, type Selection, selectGroups } from './pod-groups.ts';
import { serviceAccounts } from './resources.ts';
import type { Labels } from './selectors.ts';
import { type SecurityGroupPolicy, securityGroupPolicies } from './vpc-resources.ts';

/** How long an account's labels hold (ms), and how many are kept. */
const HOLDS_MS = 5_000;
const MOST_ACCOUNTS = 1_000;

export class PolicyView {
  readonly #client: Pick<KubeClient, 'get'>;
  readonly #clock: Clock;
  readonly #policies = new Map<string, Policy>();
  readonly #accounts = new Map<string, { labels: Labels | null; at: number }>();
  #isWhole = false;

  readonly #onChange: () => void;

  constructor(client: Pick<KubeClient, 'get'>, clock: Clock = systemClock, onChange: () => void = () => {}) {
    this.#client = client;
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** True once all were listed. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  get size(): number {
    return this.#policies.size;
  }

  get all(): Iterable<Policy> {
    return this.#policies.values();
  }

  /** Ends when `signal` aborts. A cluster without the definition has no policies. */
  async follow(client: KubeClient, log: Log, signal: AbortSignal): Promise<void> {
    const onAway = (error: Error) =>
      log.warn({ error: error.message }, 'SecurityGroupPolicies are not to be had');
    await followEach(client, securityGroupPolicies, { sink: this.#sink(log), onAway }, signal);
  }

  /** `before`: only policies that are older than this (ms since 1970). */
  async groupsOf(
    { namespace, labels, serviceAccountName }: NewPod,
    signal?: AbortSignal,
    before = Number.POSITIVE_INFINITY,
  ): Promise<Selection> {
    const policies = [...this.#policies.values()].filter(
      (one) => one.namespace === namespace && one.since < before,
    );
    const isAsked = policies.some((one) => one.serviceAccounts !== null);
    const serviceAccount = isAsked ? await this.#labelsOf(namespace, serviceAccountName, signal) : null;
    return selectGroups(policies, { namespace, labels, serviceAccount });
  }

  async #labelsOf(namespace: string, name: string, signal?: AbortSignal): Promise<Labels | null> {
    const key = `${namespace}/${name}`;
    const now = this.#clock.now();
    const known = this.#accounts.get(key);
    if (known && now - known.at < HOLDS_MS) return known.labels;
    let labels: Labels | null = null;
    try {
      labels = (await this.#client.get(serviceAccounts, name, namespace, signal)).metadata.labels ?? {};
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    if (this.#accounts.size >= MOST_ACCOUNTS) this.#accounts.clear();
    this.#accounts.set(key, { labels, at: now });
    return labels;
  }

  #sink(log: Log): Sink<SecurityGroupPolicy> {
    const put = (object: SecurityGroupPolicy) => {
      const policy = decodePolicy(object);
      this.#policies.set(keyOf(object), policy);
      if (policy.fault !== null)
        log.warn({ policy: keyOf(object), fault: policy.fault }, 'a SecurityGroupPolicy selects nothing');
    };
    return {
      replace: (objects) => {
        this.#policies.clear();
        for (const object of objects) put(object);
        this.#isWhole = true;
        this.#onChange();
      },
      put: (object) => {
        put(object);
        this.#onChange();
      },
      remove: (object) => {
        this.#policies.delete(keyOf(object));
        this.#onChange();
      },
    };
  }
}
