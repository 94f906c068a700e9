// Whether EC2 can be reached. Owns that word: away means no connection, no answer in time, or a 5xx, seen by a call and
// confirmed by a probe of its own. A refusal and throttling are answers. While EC2 is away the probe is the only call,
// one describe by id, at most every 8 s. Never fails.
import type { Clock } from '../../base/clock.ts';
import { type Cloud, CloudError } from '../../cloud/port.ts';

/** Two probes begin this far apart (ms) at least, and up to PROBE_JITTER more: nodes do not probe together. */
const PROBE_GAP = 8_000;
const PROBE_JITTER = 1_000;
/** The first probe after a failed call comes within this time (ms). */
const FIRST_PROBE = 500;
/** A probe without an answer for this long (ms) has failed: less than the gap, so that probes never overlap. */
const PROBE_BOUND = 5_000;

export type Away = {
  /** Ms: the beginning of the first call that failed. */
  readonly since: number;
  /** `NoConnection`: no connection or no answer. `ServerError`: EC2 answers with 5xx. */
  readonly reason: 'NoConnection' | 'ServerError';
  readonly message: string;
};

export type ReachOptions = {
  clock: Clock;
  random: () => number;
  /** One describe by id, tried once. */
  probe: (signal: AbortSignal) => Promise<unknown>;
  /** EC2 is away; the next probe has ended at `until` (ms). Called again after each failed probe. */
  onAway: (away: Away, until: number) => void;
  /** EC2 has answered after it was away. */
  onBack: () => void;
  /** Told the first answer or absence, and each change; null: EC2 is there. */
  onChange: (away: Away | null) => void;
};

export class Reach {
  readonly #o: ReachOptions;
  /** A call failed, and nothing has answered since. */
  #suspect: Away | null = null;
  #away: Away | null = null;
  #told = false;
  /** Beginning of the latest call that EC2 answered: what began earlier and failed says nothing new. */
  #answeredAt = Number.NEGATIVE_INFINITY;
  #lastProbe = Number.NEGATIVE_INFINITY;
  #nextProbe = Number.POSITIVE_INFINITY;
  #probing = false;

  constructor(options: ReachOptions) {
    this.#o = options;
  }

  get away(): Away | null {
    return this.#away;
  }

  /** The cloud, with an eye on how its calls end. */
  watch(cloud: Cloud): Cloud {
    return new Proxy(cloud, {
      get: (target, name) => {
        const found = Reflect.get(target, name) as unknown;
        if (typeof found !== 'function') return found;
        return async (...args: unknown[]) => {
          const beganAt = this.#o.clock.now();
          try {
            const answer = await (found.apply(target, args) as Promise<unknown>);
            this.#answered(beganAt);
            return answer;
          } catch (error) {
            this.#ended(beganAt, error);
            throw error;
          }
        };
      },
    });
  }

  dueAt(): number {
    return this.#probing ? Number.POSITIVE_INFINITY : this.#nextProbe;
  }

  startDue(now: number): Promise<void> | null {
    if (this.#probing || now < this.#nextProbe) return null;
    this.#probing = true;
    this.#lastProbe = now;
    this.#nextProbe = Number.POSITIVE_INFINITY;
    return this.#probe(now).finally(() => {
      this.#probing = false;
    });
  }

  async #probe(beganAt: number): Promise<void> {
    const { clock, probe } = this.#o;
    const stop = new AbortController();
    const late = new CloudError('DescribeNetworkInterfaces', 'Timeout', `no answer in ${PROBE_BOUND} ms`);
    const bound = clock.sleep(PROBE_BOUND, stop.signal).then(() => Promise.reject(late));
    try {
      await Promise.race([probe(stop.signal), bound]);
      this.#answered(beganAt);
    } catch (error) {
      if (isAway(error)) this.#confirm(error);
      else this.#ended(beganAt, error);
    } finally {
      bound.catch(() => {});
      stop.abort(late);
    }
  }

  #ended(beganAt: number, error: unknown): void {
    if (!(error instanceof CloudError)) return;
    if (!isAway(error)) this.#answered(beganAt);
    else if (beganAt >= this.#answeredAt && !this.#suspect) {
      this.#suspect = awayBy(error, beganAt);
      this.#plan(FIRST_PROBE);
    }
  }

  #answered(beganAt: number): void {
    this.#answeredAt = Math.max(this.#answeredAt, beganAt);
    const wasAway = this.#away !== null;
    this.#suspect = null;
    this.#away = null;
    this.#nextProbe = Number.POSITIVE_INFINITY;
    if (wasAway) this.#o.onBack();
    if (wasAway || !this.#told) this.#tell();
  }

  /** A probe has failed too. */
  #confirm(error: CloudError): void {
    if (!this.#suspect) return;
    const isNew = this.#away === null;
    this.#away = isNew ? { ...awayBy(error, this.#suspect.since) } : this.#away;
    this.#plan(0);
    this.#o.onAway(this.#away!, this.#nextProbe + PROBE_BOUND);
    if (isNew) this.#tell();
  }

  #plan(soonest: number): void {
    const { clock, random } = this.#o;
    const early = clock.now() + soonest * random();
    this.#nextProbe = Math.max(early, this.#lastProbe + PROBE_GAP + PROBE_JITTER * random());
  }

  #tell(): void {
    this.#told = true;
    this.#o.onChange(this.#away);
  }
}

const isAway = (error: unknown): error is CloudError =>
  error instanceof CloudError && error.code === 'CLOUD_UNREACHABLE';

const awayBy = (error: CloudError, since: number): Away => ({
  since,
  reason: error.ec2Code === 'Network' || error.ec2Code === 'Timeout' ? 'NoConnection' : 'ServerError',
  message: error.message,
});
