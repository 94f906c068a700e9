// Quarantines addresses that a pod may use although the journal names no holder. After a lost journal the agent asks
// the Kubernetes API, until it answers, for the addresses of this node's pods; an address without a link is not given
// out. Its quarantine ends when neither kernel nor API names it for one cooldown, or by an operator's command.
// Invariant: while a configured API does not answer, no quarantine ends; other addresses are still given out.
import { systemClock } from '../base/clock.ts';
import { asPodwayError, PodwayError } from '../base/errors.ts';
import { formatIp, type Ip, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { AddressPool } from '../ipam/pool.ts';
import { isFree, QUARANTINE_LOOK_MS } from '../ipam/state.ts';
import { type ApiServer, isLive } from './api-server.ts';

/** Looks are a quarter of the cooldown apart, and no closer than this (ms). */
const SHORTEST_LOOK_MS = 250;

export type QuarantineOptions = {
  pool: AddressPool;
  datapath: Pick<Datapath, 'standing'>;
  api: ApiServer;
  log: Log;
  /** Each address that was kept back, and why. */
  onQuarantine: (ip: string, reason: string) => void;
};

export class Quarantine {
  readonly #o: QuarantineOptions;
  /** By address: since when (ms) neither the kernel nor the API names it. */
  readonly #clearSince = new Map<Ip, number>();
  /** The API has not been asked since the journal was lost. */
  #mustAsk: boolean;

  constructor(options: QuarantineOptions) {
    this.#o = options;
    this.#mustAsk = options.pool.adoption !== null && options.api.isConfigured;
  }

  /** Looks until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { pool, log } = this.#o;
    const pause = () => Math.min(QUARANTINE_LOOK_MS, Math.max(SHORTEST_LOOK_MS, pool.cooldownMs / 4));
    for (let failing = false; !signal.aborted; ) {
      try {
        await this.#look(signal);
        failing = false;
      } catch (error) {
        if (signal.aborted) return;
        if (!failing) log.warn({ error: (error as Error).message }, 'quarantined addresses stay so for now');
        failing = true;
      }
      await systemClock.sleep(pause(), signal).catch(() => undefined);
    }
  }

  /** Ends one at once. Throws NOT_QUARANTINED, or ADDRESS_IN_USE while the kernel has a link, route or element for it. */
  release(text: string): void {
    const { pool, datapath, log } = this.#o;
    const ip = parseAddress(text);
    if (!pool.quarantined().includes(ip)) {
      const use = pool.state.uses.get(ip);
      const kind = isFree(use, systemClock.now()) ? undefined : use?.kind;
      const is = kind ?? (pool.owns(ip) ? 'free' : "none of this node's");
      throw new PodwayError('NOT_QUARANTINED', `${text} is ${is}, not quarantined`, { object: text });
    }
    const holder = datapath.standing().pods.find((pod) => pod.ips.includes(ip));
    if (holder) {
      const message = `${text} is the address of link ${holder.hostIfname}, which stands`;
      throw new PodwayError('ADDRESS_IN_USE', message, { object: text });
    }
    pool.endQuarantine(ip);
    log.info({ ip: text }, 'released an address from quarantine by hand');
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { pool, api, datapath } = this.#o;
    // The API's addresses can be judged only after EC2 has listed this node's addresses.
    if (pool.unsure) return;
    if (!this.#mustAsk && pool.quarantined().length === 0) return this.#clearSince.clear();
    const named = api.isConfigured ? await this.#namedByApi(signal) : new Map<Ip, string>();
    if (this.#mustAsk) {
      for (const [ip, pod] of named) if (pool.owns(ip)) this.#keepBack(ip, `the API says that ${pod} has it`);
      this.#mustAsk = false;
    }
    const inKernel = datapath.standing().named;
    this.#endThoseOver((ip) => inKernel.has(ip) || named.has(ip));
  }

  #endThoseOver(isNamed: (ip: Ip) => boolean): void {
    const { pool, log } = this.#o;
    const now = systemClock.now();
    const quarantined = new Set(pool.quarantined());
    for (const ip of this.#clearSince.keys())
      if (!quarantined.has(ip) || isNamed(ip)) this.#clearSince.delete(ip);
    for (const ip of quarantined) {
      if (isNamed(ip)) continue;
      const since = this.#clearSince.get(ip) ?? now;
      this.#clearSince.set(ip, since);
      if (now - since < pool.cooldownMs) continue;
      pool.endQuarantine(ip);
      log.info({ ip: formatIp(ip) }, 'nobody names the address any more: its quarantine is over');
    }
  }

  #keepBack(ip: Ip, reason: string): void {
    if (this.#o.pool.quarantine(ip, reason)) this.#o.onQuarantine(formatIp(ip), reason);
  }

  /** Addresses of this node's live pods, with their names. */
  async #namedByApi(signal: AbortSignal): Promise<Map<Ip, string>> {
    const found = new Map<Ip, string>();
    for (const pod of (await this.#o.api.pods(signal)).filter(isLive)) {
      const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
      for (const { ip } of pod.status?.podIPs ?? []) if (ip) found.set(parseIp(ip), name);
      if (pod.status?.podIP) found.set(parseIp(pod.status.podIP), name);
    }
    return found;
  }
}

function parseAddress(text: string): Ip {
  try {
    return parseIp(text);
  } catch (error) {
    throw new PodwayError('NOT_QUARANTINED', asPodwayError(error).message, { object: text });
  }
}
