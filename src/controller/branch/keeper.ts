// The leader's loop of security groups per pod: plans each node that something changed of, and takes the steps,
// a bounded number at once. Nothing is done before nodes, pods, policies and EC2 were read once. It sleeps, and asks EC2 for
// nothing, until it is needed (`mode.ts`). What fails is told on the pod or Node with its cause, and tried again. Never throws.
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { Cloud, TrunkCloud } from '../../cloud/port.ts';
import { type EventRecorder, isNotFound, type KubeClient, nodes, POD_ENI } from '../../kube/index.ts';
import type { PolicyView } from '../../kube/pod-groups-view.ts';
import type { ControllerMetrics } from '../metrics.ts';
import { instanceOf } from '../node-view.ts';
import type { ClusterView, NodeView } from '../view.ts';
import { Actor, type At, nodeRef, podRef } from './acts.ts';
import { failureOf } from './failures.ts';
import { Looks, type Sight } from './looks.ts';
import { tellLosses } from './losses.ts';
import { type Branch, type BranchPod, endsOf, planNode, type Step, subjectOf } from './plan.ts';
import { PodView } from './pods.ts';
import { BranchRecord } from './record.ts';
import { Strays } from './strays.ts';
import { Subnets } from './subnets.ts';
import type { NodeName } from './tags.ts';
import { ensureTrunk, type Trunk } from './trunks.ts';

const AT_ONCE = 16;
/** Between two tries (ms): doubled up to the last. */
const FIRST_AGAIN = 1_000;
const LAST_AGAIN = 60_000;
/** An idle loop looks this often whether something is due (ms). */
const IDLE_MS = 1_000;

export type KeeperParts = {
  view: Pick<ClusterView, 'isWhole' | 'nodes' | 'podwayNodes' | 'onChange'>;
  policies: PolicyView;
  client: KubeClient;
  cloud: Cloud & TrunkCloud;
  events: Pick<EventRecorder, 'record'>;
  isLeading: () => boolean;
  metrics: Pick<ControllerMetrics, 'branches' | 'branchFailures'>;
  log: Log;
  limitsOf: (instanceType: string) => InstanceLimits | null;
  /** From the trunk to the end of the interface (ms). */
  cooldown: number;
  clock?: Clock;
};

type Trouble = { tries: number; notBefore: number; told: string };

export class BranchKeeper {
  readonly #p: KeeperParts;
  readonly #clock: Clock;
  readonly #record = new BranchRecord();
  readonly #pods: PodView;
  readonly #actor: Actor;
  readonly #looks: Looks;
  readonly #trunks = new Map<string, Trunk>();
  readonly #due = new Map<string, number>();
  /** Subjects of steps that are under way. */
  readonly #busy = new Set<string>();
  readonly #troubles = new Map<string, Trouble>();
  readonly #acts = new Set<Promise<void>>();
  readonly #strays: Strays;
  #podsAtWork = 0;
  #wake: () => void = () => {};

  constructor(parts: KeeperParts) {
    this.#p = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#pods = new PodView((node) => this.look(node));
    const { cloud, log, view } = parts;
    const known = { record: this.#record, pods: this.#pods, trunks: this.#trunks };
    this.#strays = new Strays({ ...parts, ...known });
    const subnets = new Subnets(cloud, this.#clock);
    this.#actor = new Actor({ ...parts, subnets, record: this.#record, clock: this.#clock });
    this.#looks = new Looks({
      ...{ cloud, log, record: this.#record, clock: this.#clock },
      isReady: () => view.isWhole && this.#pods.isWhole,
      isHeld: ({ podUid }) => this.#pods.find(podUid) !== undefined,
      trunks: () => [...this.#trunks.values()].map(({ eniId }) => eniId),
      onLook: (seen, signal) => this.#afterLook(seen, signal),
      onLoss: (lost) => tellLosses({ ...parts, ...known, look: (node) => this.look(node) }, lost),
    });
    view.onChange((names) => {
      for (const name of names) this.look(name);
    });
  }

  /** True while a pod waits for a call: what the budget asks. */
  get isPodWaiting(): boolean {
    return this.#podsAtWork > 0;
  }

  /** On how many a pod waits for its branch. */
  get nodesWaiting(): number {
    const waiting = [...this.#pods.all].filter(({ annotated, isOver }) => annotated === null && !isOver);
    return new Set(waiting.map(({ node }) => node)).size;
  }

  /** Plans this node again. */
  look(node: string, at = this.#clock.now()): void {
    const known = this.#due.get(node);
    if (known === undefined || at < known) this.#due.set(node, at);
    this.#wake();
  }

  /** A slot is free for a trunk now: what failed before is tried at once. */
  wantTrunk(name: string): void {
    const node = this.#p.view.nodes.get(name);
    const instanceId = node && instanceOf(node);
    const trouble = this.#troubles.get(`trunk ${instanceId}`);
    if (trouble) trouble.notBefore = 0;
    this.look(name);
  }

  /** Ends when `signal` aborts, and all that was under way has. */
  async keep(signal: AbortSignal): Promise<void> {
    const followed = this.#pods.follow(this.#p.client, this.#p.log, signal);
    const looked = this.#looks.keep(signal);
    while (!signal.aborted) {
      if (this.#isReady) this.#planDue(signal);
      await this.#rest(signal);
    }
    await Promise.all([followed, looked, ...this.#acts]);
  }

  get #isReady(): boolean {
    const { view, policies } = this.#p;
    return this.#looks.hasLooked && view.isWhole && policies.isWhole && this.#pods.isWhole;
  }

  async #rest(signal: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    const next = this.#isReady && this.#acts.size < AT_ONCE ? Math.min(...this.#due.values()) : now + IDLE_MS;
    const ms = Math.min(IDLE_MS, next - now);
    if (ms <= 0) return void (await new Promise((resolve) => setImmediate(resolve)));
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await this.#clock.sleep(ms, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
    this.#wake = () => {};
  }

  async #afterLook({ trunks, isWhole }: Sight, signal: AbortSignal): Promise<void> {
    const { metrics, view } = this.#p;
    const all = this.#record.branches;
    const on = all.filter(({ association }) => association).length;
    metrics.branches.set({ state: 'associated' }, on);
    metrics.branches.set({ state: 'cooling' }, all.length - on);
    for (const name of view.nodes.keys()) this.look(name);
    this.#endStrays(signal);
    this.#forget(all);
    if (isWhole) await this.#strays.endTrunks(trunks, signal);
  }

  #endStrays(signal: AbortSignal): void {
    const pods = [...this.#pods.all].filter(({ isOver }) => isOver);
    const context = { now: this.#clock.now(), cooldown: this.#p.cooldown };
    for (const step of endsOf(this.#strays.branches(), pods, context)) this.#begin(step, null, signal);
  }

  /** Pods that are over and left nothing. */
  #forget(all: readonly Branch[]): void {
    const held = new Set(all.map(({ podUid }) => podUid));
    for (const pod of [...this.#pods.all])
      if (pod.isOver && !held.has(pod.uid) && !this.#busy.has(pod.uid)) {
        this.#pods.forget(pod);
        // An interface of a lost answer keeps the id by its tag.
        const trunk = this.#trunks.get(pod.node);
        if (trunk) this.#record.vlansOf(trunk.eniId).end(pod.uid, this.#clock.now());
        this.#troubles.delete(pod.uid);
      }
  }

  #planDue(signal: AbortSignal): void {
    const now = this.#clock.now();
    for (const [name, at] of this.#due) {
      if (at > now) continue;
      if (this.#acts.size >= AT_ONCE) return;
      this.#due.delete(name);
      this.#planOne(name, signal);
    }
  }

  #planOne(name: string, signal: AbortSignal): void {
    const { view, cooldown } = this.#p;
    const node = view.nodes.get(name);
    const instanceId = node && instanceOf(node);
    if (!node || !instanceId) {
      this.#trunks.delete(name);
      return;
    }
    const trunk = this.#trunks.get(name);
    const { cluster, newEnis } = view.podwayNodes.get(name)?.spec ?? {};
    const who: NodeName = { name, instanceId, cluster };
    if (trunk?.instanceId !== instanceId) {
      this.#findTrunk(who, node, signal);
      return;
    }
    this.#publish(name, node, trunk, signal);
    const pods = this.#pods.ofNode(name);
    const uids = new Set(pods.map(({ uid }) => uid));
    const branches = this.#record.branches.filter(
      (one) => one.trunkId === trunk.eniId || uids.has(one.podUid),
    );
    const now = this.#clock.now();
    const { eniId: trunkId, limit } = trunk;
    for (const step of planNode({ trunkId, limit, pods, branches, now, cooldown }))
      this.#begin(step, { node: who, trunk, newEnis }, signal);
    for (const { looseSince } of branches)
      if (looseSince !== null) this.#lookAfter(name, looseSince + cooldown);
  }

  #lookAfter(name: string, at: number): void {
    if (at > this.#clock.now()) this.look(name, at);
  }

  #findTrunk(who: NodeName, node: NodeView, signal: AbortSignal): void {
    const subject = `trunk ${who.instanceId}`;
    if (!this.#mayBegin(subject, who.name)) return;
    const { cloud, events, limitsOf, log } = this.#p;
    const { name } = who;
    const about = nodeRef(name);
    this.#act(subject, name, signal, {
      effect: async () => {
        const type = node.metadata.labels?.['node.kubernetes.io/instance-type'] ?? '';
        const limits = limitsOf(type) ?? noBranches(type);
        const onMake = () =>
          events.record(about, 'Normal', 'NodeTrunkInitiated', `a trunk for ${name} is being made`);
        const trunk = await ensureTrunk({ cloud, clock: this.#clock, onMake }, who, limits, signal);
        this.#trunks.set(name, trunk);
        log.info({ node: name, trunk: trunk.eniId, branches: trunk.limit }, 'the node has a trunk');
      },
      onFailure: (text) => events.record(about, 'Warning', 'NodeTrunkFailedInit', text),
    });
  }

  /** The scheduler counts by it. */
  #publish(name: string, node: NodeView, { limit }: Trunk, signal: AbortSignal): void {
    const amount = String(limit);
    if (node.podEni.every((one) => one === amount)) return;
    const subject = `status ${name}`;
    if (!this.#mayBegin(subject, name)) return;
    this.#act(subject, name, signal, {
      effect: async () => {
        const patch = { status: { capacity: { [POD_ENI]: amount }, allocatable: { [POD_ENI]: amount } } };
        await this.#p.client.patch(nodes, name, undefined, patch, { subresource: 'status' }, signal);
        node.podEni = [amount, amount];
      },
      onFailure: () => {},
    });
  }

  #mayBegin(subject: string, node: string | null): boolean {
    if (this.#busy.has(subject) || !this.#p.isLeading()) return false;
    const notBefore = this.#troubles.get(subject)?.notBefore ?? 0;
    if (notBefore > this.#clock.now()) {
      if (node !== null) this.look(node, notBefore);
      return false;
    }
    if (this.#acts.size >= AT_ONCE) {
      if (node !== null) this.look(node, this.#clock.now() + 50);
      return false;
    }
    return true;
  }

  #begin(step: Step, at: At | null, signal: AbortSignal): void {
    const subject = subjectOf(step);
    const node = at?.node.name ?? null;
    if (step.kind === 'refuse') {
      this.#refuse(step, signal);
      return;
    }
    const isOfPod = 'pod' in step;
    // What is under way for a pod that has just ended comes first.
    if (!isOfPod && this.#busy.has(step.branch.podUid)) return;
    if (!this.#mayBegin(subject, node)) return;
    if (isOfPod) this.#podsAtWork++;
    this.#act(subject, node, signal, {
      effect: () => this.#do(step, at, signal),
      onFailure: (text) => {
        if (isOfPod) this.#tellPod(step.pod, text, signal);
        // The trunk may be the reason: it is looked for again.
        if (step.kind === 'associate') this.#trunks.delete(step.pod.node);
      },
      onEnd: () => {
        if (isOfPod) this.#podsAtWork--;
      },
    });
  }

  async #do(step: Step, at: At | null, signal: AbortSignal): Promise<void> {
    if (step.kind === 'create') await this.#actor.create(at!, step, signal);
    else if (step.kind === 'associate') await this.#actor.associate(at!, step, signal);
    else if (step.kind === 'annotate') await this.#actor.annotate(at!, step, signal);
    else if (step.kind === 'disassociate') await this.#actor.disassociate(step.branch, signal);
    else if (step.kind === 'tag') await this.#actor.tag(step.branch, signal);
    else if (step.kind === 'delete') await this.#actor.delete(step.branch, signal);
  }

  #refuse({ pod, used, limit }: Step & { kind: 'refuse' }, signal: AbortSignal): void {
    const text = `BRANCH_LIMIT: the trunk of ${pod.node} has ${used} of ${limit} branches`;
    const trouble = this.#troubles.get(pod.uid) ?? { tries: 0, notBefore: 0, told: '' };
    if (trouble.told === text) return;
    this.#troubles.set(pod.uid, { ...trouble, told: text });
    this.#p.metrics.branchFailures.inc({ cause: 'BRANCH_LIMIT' });
    this.#tellPod(pod, text, signal);
  }

  #tellPod(pod: BranchPod, text: string, signal: AbortSignal): void {
    if (pod.isOver) return;
    this.#p.events.record(podRef(pod), 'Warning', 'BranchAllocationFailed', text);
    if (pod.annotated === null) void this.#actor.say(pod, text, signal);
  }

  #act(
    subject: string,
    node: string | null,
    signal: AbortSignal,
    {
      effect,
      onFailure,
      onEnd,
    }: { effect: () => Promise<void>; onFailure: (text: string) => void; onEnd?: () => void },
  ): void {
    this.#busy.add(subject);
    const act = effect()
      .then(
        () => void this.#troubles.delete(subject),
        (error: unknown) => {
          if (signal.aborted || isNotFound(error)) return;
          this.#note(subject, error, onFailure);
        },
      )
      .finally(() => {
        onEnd?.();
        this.#busy.delete(subject);
        this.#acts.delete(act);
        if (node !== null) this.look(node);
        else this.#wake();
      });
    this.#acts.add(act);
  }

  #note(subject: string, error: unknown, onFailure: (text: string) => void): void {
    const { code, text } = failureOf(error);
    const tries = (this.#troubles.get(subject)?.tries ?? 0) + 1;
    const wait = Math.min(LAST_AGAIN, FIRST_AGAIN * 2 ** (tries - 1)) * (1 + Math.random() / 4);
    const told = `${code}: ${text}`;
    const isNew = this.#troubles.get(subject)?.told !== told;
    this.#troubles.set(subject, { tries, notBefore: this.#clock.now() + wait, told });
    this.#p.metrics.branchFailures.inc({ cause: code });
    this.#p.log[isNew ? 'warn' : 'debug']({ subject, cause: code, error: text, tries }, 'a step failed');
    if (isNew) onFailure(told);
  }
}

const noBranches = (instanceType: string): InstanceLimits => ({
  ...{ instanceType, enis: 0, ipv4PerEni: 0, ipv6PerEni: 0, defaultCard: 0, networkCards: [] },
  ...{ pods: 0, prefixes: false, branchEnis: 0 },
});
