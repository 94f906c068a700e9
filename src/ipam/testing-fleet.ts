// Many nodes in one process on a clock that a simulation moves: the real pool, planner, reconciler, budget and journal
// of each over a cloud in memory. What it tells is which calls a fleet makes to EC2, and when.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { Journal } from '../base/journal.ts';
import { FakeCloud } from '../cloud/testing.ts';
import type { PoolRecord } from './journal/records.ts';
import { AddressPool, type PoolSettings } from './pool.ts';
import { identityOf, m5Large, metadataOf, podOwner, settle } from './testkit.ts';

/** Time moves in steps of this (ms): coarse, so that a thousand nodes wake together. */
const STEP = 500;

class SteppedClock implements Clock {
  #now = 1_700_000_000_000;
  #sleepers = new Set<{ at: number; wake: () => void }>();

  now = (): number => this.#now;

  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper = { at: this.#now + ms, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', onAbort, { once: true });
    });

  async advance(ms: number): Promise<void> {
    for (const end = this.#now + ms; this.#now < end; ) {
      this.#now += STEP;
      let woken = 0;
      for (const sleeper of this.#sleepers) {
        if (sleeper.at > this.#now) continue;
        this.#sleepers.delete(sleeper);
        sleeper.wake();
        woken++;
      }
      await settle(woken > 0 ? 12 : 2);
    }
  }
}

type Call = { action: string; at: number };

export class Fleet implements Disposable {
  readonly clock = new SteppedClock();
  readonly #nodes: FleetNode[];
  readonly #dir = mkdtempSync(join(tmpdir(), 'podway-fleet-'));
  calls: Call[] = [];

  /** `reconcileMs`: between two describes at rest; absent: what the pool does. */
  constructor(size: number, reconcileMs?: number) {
    this.#nodes = Array.from({ length: size }, (_, i) => {
      const cloud = new FakeCloud({
        before: (action) => void this.calls.push({ action, at: this.clock.now() }),
      });
      return new FleetNode(join(this.#dir, `node-${i}`), cloud, this.clock, i + 1, reconcileMs);
    });
  }

  /** Starts every node, or ends it and starts it again from its journal; evenly over `overMs`. */
  async start(overMs: number): Promise<void> {
    let started = 0;
    for (let passed = 0; started < this.#nodes.length; passed += STEP) {
      const due = Math.min(this.#nodes.length, Math.ceil(((passed + STEP) / overMs) * this.#nodes.length));
      for (; started < due; started++) this.#nodes[started]!.start();
      await this.clock.advance(STEP);
    }
  }

  /** Gives each node that many pods. */
  async addPods(count: number): Promise<void> {
    const added = this.#nodes.flatMap((node) => node.addPods(count));
    await this.clock.advance(30_000);
    await Promise.all(added);
  }

  /** Runs `work` and answers which calls were made meanwhile. */
  async count(work: () => Promise<void>): Promise<CallRates> {
    this.calls = [];
    const from = this.clock.now();
    await work();
    return callRates(this.calls, from, this.clock.now());
  }

  held(): number {
    return this.#nodes.reduce((sum, node) => sum + node.pool.counts().held, 0);
  }

  [Symbol.dispose](): void {
    for (const node of this.#nodes) node.end();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

class FleetNode {
  pool!: AddressPool;
  readonly #file: string;
  readonly #cloud: FakeCloud;
  readonly #clock: Clock;
  readonly #settings: PoolSettings;
  #seed: number;
  #stop: AbortController | undefined;
  #journal: Journal<PoolRecord> | undefined;

  constructor(file: string, cloud: FakeCloud, clock: Clock, seed: number, reconcileMs: number | undefined) {
    this.#file = file;
    this.#cloud = cloud;
    this.#clock = clock;
    this.#seed = seed * 2_654_435_761;
    this.#settings = {
      warm: 5,
      cooldownMs: 30_000,
      idleReleaseMs: 60_000,
      ...(reconcileMs === undefined ? {} : { reconcileMs }),
    };
  }

  start(): void {
    this.end();
    this.#journal = Journal.open<PoolRecord>(this.#file);
    this.#stop = new AbortController();
    this.pool = new AddressPool({
      cloud: this.#cloud,
      metadata: metadataOf(this.#cloud),
      journal: this.#journal,
      identity: identityOf(this.#cloud, m5Large),
      limits: m5Large,
      nodeName: 'node',
      settings: this.#settings,
      clock: this.#clock,
      random: () => {
        this.#seed = (Math.imul(this.#seed, 1_103_515_245) + 12_345) & 0x7fffffff;
        return this.#seed / 0x7fffffff;
      },
    });
    // What an agent does between the two takes some milliseconds.
    const { pool, signal } = { pool: this.pool, signal: this.#stop.signal };
    void this.#clock.sleep(1).then(() => pool.start(signal));
  }

  addPods(count: number): Promise<unknown>[] {
    return Array.from({ length: count }, (_, i) => this.pool.acquire(podOwner(`p${i}`)));
  }

  end(): void {
    this.#stop?.abort(new Error('ended'));
    this.#journal?.close();
  }
}

/** Calls a second, in all and by action, and the busiest ten seconds. */
export type CallRates = { perSecond: number; peak: number; byAction: Record<string, number> };

const PEAK_WINDOW = 10_000;

function callRates(calls: readonly Call[], from: number, to: number): CallRates {
  const seconds = (to - from) / 1000;
  const byAction: Record<string, number> = {};
  const windows: Record<number, number> = {};
  for (const { action, at } of calls) {
    byAction[action] = (byAction[action] ?? 0) + 1 / seconds;
    const window = Math.floor((at - from) / PEAK_WINDOW);
    windows[window] = (windows[window] ?? 0) + 1;
  }
  const busiest = Math.max(0, ...Object.values(windows));
  return { perSecond: calls.length / seconds, peak: busiest / (PEAK_WINDOW / 1000), byAction };
}
