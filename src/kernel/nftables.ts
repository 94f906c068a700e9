// nftables structure (tables, chains, rules, maps) through libnftables, off the main thread: on a pool thread for the
// process's own namespace (an agent needs no other, and a worker costs it 11 MB), by one worker thread for all others.
// One request at a time: the library keeps a table of links per process. A script is one atomic transaction: all of it
// or, with NftError and the library's own text, nothing. Elements that change with every pod go through nfnetlink.ts.
import { extname } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { NftError } from './errors.ts';
import { NftContext, type NftResult } from './libnftables.ts';
import { currentNetns, type Netns, openNetns } from './netns.ts';
import type { NftReply, NftRequest } from './nftables-worker.ts';

export { NftError } from './errors.ts';

type Waiting = { resolve: (reply: NftReply) => void; reject: (error: Error) => void };

/** The worker of this process, alive while any Nft of a foreign namespace is open. */
let worker: Worker | undefined;
let openCount = 0;
/** The end of the request before, whoever served it. */
let tail: Promise<unknown> = Promise.resolve();

function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const done = tail.then(work);
  tail = done.catch(() => undefined);
  return done;
}
let nextId = 1;
const waiting = new Map<number, Waiting>();

function startWorker(): Worker {
  // An agent never needs one, and does without the module.
  const { Worker } = process.getBuiltinModule('node:worker_threads');
  const started = new Worker(new URL(`./nftables-worker${extname(import.meta.url)}`, import.meta.url), {
    name: 'nft',
    // The thread holds strings and a library; a small young heap keeps the process small.
    resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 256 },
  });
  started.on('message', (reply: NftReply) => {
    const one = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (waiting.size === 0) started.unref();
    one?.resolve(reply);
  });
  const failAll = (error: Error) => {
    if (worker === started) worker = undefined;
    for (const one of waiting.values()) one.reject(error);
    waiting.clear();
  };
  started.on('error', (cause) => failAll(new Error('the nft thread failed', { cause })));
  started.on('exit', (code) => failAll(new Error(`the nft thread ended with code ${code}`)));
  started.unref();
  return started;
}

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;

function ask(request: WithoutId<NftRequest>): Promise<NftReply> {
  worker ??= startWorker();
  const id = nextId++;
  const thread = worker;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    thread.ref(); // a process does not end while it waits for an answer
    thread.postMessage({ ...request, id } as NftRequest);
  });
}

export class Nft implements AsyncDisposable {
  readonly #ns: Netns;
  readonly #context = nextId++;
  readonly #isOwn: boolean;
  #direct: NftContext | undefined;
  #closed = false;

  private constructor(ns: Netns) {
    this.#ns = ns;
    using current = currentNetns();
    this.#isOwn = current.inode === ns.inode;
    if (!this.#isOwn) openCount++;
  }

  /** Keeps a descriptor of its own: the caller may close `ns`. */
  static open(ns: Netns): Nft {
    const own = openNetns(`/proc/self/fd/${ns.fd}`);
    return new Nft(own);
  }

  async #run(script: string, json: boolean): Promise<string> {
    if (this.#closed) throw new Error('this nft handle is closed');
    const reply = await inTurn(() => this.#serve(script, json));
    if (!reply.ok) throw new NftError(reply.error, script);
    return reply.output;
  }

  #serve(script: string, json: boolean): Promise<NftResult> {
    if (!this.#isOwn) return ask({ kind: 'run', fd: this.#ns.fd, context: this.#context, script, json });
    this.#direct ??= new NftContext();
    return this.#direct.runAsync(script, json);
  }

  /** Runs a script in nft's language as one transaction. */
  async run(script: string): Promise<void> {
    await this.#run(script, false);
  }

  /** `nft -j -a list WHAT`, parsed: the array under "nftables". */
  async list(what = 'ruleset'): Promise<NftObject[]> {
    const output = await this.#run(`list ${what}`, true);
    if (output === '') return [];
    return (JSON.parse(output) as { nftables: NftObject[] }).nftables;
  }

  /** `nft list WHAT`, as text. */
  text(what = 'ruleset'): Promise<string> {
    return this.#run(`list ${what}`, false);
  }

  /** Frees the namespace's context; the thread ends with the last handle. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Earlier requests are answered first.
    if (this.#isOwn) {
      await inTurn(async () => this.#direct?.free());
      this.#ns.close();
      return;
    }
    if (worker) await ask({ kind: 'forget', context: this.#context }).catch(() => undefined);
    this.#ns.close();
    openCount--;
    if (openCount === 0 && worker) {
      const last = worker;
      worker = undefined;
      await last.terminate();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** One object of `nft -j`: a single key names its kind (`table`, `chain`, `rule`, `set`, `map`, …). */
export type NftObject = Record<string, unknown>;
