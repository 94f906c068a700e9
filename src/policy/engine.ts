// Keeps the kernel's policy table as the API's objects and this node's pods say. A change that needs no structure (a pod
// that comes, goes, or has another address) is a few elements, set at once; anything else compiles anew, and is diffed.
// Invariant: nothing is put in force before policies, pods and namespaces are all known; until then a table that an
// earlier process left stays as it is. A failure is told and tried again; it never opens anything.

import type { Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { FlowLog, PolicyMode } from '../base/policy-words.ts';
import type { Labels } from '../kube/selectors.ts';
import { bring } from './bring.ts';
import { isSubject, programOf } from './compile.ts';
import { Compiler } from './compiler.ts';
import { Cutter } from './cutter.ts';
import type { PolicyKernel } from './kernel.ts';
import { type Nodes, type PodView, type Policy, podKey } from './model.ts';
import { Numbers } from './numbers.ts';
import { isSameView } from './objects.ts';
import { clearings, type Ground, type MutableProgram, type Placing, placingsOf } from './placing.ts';
import type { Program } from './program.ts';
import { Renderer } from './render.ts';

/** Ms after a failure; each next one doubles it. */
const RETRY_MS = 50;
const RETRY_MOST_MS = 2_000;
/** Ms that chains and maps which nothing refers to stay in the kernel, at most: one transaction removes those of many changes. */
const SWEEP_MS = 200;

export type EngineOptions = {
  /** Name of this node. */
  node: string;
  kernel: PolicyKernel;
  log: Log;
  /** Of pods whose namespace says no other (default enforce); off: nothing is judged, and there is no table. */
  mode?: PolicyMode;
  /** cut: connections that a change no longer allows end. keep: they go on. */
  existing: 'cut' | 'keep';
  /** Policies are in force from now on (true), or there are none any more and the table is about to go (false). */
  onEnforce: (enforced: boolean) => Promise<void>;
  now?: () => number;
};

export type PolicyStatus = {
  /** Of the program: grows by one whenever the kernel's table has changed. */
  generation: number;
  /** When it came into force (ms since the epoch). */
  since: number;
  policies: number;
  pods: number;
  classes: number;
  identities: number;
  isEnforced: boolean;
  mode: PolicyMode;
  /** The last failure; null when the table is as it should be. */
  broken: string | null;
};

type InForce = { compiler: Compiler; program: MutableProgram };

export class PolicyEngine {
  readonly #o: EngineOptions;
  readonly #numbers = new Numbers();
  readonly #renderer = new Renderer(this.#numbers);
  readonly #cutter: Cutter;
  #policies: ReadonlyMap<string, Policy> | null = null;
  /** Replaced, never changed. */
  #namespaces: Map<string, Labels> | null = null;
  #pods: Map<string, PodView> | null = null;
  /** Of the cluster; null until some policy asks for them and they are told. Replaced, never changed. */
  #nodes: Nodes | null = null;
  /** A peer of some policy is nodes. */
  #asksNodes = false;
  /** Addresses of this node's pods, from before their links are made. */
  readonly #held = new Map<string, readonly Ip[]>();
  readonly #holders = new Map<Ip, string>();
  /** Holders whose pod the API does not show any more: their sandbox lives, and their rules with it. */
  readonly #kept = new Map<string, PodView>();
  /** The pod that an address was last seen with. */
  readonly #owners = new Map<Ip, string>();
  #inForce: InForce | null = null;
  #isEnforced: boolean;
  #mode: PolicyMode;
  /** Changes so far, and those that are in force. */
  #asked = 0;
  #done = 0;
  #isRunning = false;
  #closed = false;
  #generation = 0;
  #since = 0;
  #broken: string | null = null;
  #failures = 0;
  /** Removes what changes have left behind. */
  #left: (() => Promise<void>) | null = null;
  #sweepTimer: NodeJS.Timeout | null = null;
  #isSweepDue = false;
  #changed = Promise.withResolvers<void>();

  /** `wasEnforced`: an earlier process left the node with policies in force. */
  constructor(options: EngineOptions, wasEnforced: boolean) {
    this.#o = options;
    this.#isEnforced = wasEnforced;
    this.#mode = options.mode ?? 'enforce';
    const { kernel, log } = options;
    const onIdle = () => this.#note();
    this.#cutter = new Cutter({ kernel, log, program: () => this.program, onIdle });
  }

  get isReady(): boolean {
    const isKnown = this.#policies !== null && this.#namespaces !== null && this.#pods !== null;
    return isKnown && (this.#nodes !== null || !this.#asksNodes);
  }

  get asksNodes(): boolean {
    return this.#asksNodes;
  }

  get isSettled(): boolean {
    return this.isReady && this.#done >= this.#asked;
  }

  get status(): PolicyStatus {
    const program = this.#inForce?.program;
    return {
      generation: this.#generation,
      since: this.#since,
      policies: this.#policies?.size ?? 0,
      pods: this.#pods?.size ?? 0,
      classes: program?.classes.size ?? 0,
      identities: program?.identities.size ?? 0,
      isEnforced: this.#isEnforced,
      mode: this.#mode,
      broken: this.#broken,
    };
  }

  /** What the kernel judges by; null while that is not known. */
  get program(): Program | null {
    return this.#inForce?.program ?? null;
  }

  pod(key: string): PodView | undefined {
    return this.#pods?.get(key) ?? this.#kept.get(key);
  }

  get pods(): ReadonlyMap<string, PodView> {
    return this.#pods ?? new Map();
  }

  get policies(): ReadonlyMap<string, Policy> {
    return this.#policies ?? new Map();
  }

  /** NAMESPACE/NAME of the pod that has the address, as far as is known. */
  ownerOf(ip: Ip): string | undefined {
    return this.#holders.get(ip) ?? this.#owners.get(ip);
  }

  setPolicies(policies: ReadonlyMap<string, Policy>): void {
    this.#policies = policies;
    this.#asksNodes = [...policies.values()].some(({ egress }) =>
      egress?.some(({ peers }) => peers.some(({ kind }) => kind === 'nodes')),
    );
    this.#ask();
  }

  /** Whether there is anything to judge by. */
  get #isIdle(): boolean {
    return this.#mode === 'off' || this.#policies?.size === 0;
  }

  setMode(mode: PolicyMode): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.#ask();
  }

  /** What is told of connections, from the next table on, which follows at once. */
  setFlowLog(flowLog: FlowLog): void {
    this.#o.kernel.flowLog = flowLog;
    this.#ask();
  }

  setNodes(nodes: Nodes): void {
    this.#nodes = nodes;
    if (this.#asksNodes) this.#ask();
  }

  setNamespaces(namespaces: ReadonlyMap<string, Labels>): void {
    this.#namespaces = new Map(namespaces);
    this.#ask();
  }

  putNamespace(name: string, labels: Labels | null): void {
    const before = this.#namespaces?.get(name) ?? null;
    if (before === labels || !this.#namespaces) return;
    // What was compiled with them stays true of the map that it was compiled with.
    this.#namespaces = new Map(this.#namespaces);
    if (labels === null) this.#namespaces.delete(name);
    else this.#namespaces.set(name, labels);
    this.#ask();
  }

  setPods(pods: Iterable<PodView>): void {
    const before = this.#pods;
    this.#pods = new Map();
    this.#owners.clear();
    for (const pod of pods) {
      const key = podKey(pod);
      this.#pods.set(key, pod);
      for (const ip of pod.ips) this.#owners.set(ip, key);
    }
    for (const [key, pod] of before ?? []) if (!this.#pods.has(key)) this.#keep(key, pod);
    this.#ask();
  }

  putPod(pod: PodView): void {
    if (!this.#pods) return;
    const key = podKey(pod);
    const before = this.#pods.get(key);
    if (before && isSameView(before, pod)) return;
    // The last one that came with an address is taken for its holder.
    if (before && before.ips.join() !== pod.ips.join()) this.#pods.delete(key);
    this.#pods.set(key, pod);
    this.#kept.delete(key);
    for (const ip of pod.ips) this.#owners.set(ip, key);
    this.#soon(key, before, pod);
  }

  removePod(key: string): void {
    const before = this.#pods?.get(key);
    if (!before) return;
    this.#pods!.delete(key);
    this.#keep(key, before);
    this.#soon(key, before, this.#kept.get(key));
    for (const ip of before.ips) if (this.#owners.get(ip) === key) this.#owners.delete(ip);
  }

  /** The force-deleted pod's sandbox still runs here. */
  #keep(key: string, pod: PodView): void {
    if (this.#held.has(key) && isSubject(pod, this.#o.node)) this.#kept.set(key, pod);
  }

  /** Resolves when all that was asked until now is in force. */
  async settled(signal: AbortSignal): Promise<void> {
    await this.until(() => this.#done >= this.#asked, signal);
  }

  /** Resolves when `holds`; it is looked at whenever something has changed. */
  async until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    while (!holds()) {
      signal.throwIfAborted();
      const aborted = Promise.withResolvers<void>();
      const onAbort = () => aborted.resolve();
      signal.addEventListener('abort', onAbort, { once: true });
      await Promise.race([this.#changed.promise, aborted.promise]);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /**
   * A pod of this node gets its addresses, before its link is made. Resolves when its class and its membership of every
   * set are in force; `uid` tells it from a pod that had its name before. The caller bounds the wait.
   */
  async admit(
    pod: { namespace: string; name: string; uid?: string },
    ips: readonly Ip[],
    signal: AbortSignal,
  ) {
    const key = podKey(pod);
    const isKnown = () => {
      const seen = this.#pods?.get(key);
      return this.isReady && seen !== undefined && (pod.uid === undefined || seen.uid === pod.uid);
    };
    await this.until(isKnown, signal);
    this.#kept.delete(key);
    this.hold(key, ips);
    const seen = this.#pods!.get(key)!;
    this.#soon(key, seen, seen, true);
    if (this.#done < this.#asked) await this.settled(signal);
  }

  /** Without waiting: an attachment that stood before this process did. */
  hold(key: string, ips: readonly Ip[]): void {
    this.#held.set(key, ips);
    for (const ip of ips) this.#holders.set(ip, key);
  }

  /** The addresses are nobody's from now on. Synchronous where the table is known. */
  release(key: string, ips: readonly Ip[]): void {
    const held = this.#held.get(key);
    if (held && ips.some((ip) => held.includes(ip))) {
      this.#held.delete(key);
      this.#kept.delete(key);
    }
    for (const ip of ips) if (this.#holders.get(ip) === key) this.#holders.delete(ip);
    this.#clear(ips);
  }

  /** Somebody else has changed the table. */
  repair(): void {
    this.#o.kernel.doubt();
    this.#ask();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#sweepTimer) clearTimeout(this.#sweepTimer);
    this.#cutter.close();
    while (this.#isRunning || this.#cutter.isRunning) await this.#changed.promise;
    await this.#o.kernel.close();
  }

  #note(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** One pod has changed: elements where that is enough. */
  #soon(key: string, before: PodView | undefined, after: PodView | undefined, isNew = false): void {
    if (this.#place(key, before, after, isNew)) this.#note();
    else this.#ask();
  }

  /** False when it takes more than elements, or when the table is being changed. */
  #place(key: string, before: PodView | undefined, after: PodView | undefined, isNew: boolean): boolean {
    const inForce = this.#inForce;
    // Without policies there is nothing to place.
    if (inForce && this.#isIdle && !this.#isEnforced && !this.#isRunning) return true;
    const { applied } = this.#o.kernel;
    if (!inForce || this.#isRunning || this.#asked !== this.#done || !applied) return false;
    const ground: Ground = {
      node: this.#o.node,
      ...inForce,
      applied,
      numbers: this.#numbers,
      held: this.#held,
      isOwner: (its, ip) => (this.#holders.get(ip) ?? this.#owners.get(ip) ?? its) === its,
    };
    const changes = placingsOf(ground, key, before, after);
    return changes !== null && this.#set(changes, inForce.program, isNew);
  }

  #set(changes: readonly Placing[], program: MutableProgram, isNew = false): boolean {
    if (changes.length === 0) return true;
    try {
      this.#o.kernel.setElements(changes);
    } catch (error) {
      this.#o.log.warn(
        { error: (error as Error).message },
        'the policy table is not as expected: it is made anew',
      );
      return false;
    }
    for (const { of, ip, name } of changes) {
      if (name === undefined) program[of].delete(ip);
      else program[of].set(ip, name);
    }
    this.#tick();
    // An address that was nobody's has no connections.
    if (changes.some(({ of, before }) => before !== null || (of !== 'peers' && !isNew))) this.#cutSoon();
    return true;
  }

  #clear(ips: readonly Ip[]): void {
    const program = this.#inForce?.program;
    const changes = clearings(program, this.#numbers, ips);
    if (program && changes.length === 0 && !this.#isRunning) return;
    const isSet = program && !this.#isRunning && this.#o.kernel.applied && this.#set(changes, program);
    if (isSet) this.#note();
    else this.#ask();
  }

  #cutSoon(): void {
    if (this.#o.existing === 'cut') this.#cutter.soon();
  }

  #tick(): void {
    this.#generation++;
    this.#since = (this.#o.now ?? Date.now)();
  }

  #ask(): void {
    this.#asked++;
    this.#note();
    this.#start();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    while (!this.#closed && this.isReady && (this.#done < this.#asked || this.#isSweepDue)) {
      try {
        if (this.#done < this.#asked) await this.#catchUp();
        else await this.#sweep();
      } catch (error) {
        this.#o.kernel.doubt();
        if (this.#done === this.#asked) this.#asked++;
        this.#broken = (error as Error).message;
        this.#o.log.error({ error: this.#broken }, 'the policy table is not as it should be');
        const pause = Math.min(RETRY_MS * 2 ** this.#failures++, RETRY_MOST_MS);
        await new Promise((resolve) => setTimeout(resolve, pause).unref());
      }
    }
    this.#isRunning = false;
    this.#note();
    if (this.isReady && !this.#closed && (this.#done < this.#asked || this.#isSweepDue)) this.#start();
  }

  #start(): void {
    if (this.#isRunning || this.#closed) return;
    this.#isRunning = true;
    setImmediate(() => void this.#run());
  }

  async #catchUp(): Promise<void> {
    const asked = this.#asked;
    this.#left = await this.#bring();
    this.#done = asked;
    this.#failures = 0;
    this.#broken = null;
    this.#note();
    if (!this.#left) return;
    // Apart from the change, so that the next one need not wait for it.
    this.#sweepTimer ??= setTimeout(() => {
      this.#sweepTimer = null;
      this.#isSweepDue = true;
      this.#start();
    }, SWEEP_MS).unref();
  }

  /** Removes what no class needs any more. */
  async #sweep(): Promise<void> {
    const left = this.#left;
    this.#left = null;
    this.#isSweepDue = false;
    await left?.();
  }

  /** Answers what removes what the change has left behind, all earlier changes' too. */
  async #bring(): Promise<(() => Promise<void>) | null> {
    const { kernel, node, onEnforce } = this.#o;
    const mode = this.#mode;
    const policies = this.#isIdle ? [] : [...this.#policies!.values()];
    const nodes = this.#asksNodes ? (this.#nodes ?? undefined) : undefined;
    const basis = { policies, namespaces: this.#namespaces!, nodes, mode };
    const compiler = new Compiler(basis, this.#inForce?.compiler ?? null);
    const pods = this.#kept.size === 0 ? this.#pods! : [...this.#pods!, ...this.#kept];
    const program = programOf({ node, pods, held: this.#held }, compiler) as MutableProgram;
    if (policies.length === 0) {
      // First the routes that ask for judged packets, then the table that judges.
      if (this.#isEnforced) await onEnforce(false);
      this.#isEnforced = false;
      if (kernel.applied || kernel.isThere()) await kernel.remove();
      this.#inForce = { compiler, program };
      this.#tick();
      return null;
    }
    const { isChanged, drop } = await bring(kernel, this.#renderer.render(program));
    this.#inForce = { compiler, program };
    if (isChanged) {
      this.#tick();
      this.#cutSoon();
    }
    if (!this.#isEnforced) await onEnforce(true);
    this.#isEnforced = true;
    return drop;
  }
}
