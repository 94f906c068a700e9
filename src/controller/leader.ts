// One leader by a Lease (coordination.k8s.io), as client-go elects: whoever holds it renews it; another takes it when it
// was not renewed for its duration, measured by the taker's own clock from when it saw the last renewal. Invariant: the
// leader's signal aborts before another may lead, by the monotonic clock. Never throws.
import type { Log } from '../base/log.ts';
import { isConflict, isNotFound, type KubeClient, type KubeObject, resource } from '../kube/index.ts';

type LeaseSpec = {
  holderIdentity?: string | null;
  leaseDurationSeconds?: number;
  acquireTime?: string;
  renewTime?: string;
  leaseTransitions?: number;
};
export type Lease = KubeObject & { spec?: LeaseSpec };
export const leases = resource<Lease>('coordination.k8s.io/v1', 'leases', 'Lease', 'Namespaced');

/** As kube-controller-manager: how long a lease holds, how long its holder tries to renew it, and between tries (ms). */
const DURATION_MS = 15_000;
const RENEW_MS = 10_000;
const RETRY_MS = 2_000;

export type LeaderOptions = {
  client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  namespace: string;
  name: string;
  identity: string;
  log: Log;
  /** Monotonic, ms. */
  ticks?: () => number;
  now?: () => number;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  onChange?: (isLeading: boolean) => void;
};

export class Leader {
  readonly #options: LeaderOptions;
  readonly #ticks: () => number;
  readonly #now: () => number;
  /** The holder's last renewal that was seen, and when by our clock. */
  #seen: { text: string; at: number } | null = null;
  #renewed = Number.NEGATIVE_INFINITY;
  #lease: Lease | null = null;
  #toldFailure = false;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#ticks = options.ticks ?? (() => performance.now());
    this.#now = options.now ?? Date.now;
  }

  /** True while nobody else can lead. */
  get isLeading(): boolean {
    return this.#ticks() - this.#renewed < RENEW_MS;
  }

  /** Calls `lead` each time that this process begins to lead; its signal aborts when that ends. Ends when `signal` aborts. */
  async run(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { sleep, onChange = () => {}, log, identity } = this.#options;
    while (!signal.aborted) {
      if (!(await this.#try())) {
        await sleep(RETRY_MS * (0.75 + Math.random() / 2), signal).catch(() => undefined);
        continue;
      }
      log.info({ identity }, 'leading');
      onChange(true);
      const term = new AbortController();
      const over = AbortSignal.any([term.signal, signal]);
      const led = lead(over).catch((error: unknown) => {
        if (!over.aborted) log.error({ error: String(error) }, 'the leader failed');
        term.abort(error);
      });
      await this.#hold(over);
      term.abort(new Error('no longer the leader'));
      await led;
      onChange(false);
      log.info({ identity }, 'no longer leading');
      if (signal.aborted) await this.#release();
      this.#renewed = Number.NEGATIVE_INFINITY;
    }
  }

  /** Until the lease is lost, could be another's soon, or `signal` aborts. */
  async #hold(signal: AbortSignal): Promise<void> {
    const { sleep } = this.#options;
    for (;;) {
      await sleep(RETRY_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      // A renewal that hangs must not outlive the lease.
      const rest = this.#renewed + RENEW_MS - this.#ticks();
      if (rest <= 0) return;
      const answer = await Promise.race([
        this.#try(),
        sleep(rest, signal).then(
          () => 'late' as const,
          () => 'late' as const,
        ),
      ]);
      if (answer === 'late' && !signal.aborted) return;
      if (answer === false && this.#isAnothers()) return;
    }
  }

  #isAnothers(): boolean {
    const holder = this.#lease?.spec?.holderIdentity;
    return holder !== undefined && holder !== null && holder !== '' && holder !== this.#options.identity;
  }

  /** Takes or renews the lease. False when another holds it or the API does not answer. */
  async #try(): Promise<boolean> {
    const { client, namespace, name, identity, log } = this.#options;
    const began = this.#ticks();
    const renewTime = `${new Date(this.#now()).toISOString().slice(0, -1)}000Z`;
    try {
      let lease: Lease;
      try {
        lease = await client.get(leases, name, namespace);
      } catch (error) {
        if (!isNotFound(error)) throw error;
        const spec = this.#spec(renewTime, { acquireTime: renewTime, leaseTransitions: 0 });
        this.#lease = await client.create(leases, { metadata: { name, namespace }, spec }, namespace);
        this.#renewed = began;
        return true;
      }
      this.#lease = lease;
      const { holderIdentity, acquireTime, leaseTransitions = 0, leaseDurationSeconds } = lease.spec ?? {};
      const isOurs = holderIdentity === identity;
      const text = `${holderIdentity} ${lease.spec?.renewTime} ${lease.metadata.resourceVersion}`;
      if (this.#seen?.text !== text) this.#seen = { text, at: began };
      const duration = (leaseDurationSeconds ?? DURATION_MS / 1000) * 1000;
      if (!isOurs && holderIdentity && began - this.#seen.at < duration) return false;
      const spec = this.#spec(
        renewTime,
        isOurs && acquireTime
          ? { acquireTime, leaseTransitions }
          : { acquireTime: renewTime, leaseTransitions: leaseTransitions + 1 },
      );
      this.#lease = await client.update(leases, { ...lease, spec });
      this.#renewed = began;
      this.#toldFailure = false;
      return true;
    } catch (error) {
      if (isConflict(error)) return false;
      if (!this.#toldFailure)
        log.warn({ error: (error as Error).message }, 'the lease cannot be read or written');
      this.#toldFailure = true;
      return false;
    }
  }

  #spec(renewTime: string, kept: { acquireTime: string; leaseTransitions: number }): LeaseSpec {
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: DURATION_MS / 1000,
      renewTime,
      ...kept,
    };
  }

  /** So that the next one need not wait. */
  async #release(): Promise<void> {
    const lease = this.#lease;
    if (!lease || this.#isAnothers() || !this.isLeading) return;
    const { client, log } = this.#options;
    const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 };
    await client
      .update(leases, { ...lease, spec })
      .catch((error: Error) => log.debug({ error: error.message }, 'the lease is not released'));
  }
}
