// Pods that started before their policies were in force (policyTimeout: isolate). Each reaches its node alone until its
// policies are, or until its address is released. They are on file, so that the next agent goes on with them. Loaded when
// the first one is isolated. Invariant: a pod is let go only when what judges it is in force.
import { readFileSync, writeFileSync } from 'node:fs';
import { formatIp, type Ip, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Netns } from '../kernel/netns.ts';
import { ISOLATION_TABLE, Isolation } from '../policy/isolation.ts';
import { watchTable } from './table-watch.ts';
import type { PodName, Tell } from './tell.ts';

export type IsolatedPodsOptions = {
  netns: Netns;
  /** Keeps them across restarts. */
  file: string;
  log: Log;
  tell: Tell;
  /** Resolves when what judges the pod is in force. */
  inForce: (pod: PodName, ips: readonly Ip[], signal: AbortSignal) => Promise<void>;
};

type Isolated = { pod: PodName; ips: readonly Ip[]; end: AbortController };

export class IsolatedPods {
  readonly #o: IsolatedPodsOptions;
  readonly #kernel: Isolation;
  readonly #watch: { close(): void };
  readonly #pods = new Map<Ip, Isolated>();

  constructor(options: IsolatedPodsOptions) {
    this.#o = options;
    this.#kernel = new Isolation(options.netns);
    this.#watch = watchTable({
      netns: options.netns,
      table: ISOLATION_TABLE,
      isOwn: (port) => this.#kernel.isOwn(port),
      onTouched: () => this.#repair(),
    });
  }

  /** NAMESPACE/NAME of those that are isolated now. */
  get names(): string[] {
    return [...new Set([...this.#pods.values()].map(({ pod }) => `${pod.namespace}/${pod.name}`))];
  }

  /** Goes on with those of the process before. */
  async resume(): Promise<void> {
    const { file, log } = this.#o;
    try {
      const kept = JSON.parse(readFileSync(file, 'utf8')) as { pod: PodName; ips: string[] }[];
      for (const { pod, ips } of kept) await this.#begin(pod, ips.map(parseIp));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.error({ error: (error as Error).message }, 'isolated pods are not known: they stay so');
    }
  }

  /** Resolves when the kernel isolates the pod. Rejects when it does not: then the pod must not start. */
  async isolate(pod: PodName, ips: readonly Ip[], because: string): Promise<void> {
    await this.#begin(pod, ips);
    this.#o.tell({
      kind: 'isolated',
      object: `${pod.namespace}/${pod.name}`,
      text: `the pod reaches its node alone for now: ${because}`,
      pod,
    });
  }

  async #begin(pod: PodName, ips: readonly Ip[]): Promise<void> {
    const one: Isolated = { pod, ips, end: new AbortController() };
    for (const ip of ips) this.#pods.set(ip, one);
    try {
      await this.#kernel.add(ips);
    } catch (error) {
      for (const ip of ips) this.#pods.delete(ip);
      throw error;
    }
    this.#write();
    void this.#until(one);
  }

  async #until(one: Isolated): Promise<void> {
    const { pod, ips, end } = one;
    try {
      await this.#o.inForce(pod, ips, end.signal);
    } catch (error) {
      if (!end.signal.aborted)
        this.#o.log.error({ error: String(error) }, 'an isolated pod stays so: its policies are not known');
      return;
    }
    if (end.signal.aborted) return;
    this.release(ips);
    this.#o.log.info(
      { pod: `${pod.namespace}/${pod.name}`, ips: ips.map(formatIp) },
      'the policies of an isolated pod are in force',
    );
  }

  /** Synchronous. The addresses are judged by policy from now on, or nobody's. */
  release(ips: readonly Ip[]): void {
    const known = ips.filter((ip) => this.#pods.has(ip));
    if (known.length === 0) return;
    for (const ip of known) {
      this.#pods.get(ip)!.end.abort();
      this.#pods.delete(ip);
    }
    this.#kernel.remove(known);
    this.#write();
  }

  /** Nothing is judged any more. */
  releaseAll(): void {
    this.release([...this.#pods.keys()]);
  }

  #repair(): void {
    if (this.#pods.size === 0) return;
    this.#o.log.warn({}, 'somebody changed the table of isolated pods: it is made anew');
    this.#kernel
      .make()
      .catch((error) =>
        this.#o.log.error({ error: String(error) }, 'the table of isolated pods is not made'),
      );
  }

  #write(): void {
    const kept = [...new Set(this.#pods.values())].map(({ pod, ips }) => ({ pod, ips: ips.map(formatIp) }));
    try {
      writeFileSync(this.#o.file, JSON.stringify(kept), { mode: 0o600 });
    } catch (error) {
      this.#o.log.warn({ error: (error as Error).message }, 'isolated pods are not on file');
    }
  }

  /** Leaves the table as it is. */
  async close(): Promise<void> {
    this.#watch.close();
    for (const { end } of this.#pods.values()) end.abort();
    await this.#kernel.close();
  }
}
