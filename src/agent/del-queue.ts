// DELs that the plugin wrote to disk while no agent answered: drained at start, when the directory changes, and every
// 30 s. An entry older than the attachment's present ADD is dropped: it was meant for an earlier sandbox.
// An entry that cannot be read is renamed aside, reported once and never deletes anything. A directory that others removed
// is made again. Never rejects but at the first `start`.
import { type FSWatcher, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, watch } from 'node:fs';
import { join } from 'node:path';
import { decodeRequest } from '../cni/request.ts';
import { RequestDecoder } from '../cni/wire.ts';

const DRAIN_INTERVAL_MS = 30_000;

export type QueuedDel = { network: string; containerId: string; ifname: string; queuedAt: number };

export type DelQueueOptions = {
  dir: string;
  /** Milliseconds since 1970 of the attachment's present ADD, or null when it holds nothing. */
  heldSince: (del: QueuedDel) => number | null;
  del: (del: QueuedDel) => Promise<void>;
  onError: (file: string, error: unknown) => void;
  onLength: (entries: number) => void;
};

const isEntry = (name: string) => !name.startsWith('.') && !name.endsWith('.bad');

function readEntry(bytes: Buffer): QueuedDel {
  const call = new RequestDecoder().push(bytes);
  if (!call) throw new Error('the entry is cut off');
  const request = decodeRequest(call.env, call.stdin);
  if (request.verb !== 'DEL') throw new Error(`the entry is a ${request.verb}`);
  const queuedAt = Number(call.env.get('PODWAY_QUEUED_AT'));
  if (!Number.isFinite(queuedAt)) throw new Error('the entry has no time');
  return { network: request.conf.name, containerId: request.containerId, ifname: request.ifname, queuedAt };
}

export class DelQueue {
  readonly #o: DelQueueOptions;
  #watcher: FSWatcher | null = null;
  #draining: Promise<void> | null = null;
  #again = false;
  #timer: NodeJS.Timeout | null = null;
  #hasEnded = false;

  constructor(options: DelQueueOptions) {
    this.#o = options;
    this.#make();
  }

  /** Drains what is there, then keeps draining until `signal` aborts. */
  async start(signal: AbortSignal): Promise<void> {
    this.#watch();
    const tick = () => {
      this.#timer = setTimeout(() => void this.drain().finally(tick), DRAIN_INTERVAL_MS);
      this.#timer.unref();
    };
    signal.addEventListener('abort', () => {
      this.#hasEnded = true;
      this.#watcher?.close();
      if (this.#timer) clearTimeout(this.#timer);
    });
    tick();
    await this.drain();
  }

  /** One drain at a time; a change during one makes another follow. */
  drain(): Promise<void> {
    if (this.#draining) {
      this.#again = true;
      return this.#draining;
    }
    this.#draining = (async () => {
      // What follows runs when `#draining` is set: a DEL may ask for a drain itself.
      await Promise.resolve();
      do {
        this.#again = false;
        await this.#drainOnce();
      } while (this.#again);
      this.#draining = null;
    })();
    return this.#draining;
  }

  #make(): void {
    mkdirSync(this.#o.dir, { recursive: true, mode: 0o700 });
  }

  #watch(): void {
    this.#watcher?.close();
    this.#watcher = watch(this.#o.dir, () => void this.drain());
    this.#watcher.on('error', (error) => this.#o.onError(this.#o.dir, error));
  }

  #list(): string[] {
    const { dir } = this.#o;
    try {
      return readdirSync(dir).filter(isEntry);
    } catch (error) {
      this.#o.onError(dir, error);
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || this.#hasEnded) return [];
    }
    try {
      this.#make();
      if (this.#watcher) this.#watch();
    } catch (error) {
      // Tried again at the next drain.
      this.#o.onError(dir, error);
    }
    return [];
  }

  async #drainOnce(): Promise<void> {
    let left = 0;
    for (const name of this.#list()) {
      const file = join(this.#o.dir, name);
      let entry: QueuedDel;
      try {
        entry = readEntry(readFileSync(file));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        this.#o.onError(file, error);
        this.#putAside(file);
        continue;
      }
      try {
        const since = this.#o.heldSince(entry);
        if (since === null || since <= entry.queuedAt) await this.#o.del(entry);
        // A newer DEL of the same attachment may have replaced the file meanwhile.
        if (readEntry(readFileSync(file)).queuedAt === entry.queuedAt) rmSync(file, { force: true });
      } catch (error) {
        left++;
        this.#o.onError(file, error);
      }
    }
    this.#o.onLength(left);
  }
  #putAside(file: string): void {
    try {
      renameSync(file, `${file}.bad`);
    } catch (error) {
      this.#o.onError(file, error);
    }
  }
}
