// Keeps the pool's policy as the node's sources say: follows the node's NodeNetwork, its Node and its ENIConfig in the
// Kubernetes API, asks EC2 for subnets and groups at a bounded rate, and sets the policy when it changes. Invariants: what
// was known last counts while API or EC2 are away; a NodeNetwork that is refused leaves its last good version in force.
import { systemClock } from '../base/clock.ts';
import { asPodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { CustomNetworking } from '../ipam/config/incumbent-env.ts';
import {
  chooseNetwork,
  isRefused,
  type RefusedNetwork,
  type ValidNetwork,
} from '../ipam/config/node-network.ts';
import {
  type KnownFacts,
  type NodeMarks,
  type OwnFacts,
  type ResolvedPolicy,
  resolvePolicy,
  sourceText,
} from '../ipam/config/sources.ts';
import type { PrimaryFamily } from '../ipam/policy.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { EniConfig } from '../kube/networks.ts';
import { matchesRequirements } from '../kube/selectors.ts';
import { EniGroups } from './eni-groups.ts';
import type { Events } from './events.ts';
import { factsText, type KeptFacts, keepFacts, readFacts } from './kept-facts.ts';

/** EC2 is asked again for subnets after this (ms, up to half longer), while there is more than one to choose from. */
const DESCRIBE_MS = 30 * 60_000;
/** While pods wait, or no ENI can be made (ms): at first, doubled each time up to the last. */
const DESCRIBE_SOON_MS = 30_000;
const DESCRIBE_LAST_MS = 8 * 60_000;
/** After a new ENI (ms): free addresses have changed, so may have the order of the subnets. */
const DESCRIBE_AFTER_ENI_MS = 60_000;
/** After a start that knows the subnets of an earlier run (ms, at most): nodes of a cluster are updated together. */
const FIRST_DESCRIBE_MS = 5_000;
/** Between two looks whether EC2 is to be asked (ms). */
const LOOK_MS = 5_000;

export type ConfigurationOptions = {
  own: Omit<OwnFacts, 'limits'>;
  identity: NodeIdentity;
  pool: Pick<
    AddressPool,
    'setPolicy' | 'counts' | 'enis' | 'cloud' | 'state' | 'limits' | 'isReachable' | 'trunk'
  >;
  /** Keeps what is known. */
  file: string;
  /** Called after a change of what the pool gives that the node's network is made for. */
  onEgress?: () => void;
  /** Called when a NodeNetwork lists other addresses of the node. */
  onNodeLocal?: () => void;
  /** Called when a NodeNetwork says otherwise of network policies. */
  onEnforcement?: () => void;
  log: Log;
  events: Pick<Events, 'node'>;
};

export class Configuration {
  readonly #o: ConfigurationOptions;
  readonly #groups: EniGroups;
  #facts: KeptFacts;
  #trouble: KnownFacts['trouble'] = null;
  /** What the policy was computed from. */
  #limits: InstanceLimits;
  #hasTrunk = false;
  #resolved: ResolvedPolicy;
  #notes = '';
  #refused: readonly RefusedNetwork[] = [];
  readonly #told = new Map<string, string>();
  #enisAtDescribe = 0;
  #failures = 0;
  #failedAt = 0;
  #hasAsked = false;
  /** Describes in a row that did not help. */
  #blockedDescribes = 0;
  #isKnown: boolean;
  #hasNetworks = false;
  /** The API has answered which family the Services have first. */
  #isTold = false;
  readonly #known = Promise.withResolvers<void>();
  readonly #startedAt = systemClock.now();
  /** From 1 to 1.5: keeps the nodes of a cluster apart. */
  readonly #late = 1 + Math.random() / 2;
  #wake: () => void = () => {};

  /** Sets the policy that the kept facts give. */
  constructor(options: ConfigurationOptions) {
    this.#o = options;
    this.#groups = new EniGroups(options.pool, options.log);
    this.#facts = readFacts(options.file, options.log);
    this.#isKnown = this.#facts.node !== null;
    this.#limits = options.pool.limits;
    this.#resolved = this.#resolve();
    this.#apply(this.#resolved);
  }

  /** The policy in force with its source and what is to be said of it. */
  get current(): ResolvedPolicy {
    return this.#resolved;
  }

  /** Pods of this node may have branch ENIs. */
  get wantsTrunk(): boolean {
    return this.#facts.wantsTrunk || this.#o.own.environment.podEni || this.#o.pool.trunk !== null;
  }

  /** Where the node's ENIConfig is named; null: custom networking is off. */
  get customNetworking(): CustomNetworking | null {
    return this.#o.own.environment.customNetworking;
  }

  /** Sentences for people: the source's notes, and the NodeNetworks that are refused or do not count. */
  get notes(): readonly string[] {
    return [...this.#resolved.notes, ...this.#told.values()];
  }

  /**
   * Resolves when the API has told the node and the NodeNetworks, now or to an earlier run; after `ms` at the latest. A new
   * node waits for it, so that it asks EC2 for nothing that its NodeNetwork does not want.
   */
  async known(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#isKnown) return;
    const late = new AbortController();
    const enough = systemClock.sleep(ms, AbortSignal.any([signal, late.signal])).catch(() => undefined);
    await Promise.race([this.#known.promise, enough]);
    late.abort();
  }

  /** What the API says of the NodeNetworks now. */
  noteNetworks(read: readonly (ValidNetwork | RefusedNetwork)[]): void {
    const before = new Map(this.#facts.networks.map((one) => [one.name, one]));
    const networks: ValidNetwork[] = [];
    for (const one of read) {
      const good = isRefused(one) ? before.get(one.name) : one;
      if (good) networks.push(good);
    }
    this.#refused = read.filter(isRefused);
    this.#learn({ networks: networks.sort((a, b) => (a.name < b.name ? -1 : 1)) });
    if (this.#facts.node === null) return;
    this.#hasNetworks = true;
    if (!this.asksServiceFamily) this.#noteKnown();
  }

  #noteKnown(): void {
    this.#isKnown = true;
    this.#known.resolve();
  }

  /** True while the Kubernetes API is to be asked for the first family of the cluster's Services. */
  get asksServiceFamily(): boolean {
    const { settings } = this.#o.own;
    const isAuto = (settings.primaryFamily ?? 'auto') === 'auto';
    return isAuto && !this.#isTold && this.#resolved.policy.families === 'dual';
  }

  /** Null: the API does not tell; then what was told last counts. */
  noteServiceFamily(family: PrimaryFamily | null): void {
    this.#isTold = true;
    if (family !== null) this.#learn({ serviceFamily: family });
    if (this.#hasNetworks) this.#noteKnown();
  }

  /** Whether pods with security groups of their own are wanted here: an ENI slot is kept for their trunk. */
  noteWantsTrunk(wantsTrunk: boolean): void {
    this.#learn({ wantsTrunk });
  }

  noteNode(node: NodeMarks): void {
    this.#learn({ node });
  }

  noteEniConfigs(eniConfigs: readonly EniConfig[]): void {
    this.#learn({ eniConfigs });
  }

  /** True for a NodeNetwork that selects this node, or whose selector cannot be read. */
  concerns(network: ValidNetwork | RefusedNetwork): boolean {
    return network.selector === null || matchesRequirements(network.selector, this.#labels);
  }

  /** Asks EC2 for subnets and groups, and changes groups of ENIs, when that is due; until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { pool } = this.#o;
      if (pool.limits !== this.#limits || (pool.trunk !== null) !== this.#hasTrunk) this.#update();
      // While EC2 is away the pool's probe is all that is asked of it.
      if (pool.isReachable === false) {
        await this.#nap(signal);
        continue;
      }
      if (!this.#isBlocked()) this.#blockedDescribes = 0;
      if (systemClock.now() >= this.#describeAt()) await this.#describe(signal);
      const { changesExistingEnis, policy } = this.#resolved;
      if (changesExistingEnis && policy.groupIds) await this.#groups.change(policy.groupIds, signal);
      await this.#nap(signal);
    }
  }

  /** Until something has changed, a look is due, or `signal` aborts. */
  async #nap(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const nap = new AbortController();
    const stop = () => nap.abort();
    this.#wake = stop;
    signal.addEventListener('abort', stop, { once: true });
    await systemClock.sleep(LOOK_MS, nap.signal).catch(() => undefined);
    signal.removeEventListener('abort', stop);
  }

  get #labels(): Readonly<Record<string, string>> {
    return this.#facts.node?.labels ?? {};
  }

  #learn(part: Partial<KeptFacts>): void {
    const facts = { ...this.#facts, ...part };
    const isSame = factsText(facts) === factsText(this.#facts);
    this.#facts = facts;
    if (!isSame) keepFacts(this.#o.file, facts, this.#o.log);
    this.#update();
  }

  #resolve(): ResolvedPolicy {
    const { node, eniConfigs, subnets, groups, networks, serviceFamily } = this.#facts;
    this.#hasTrunk = this.#o.pool.trunk !== null;
    const wantsTrunk = this.#facts.wantsTrunk || this.#hasTrunk;
    // A NodeNetwork may select by labels: without the node's none can be chosen.
    const choice = node ? chooseNetwork(networks, node.labels) : { chosen: null, others: [] };
    if (node) this.#tellNetworks(choice.chosen, choice.others);
    const about = { node, eniConfigs, subnets, groups, serviceFamily, wantsTrunk };
    const known = { ...about, trouble: this.#trouble, network: choice.chosen };
    this.#limits = this.#o.pool.limits;
    return resolvePolicy({ ...this.#o.own, limits: this.#limits }, known);
  }

  #update(): void {
    const next = this.#resolve();
    const before = this.#resolved;
    const isSame = JSON.stringify(next) === JSON.stringify(before);
    this.#resolved = next;
    if (!isSame) this.#apply(next);
    if (JSON.stringify(next.enforcement) !== JSON.stringify(before.enforcement)) this.#o.onEnforcement?.();
    if (next.nodeLocalAddresses.join() !== before.nodeLocalAddresses.join()) this.#o.onNodeLocal?.();
    if (next.policy.egress4 !== before.policy.egress4) this.#o.onEgress?.();
    this.#wake();
  }

  #apply({ policy, cooldownMs, source, notes }: ResolvedPolicy): void {
    const { pool, log } = this.#o;
    pool.setPolicy(policy, cooldownMs);
    log.info({ source, policy, cooldownMs }, `the pool follows ${sourceText(source)}`);
    const text = notes.join('; ');
    if (text !== '' && text !== this.#notes) log.warn({ source }, text);
    this.#notes = text;
  }

  /** Reports once what is refused, and which NodeNetworks do not count beside the chosen one. */
  #tellNetworks(chosen: ValidNetwork | null, others: readonly string[]): void {
    const now = new Map<string, string>();
    for (const one of this.#refused.filter((each) => this.concerns(each))) {
      const inForce = this.#facts.networks.some(({ name }) => name === one.name)
        ? 'its last good version counts'
        : 'it does not count';
      now.set(
        `refused ${one.name}`,
        `the NodeNetwork ${one.name} is refused, ${inForce}: ${one.problems.join('; ')}`,
      );
    }
    if (chosen && others.length > 0) {
      const names = others.join(', ');
      now.set(
        'conflict',
        `the NodeNetworks ${chosen.name} and ${names} select this node: ${chosen.name} counts, the oldest`,
      );
    }
    for (const [key, text] of now) {
      if (this.#told.get(key) === text) continue;
      this.#o.log.warn({}, text);
      this.#o.events.node('Warning', key === 'conflict' ? 'NodeNetworkConflict' : 'NodeNetworkRefused', text);
    }
    this.#told.clear();
    for (const [key, text] of now) this.#told.set(key, text);
  }

  #needsGroups(): boolean {
    const { node, networks } = this.#facts;
    const groups = node && chooseNetwork(networks, node.labels).chosen?.securityGroups;
    return Boolean(groups && 'tags' in groups);
  }

  /** When EC2 is to be asked next (ms). */
  #describeAt(): number {
    const { subnets, groups, describedAt } = this.#facts;
    if (this.#failures > 0)
      return this.#failedAt + Math.min(DESCRIBE_SOON_MS * 2 ** (this.#failures - 1), DESCRIBE_MS);
    if (subnets === null || (groups === null && this.#needsGroups())) return 0;
    if (!this.#hasAsked) return this.#startedAt + FIRST_DESCRIBE_MS * (this.#late - 1) * 2;
    const { pool } = this.#o;
    if (this.#isBlocked()) {
      const pause = Math.min(DESCRIBE_SOON_MS * 2 ** this.#blockedDescribes, DESCRIBE_LAST_MS);
      return describedAt + pause * this.#late;
    }
    const hasChoice = subnets.length > 1;
    if (hasChoice && pool.enis().length > this.#enisAtDescribe) return describedAt + DESCRIBE_AFTER_ENI_MS;
    return hasChoice ? describedAt + DESCRIBE_MS * this.#late : Number.POSITIVE_INFINITY;
  }

  /** A change of a subnet could help. */
  #isBlocked(): boolean {
    return this.#resolved.policy.noNewEni !== null || this.#o.pool.counts().waiting > 0;
  }

  async #describe(signal: AbortSignal): Promise<void> {
    const { pool, identity, log } = this.#o;
    this.#blockedDescribes++;
    this.#enisAtDescribe = pool.enis().length;
    this.#hasAsked = true;
    try {
      const subnets = await pool.cloud.describeVpcSubnets(identity.vpcId, identity.zone, signal);
      const groups = this.#needsGroups()
        ? await pool.cloud.describeSecurityGroups(identity.vpcId, signal)
        : this.#facts.groups;
      this.#trouble = null;
      this.#failures = 0;
      this.#learn({ subnets, groups, describedAt: systemClock.now() });
    } catch (error) {
      if (signal.aborted) return;
      const { code, message } = asPodwayError(error);
      if (this.#failures === 0) log.warn({ error: message }, 'EC2 does not tell the subnets of the zone');
      this.#failures++;
      this.#failedAt = systemClock.now();
      this.#trouble = { cause: code, message };
      this.#update();
    }
  }
}
