// Keeps the kernel's policy table as the API's objects and this node's pods say. A change that needs no structure (a pod
// that comes, goes, or has another address) is a few elements, set at once; anything else compiles anew, and is diffed.
// Invariant: nothing is put in force before policies, pods and namespaces are all known; until then a table that an
// earlier process left stays as it is. A failure is told and tried again; it never opens anything.

import type { Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { FlowLog, PolicyMode } from '../base/policy-words.ts';
import type { Labels } from '../kube/selectors.ts';
import { bring } from './bring.ts';
import { programOf } from './compile.ts';
import { Compiler } from './compiler.ts';
import { Cutter } from './cutter.ts';
import type { PolicyKernel } from './kernel.ts';
import { type Nodes, type PodView, type Policy, podKey } from './model.ts';
import { Numbers } from './numbers.ts';
import { clearings, type Ground, type MutableProgram, type Placing, placingsOf } from './placing.ts';
import { PodBook, type PodChange } from './pod-book.ts';
import type { Program } from './program.ts';
import { Pursuit, type Sweep } from './pursuit.ts';
import { Renderer } from './render.ts';

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
  readonly #pursuit: Pursuit;
  readonly #pods: PodBook;
  #policies: ReadonlyMap<string, Policy> | null = null;
  /** Replaced, never changed. */
  #namespaces: Map<string, Labels> | null = null;
  /** Of the cluster; null until some policy asks for them and they are told. Replaced, never changed. */
  #nodes: Nodes | null = null;
  /** A peer of some policy is nodes. */
  #asksNodes = false;
  #inForce: InForce | null = null;
  #isEnforced: boolean;
  #mode: PolicyMode;
  #generation = 0;
  #since = 0;
  #changed = Promise.withResolvers<void>();

  /** `wasEnforced`: an earlier process left the node with policies in force. */
  constructor(options: EngineOptions, wasEnforced: boolean) {
    this.#o = options;
    this.#isEnforced = wasEnforced;
    this.#mode = options.mode ?? 'enforce';
    this.#pods = new PodBook(options.node);
    const { kernel, log } = options;
    const note = () => this.#note();
    this.#cutter = new Cutter({ kernel, log, program: () => this.program, onIdle: note });
    this.#pursuit = new Pursuit({
      ...{ log, note },
      isReady: () => this.isReady,
      bring: () => this.#bring(),
      onFailure: () => kernel.doubt(),
    });
  }

  get isReady(): boolean {
    const isKnown = this.#policies !== null && this.#namespaces !== null && this.#pods.isKnown;
    return isKnown && (this.#nodes !== null || !this.#asksNodes);
  }

  get asksNodes(): boolean {
    return this.#asksNodes;
  }

  get isSettled(): boolean {
    return this.isReady && this.#pursuit.isDone;
  }

  get status(): PolicyStatus {
    const program = this.#inForce?.program;
    return {
      generation: this.#generation,
      since: this.#since,
      policies: this.#policies?.size ?? 0,
      pods: this.#pods.shown.size,
      classes: program?.classes.size ?? 0,
      identities: program?.identities.size ?? 0,
      isEnforced: this.#isEnforced,
      mode: this.#mode,
      broken: this.#pursuit.broken,
    };
  }

  /** What the kernel judges by; null while that is not known. */
  get program(): Program | null {
    return this.#inForce?.program ?? null;
  }

  pod(key: string): PodView | undefined {
    return this.#pods.get(key);
  }

  get pods(): ReadonlyMap<string, PodView> {
    return this.#pods.shown;
  }

  get policies(): ReadonlyMap<string, Policy> {
    return this.#policies ?? new Map();
  }

  /** NAMESPACE/NAME of the pod that has the address, as far as is known. */
  ownerOf(ip: Ip): string | undefined {
    return this.#pods.ownerOf(ip);
  }

  setPolicies(policies: ReadonlyMap<string, Policy>): void {
    this.#policies = policies;
    this.#asksNodes = [...policies.values()].some(({ egress }) =>
      egress?.some(({ peers }) => peers.some(({ kind }) => kind === 'nodes')),
    );
    this.#pursuit.ask();
  }

  /** Whether there is anything to judge by. */
  get #isIdle(): boolean {
    return this.#mode === 'off' || this.#policies?.size === 0;
  }

  setMode(mode: PolicyMode): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.#pursuit.ask();
  }

  /** What is told of connections, from the next table on, which follows at once. */
  setFlowLog(flowLog: FlowLog): void {
    this.#o.kernel.flowLog = flowLog;
    this.#pursuit.ask();
  }

  setNodes(nodes: Nodes): void {
    this.#nodes = nodes;
    if (this.#asksNodes) this.#pursuit.ask();
  }

  setNamespaces(namespaces: ReadonlyMap<string, Labels>): void {
    this.#namespaces = new Map(namespaces);
    this.#pursuit.ask();
  }

  putNamespace(name: string, labels: Labels | null): void {
    const before = this.#namespaces?.get(name) ?? null;
    if (before === labels || !this.#namespaces) return;
    // What was compiled with them stays true of the map that it was compiled with.
    this.#namespaces = new Map(this.#namespaces);
    if (labels === null) this.#namespaces.delete(name);
    else this.#namespaces.set(name, labels);
    this.#pursuit.ask();
  }

  setPods(pods: Iterable<PodView>): void {
    this.#pods.replace(pods);
    this.#pursuit.ask();
  }

  putPod(pod: PodView): void {
    const change = this.#pods.put(pod);
    if (change) this.#soon(change);
  }

  removePod(key: string): void {
    this.#pods.remove(key, (change) => this.#soon(change));
  }

  /** Resolves when all that was asked until now is in force. */
  async settled(signal: AbortSignal): Promise<void> {
    await this.until(() => this.#pursuit.isDone, signal);
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
      const seen = this.#pods.shown.get(key);
      return this.isReady && seen !== undefined && (pod.uid === undefined || seen.uid === pod.uid);
    };
    await this.until(isKnown, signal);
    this.#pods.isNew(key);
    this.hold(key, ips);
    const seen = this.#pods.shown.get(key)!;
    this.#soon({ key, before: seen, after: seen }, true);
    if (!this.#pursuit.isDone) await this.settled(signal);
  }

  /** Without waiting: an attachment that stood before this process did. */
  hold(key: string, ips: readonly Ip[]): void {
    this.#pods.hold(key, ips);
  }

  /** The addresses are nobody's from now on. Synchronous where the table is known. */
  release(key: string, ips: readonly Ip[]): void {
    this.#pods.release(key, ips);
    this.#clear(ips);
  }

  /** Somebody else has changed the table. */
  repair(): void {
    this.#o.kernel.doubt();
    this.#pursuit.ask();
  }

  async close(): Promise<void> {
    this.#pursuit.close();
    this.#cutter.close();
    while (this.#pursuit.isRunning || this.#cutter.isRunning) await this.#changed.promise;
    await this.#o.kernel.close();
  }

  #note(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** One pod has changed: elements where that is enough. */
  #soon(change: PodChange, isNew = false): void {
    if (this.#place(change, isNew)) this.#note();
    else this.#pursuit.ask();
  }

  /** False when it takes more than elements, or when the table is being changed. */
  #place({ key, before, after }: PodChange, isNew: boolean): boolean {
    const inForce = this.#inForce;
    const { isRunning, isDone } = this.#pursuit;
    // Without policies there is nothing to place.
    if (inForce && this.#isIdle && !this.#isEnforced && !isRunning) return true;
    const { applied } = this.#o.kernel;
    if (!inForce || isRunning || !isDone || !applied) return false;
    const { held, isOwner } = this.#pods;
    const ground: Ground = { node: this.#o.node, ...inForce, applied, numbers: this.#numbers, held, isOwner };
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
    const { isRunning } = this.#pursuit;
    if (program && changes.length === 0 && !isRunning) return;
    const isSet = program && !isRunning && this.#o.kernel.applied && this.#set(changes, program);
    if (isSet) this.#note();
    else this.#pursuit.ask();
  }

  #cutSoon(): void {
    if (this.#o.existing === 'cut') this.#cutter.soon();
  }

  #tick(): void {
    this.#generation++;
    this.#since = (this.#o.now ?? Date.now)();
  }

  /** Answers what removes what the change has left behind, all earlier changes' too. */
  async #bring(): Promise<Sweep | null> {
    const { kernel, node, onEnforce } = this.#o;
    const mode = this.#mode;
    const policies = this.#isIdle ? [] : [...this.#policies!.values()];
    const nodes = this.#asksNodes ? (this.#nodes ?? undefined) : undefined;
    const basis = { policies, namespaces: this.#namespaces!, nodes, mode };
    const compiler = new Compiler(basis, this.#inForce?.compiler ?? null);
    const { all: pods, held } = this.#pods;
    const program = programOf({ node, pods, held }, compiler) as MutableProgram;
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
