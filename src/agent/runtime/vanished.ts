// Ends attachments whose sandbox the container runtime no longer has and whose DEL never came: a runtime whose state was
// deleted, a DEL that it gave up. Runtimes that never call GC are the rule, so this is what is relied on. Invariant: an
// attachment ends only when two looks a minute apart lack its sandbox, it is older than a sandbox's start can take, and the
// API, where there is one, answers and does not say that the pod lives here. Attachments without a pod (made by hand) stay.
import { systemClock } from '../../base/clock.ts';
import { formatIp, type Ip } from '../../base/ip.ts';
import type { Log } from '../../base/log.ts';
import type { Lease } from '../../ipam/state.ts';
import { type ApiServer, isLive } from '../api-server.ts';
import type { Tell } from '../tell.ts';

/** Between two looks (ms). */
const LOOK_MS = 60_000;
/** A runtime lists a sandbox only when its start is over, which the kubelet lets last four minutes (ms). */
const OLDEST_START_MS = 300_000;

export type VanishedOptions = {
  sandboxes: (signal?: AbortSignal) => Promise<ReadonlySet<string>>;
  held: () => readonly Lease[];
  /** Ends the attachment if it is still the same one. */
  end: (lease: Lease) => Promise<void>;
  api: Pick<ApiServer, 'isConfigured' | 'pods'>;
  log: Log;
  tell: Tell;
  onEnded: () => void;
  /** Ms since 1970, as leases count. */
  now: () => number;
};

const keyOf = ({ owner, at }: Lease): string => `${owner.containerId}/${owner.ifname}@${at}`;
const textOf = (ips: readonly Ip[]): string => ips.map(formatIp).join(', ');

export class VanishedSandboxes {
  readonly #o: VanishedOptions;
  /** Without a sandbox at the last look. */
  #suspects = new Set<string>();
  #isAway = false;

  constructor(options: VanishedOptions) {
    this.#o = options;
  }

  /** Looks until `signal` aborts. Never rejects. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await systemClock.sleep(LOOK_MS * (1 + Math.random() / 4), signal).catch(() => undefined);
      if (!signal.aborted) await this.look(signal);
    }
  }

  async look(signal?: AbortSignal): Promise<void> {
    const { sandboxes, held, log, now } = this.#o;
    try {
      const began = now();
      const known = await sandboxes(signal);
      const lacking = held().filter(
        ({ owner, at }) => owner.pod && !known.has(owner.containerId) && began - at > OLDEST_START_MS,
      );
      const before = this.#suspects;
      this.#suspects = new Set(lacking.map(keyOf));
      const gone = lacking.filter((lease) => before.has(keyOf(lease)));
      if (gone.length > 0) await this.#endThose(gone, signal);
      this.#isAway = false;
    } catch (error) {
      if (signal?.aborted) return;
      // A runtime that restarts is no news twice.
      if (!this.#isAway)
        log.warn({ error: (error as Error).message }, 'attachments are not compared with sandboxes');
      this.#isAway = true;
    }
  }

  async #endThose(gone: readonly Lease[], signal?: AbortSignal): Promise<void> {
    const { api, end, held, log, tell, onEnded } = this.#o;
    const living = new Set(
      api.isConfigured
        ? (await api.pods(signal))
            .filter((pod) => isLive(pod))
            .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)
        : [],
    );
    for (const lease of gone) {
      const { owner, ips } = lease;
      const pod = owner.pod!;
      const name = `${pod.namespace}/${pod.name}`;
      const hasOther = held().some(
        ({ owner: other, at }) =>
          at > lease.at && other.pod?.namespace === pod.namespace && other.pod.name === pod.name,
      );
      if (living.has(name) && !hasOther) {
        const text = `the runtime has no sandbox ${owner.containerId}, and the API says that ${name} runs: ${textOf(ips)} stays held`;
        tell({ kind: 'sandbox', object: owner.containerId, text, pod });
        continue;
      }
      await end(lease);
      onEnded();
      log.warn(
        { ...owner, ips: textOf(ips) },
        'ended an attachment: the runtime has no such sandbox, and its DEL never came',
      );
    }
  }
}
