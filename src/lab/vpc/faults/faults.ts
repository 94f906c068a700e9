// Everything that can go wrong with a request, in the order in which it does: the answer takes its time, the account has
// no token, a fault hits, the state read is a past one, the answer is lost; then the call is logged.
// Requests of the lab itself pass untouched.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Clock } from '../../../base/clock.ts';
import type { Caller, LabState } from '../context.ts';
import { Ec2Error } from '../errors.ts';
import type { VpcState } from '../model.ts';
import type { Rate } from './bucket.ts';
import { CallLog, type CallReport } from './call-log.ts';
import { chance } from './chance.ts';
import { History } from './history.ts';
import { type ImdsLag, type ImdsView, laggingView, longestLag } from './imds-lag.ts';
import { drawAnswerTime } from './latency.ts';
import { isReading } from './published.ts';
import { checkFault, FaultRefused, type FaultRequest, type FaultView, isHit, meets } from './rules.ts';
import { FaultStore } from './store.ts';
import { Throttle } from './throttle.ts';
import { injected } from './words.ts';

export type FaultSettings = {
  ec2Latency: unknown;
  /** `aws`: buckets of the published sizes. */
  ec2Throttle: 'none' | 'aws';
  /** A describe may answer with the state of so many milliseconds ago. */
  ec2ConsistencyMs: number;
  imdsLag: ImdsLag;
  /** Decides latencies and how far back a describe looks. */
  ec2Seed: number;
};

/** The connection ends without an answer; `result` is what the call log says. */
export class AnswerLost extends Error {
  override name = 'AnswerLost';
}

type Call = { action: string; input: object; caller: Caller; own: boolean };

export type FaultOptions = {
  dir: string;
  clock: Clock;
  settings: FaultSettings;
  state(): VpcState;
  signal: AbortSignal;
};

const MAX_FAULTS = 100;
const ADMIN = 'admin';

export class Faults {
  readonly #options: FaultOptions;
  readonly #store: FaultStore;
  readonly #throttle: Throttle;
  readonly #log: CallLog;
  readonly #history = new History();
  #faults: FaultView[];
  /** Calls that have drawn their time, and describes that have drawn their age. */
  #drawn = 0;
  #aged = 0;

  constructor(options: FaultOptions) {
    this.#options = options;
    this.#store = new FaultStore(join(options.dir, 'faults.sqlite'));
    this.#throttle = new Throttle(this.#store.sizes());
    this.#faults = this.#store.faults();
    this.#log = new CallLog(options.clock.now());
  }

  /** Runs an action; `next` runs it on the present state, or reads a past one. */
  async around(
    call: Call,
    next: (asOf?: { state: LabState; now: number }) => Promise<object>,
  ): Promise<object> {
    if (call.own) return next();
    const { clock, settings } = this.#options;
    const at = clock.now();
    const began = performance.now();
    const caller = this.#nameOf(call.caller);
    const done = (result: string) =>
      this.#log.add(
        { at, action: call.action, caller, result, ms: Math.round(performance.now() - began) },
        call.input,
      );
    try {
      if (settings.ec2Latency === 'realistic')
        await this.#pause(drawAnswerTime(isReading(call.action), settings.ec2Seed, this.#drawn++));
      this.#throttle.check(call.action, call.input, settings.ec2Throttle, clock.now());
      const answer = await this.#faulty(call, caller, next);
      done('ok');
      return answer;
    } catch (error) {
      done(error instanceof Ec2Error ? error.code : error instanceof AnswerLost ? 'lost' : 'InternalError');
      throw error;
    }
  }

  async #faulty(
    call: Call,
    caller: string,
    next: (asOf?: { state: LabState; now: number }) => Promise<object>,
  ): Promise<object> {
    const { clock, settings } = this.#options;
    let back = 0;
    let lost = false;
    for (const { id, effect } of this.#hits(call.action, caller)) {
      if (effect.kind === 'delay') await this.#pause(effect.ms);
      if (effect.kind === 'stale') back = Math.max(back, effect.ms);
      if (effect.kind === 'error') throw injected(effect.code, id);
      if (effect.kind === 'drop-request') throw new AnswerLost(`the request was dropped (${id})`);
      if (effect.kind === 'drop-answer') lost = true;
    }
    const reading = isReading(call.action);
    if (reading && settings.ec2ConsistencyMs > 0)
      back = Math.max(back, Math.floor(chance(settings.ec2Seed, this.#aged++) * settings.ec2ConsistencyMs));
    const now = clock.now() - back;
    const answer = next(reading && back > 0 ? { state: this.#history.at(now), now } : undefined);
    if (!lost) return answer;
    // A refusal is an answer too.
    await answer.catch(() => {});
    throw new AnswerLost('the answer was dropped');
  }

  /**
   * A request to IMDS for what `path` names below /latest/meta-data, or for the token. `answer` writes the answer from a view of
   * the state; `plain` one without a tree.
   */
  async imds(
    request: IncomingMessage,
    response: ServerResponse,
    instanceId: string,
    answer: (view: ImdsView | undefined) => void,
    plain: (status: number, body: string) => void,
  ): Promise<void> {
    const { clock, settings } = this.#options;
    let back = 0;
    let lost = false;
    for (const { effect } of this.#hits(`imds:${imdsPath(request)}`, this.#instanceName(instanceId))) {
      if (effect.kind === 'delay') await this.#pause(effect.ms);
      if (effect.kind === 'stale') back = Math.max(back, effect.ms);
      if (effect.kind === 'error') return plain(Number(effect.code), '');
      if (effect.kind === 'empty') return plain(200, '');
      if (effect.kind === 'drop-request') return void request.socket.destroy();
      if (effect.kind === 'drop-answer') lost = true;
    }
    if (response.destroyed || lost) return void request.socket.destroy();
    const lag = settings.imdsLag;
    if (back === 0 && longestLag(lag) === 0) return answer(undefined);
    answer(laggingView((time) => this.#history.at(time), clock.now() - back, lag, instanceId));
  }

  /** Adds a fault; throws FaultRefused. */
  add(asked: FaultRequest): FaultView {
    const { id: _, ...rule } = checkFault(asked) as FaultRequest & { id?: string };
    if (this.#faults.length >= MAX_FAULTS)
      throw new FaultRefused(`there are ${this.#faults.length} faults of at most ${MAX_FAULTS}`);
    const fault = this.#store.addFault(rule);
    this.#faults = [...this.#faults, fault];
    // A stale answer looks back to this moment at most.
    this.note(this.#history.at(Number.POSITIVE_INFINITY));
    return fault;
  }

  list(): FaultView[] {
    return this.#faults.map((fault) => ({ ...fault }));
  }

  /** Ends one fault, or all; answers those that it ended. Throws FaultRefused for an id that there is not. */
  clear(id?: string): FaultView[] {
    const ended = this.#faults.filter((fault) => id === undefined || fault.id === id);
    if (id !== undefined && ended.length === 0) throw new FaultRefused(`there is no fault ${id}`);
    for (const fault of ended) this.#store.removeFault(fault.id);
    this.#faults = this.#faults.filter((fault) => !ended.includes(fault));
    return ended;
  }

  /** Bucket sizes that `lab throttle` has set, by action; `*` is every other one. */
  get sizes(): ReadonlyMap<string, Rate> {
    return this.#throttle.sizes;
  }

  /** Sets the bucket of an action, or of every action that has none of its own; undefined ends that. */
  setSize(action: string, size: Rate | undefined): void {
    this.#store.setSize(action, size);
    this.#throttle.set(action, size);
  }

  clearSizes(): void {
    for (const action of [...this.sizes.keys()]) this.setSize(action, undefined);
  }

  report(from?: number): CallReport {
    return this.#log.report(from);
  }

  /** Does it once in the lab's life, over restarts: what its lab.yaml asks for. */
  once(what: string, work: () => void): void {
    if (this.#store.once(what)) work();
  }

  /** The VPC's state from now on. */
  note(state: LabState): void {
    const { clock, settings } = this.#options;
    const staleness = this.#faults.map(({ effect }) => (effect.kind === 'stale' ? effect.ms : 0));
    this.#history.note(
      state,
      clock.now(),
      Math.max(settings.ec2ConsistencyMs, longestLag(settings.imdsLag), ...staleness) +
        // A stale fault looks at a state that lagged then.
        longestLag(settings.imdsLag),
    );
  }

  close(): void {
    this.#store.close();
  }

  /** The faults that hit this request; each that meets it has counted it. */
  #hits(action: string, instance: string): FaultView[] {
    const hits: FaultView[] = [];
    for (const fault of this.#faults) {
      if (!meets(fault, action, instance)) continue;
      const hit = isHit(fault, fault.seen, fault.hit);
      fault.seen++;
      if (hit) {
        fault.hit++;
        hits.push(fault);
      }
      this.#store.count(fault);
    }
    return hits;
  }

  async #pause(ms: number): Promise<void> {
    const { clock, signal } = this.#options;
    await clock.sleep(ms, signal).catch(() => {
      throw new Ec2Error('Unavailable', 'The lab is going down.');
    });
  }

  #nameOf(caller: Caller): string {
    return caller.instanceId === undefined ? ADMIN : this.#instanceName(caller.instanceId);
  }

  #instanceName(id: string): string {
    return this.#options.state().instances[id]?.name ?? id;
  }
}

/** `network/interfaces/macs`, `token`; any other path whole. */
function imdsPath(request: IncomingMessage): string {
  const path = decodeURIComponentOr(request.url ?? '/')
    .split('?', 1)[0]!
    .replace(/\/+$/, '');
  return path.replace(/^\/[^/]+\/(?:meta-data\/?|api\/(?=token$))/, '');
}

function decodeURIComponentOr(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
