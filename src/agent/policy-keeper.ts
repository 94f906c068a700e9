// Enforces NetworkPolicies on this node: follows pods of all nodes and namespaces, and feeds the policy engine. Loaded when
// the first policy is seen. Tells what was refused of a policy. Never throws.
import type { Alarm } from '../base/alarm.ts';
import { formatIp, type Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { PolicySettings } from '../base/policy-words.ts';
import type { Netns } from '../kernel/netns.ts';
import type { KubeObject, Namespace, Node, Pod } from '../kube/index.ts';
import { stageChain } from '../policy/class-table.ts';
import { decodeNetworkPolicy } from '../policy/decode.ts';
import { decodeClusterNetworkPolicy } from '../policy/decode-cluster.ts';
import { PolicyEngine, type PolicyStatus } from '../policy/engine.ts';
import type { Decoded } from '../policy/fields.ts';
import type { FlowLog } from '../policy/flow-log.ts';
import { PolicyKernel } from '../policy/kernel.ts';
import type { Direction, PodView, Policy, Tier } from '../policy/model.ts';
import { namespaceLabels, podView } from '../policy/objects.ts';
import type { PolicyClass } from '../policy/program.ts';
import { POLICY_TABLE } from '../policy/table.ts';
import type { ApiServer } from './api-server.ts';
import { connect } from './configuration-watch.ts';
import { NodeConditions } from './node-condition.ts';
import { PolicyFreshness } from './policy-freshness.ts';
import { watchTable } from './table-watch.ts';
import type { PodName, Tell } from './tell.ts';

export type KeeperOptions = {
  api: ApiServer;
  log: Log;
  netns: Netns;
  tell: Tell;
  nodeName: string;
  existing: 'cut' | 'keep';
  settings: Pick<PolicySettings, 'policy' | 'flowLog'>;
  /** Rest of released addresses (ms), as it is now. */
  cooldownMs: () => number;
  onEnforce: (enforced: boolean) => Promise<void>;
  /** Rung when the API may answer again. */
  alarm: Alarm;
};

/** Packets that begin a connection: those that a tier of a class was asked about, and those that none of its rules decided. */
export type StageCount = { tier: Tier; asked: number; undecided: number };

/** What `/v1/policy` answers. */
export type PolicyView = PolicyStatus & {
  node: string;
  /** All that the agent was told is in force. */
  isSettled: boolean;
  /** Ms since the API told something of pods. */
  silentMs: number;
  /** False: longer than addresses rest. */
  isCurrent: boolean;
  /** resourceVersion of each policy that the agent has seen. */
  objects: Record<string, string>;
  /** `node`: where the API has bound it. */
  pod?: {
    key: string;
    node: string | null;
    ips: string[];
    egress: PolicyClass | null;
    ingress: PolicyClass | null;
    /** What the kernel counted of these classes, since their chains were made. */
    counts: Record<Direction, StageCount[]>;
  };
};

export class PolicyKeeper {
  readonly engine: PolicyEngine;
  readonly #o: KeeperOptions;
  readonly #kernel: PolicyKernel;
  readonly #stop = new AbortController();
  readonly #watch: { close(): void };
  #flowLog: PolicySettings['flowLog'];
  #isEnforced: boolean;
  #freshness: PolicyFreshness | null = null;
  /** Ends with the keeper. */
  #nodes: Promise<void> | null = null;
  #flows: Promise<FlowLog> | null = null;
  /** What each object said, by object: an unchanged one is not read again. */
  readonly #decoded = new Map<string, { source: KubeObject; decoded: Decoded }>();

  constructor(options: KeeperOptions, wasEnforced: boolean) {
    const { netns, log, nodeName: node, onEnforce, existing, settings } = options;
    this.#o = options;
    this.#kernel = new PolicyKernel(netns, settings.flowLog);
    this.#flowLog = settings.flowLog;
    this.#isEnforced = wasEnforced;
    this.engine = new PolicyEngine(
      {
        ...{ node, kernel: this.#kernel, log, existing, mode: settings.policy },
        onEnforce: async (enforced) => {
          await onEnforce(enforced);
          this.#isEnforced = enforced;
        },
      },
      wasEnforced,
    );
    this.#watch = watchTable({
      ...{ netns, table: POLICY_TABLE, isOwn: (port) => this.#kernel.isOwn(port) },
      onTouched: (by) => {
        if (by !== null) log.warn({ by }, 'somebody changed the policy table: it is made anew');
        this.engine.repair();
      },
    });
    this.#tellFlows();
  }

  configure({ policy, flowLog }: KeeperOptions['settings']): void {
    this.#flowLog = flowLog;
    this.engine.setMode(policy);
    this.engine.setFlowLog(flowLog);
    this.#tellFlows();
  }

  /** Reads what the table tells: from before the first one is made, so that its first word is heard. */
  #tellFlows(): void {
    const { netns, log, nodeName: node } = this.#o;
    const isWanted = this.#flowLog !== 'off' && !this.#stop.signal.aborted;
    if (!isWanted) {
      void this.#flows?.then((flows) => flows.close());
      this.#flows = null;
      return;
    }
    const context = () => ({
      ...{ node, now: Date.now(), program: this.engine.program },
      ownerOf: (ip: Ip) => this.engine.ownerOf(ip),
    });
    this.#flows ??= import('../policy/flow-log.ts').then(
      ({ FlowLog }) => new FlowLog({ netns, log, context }),
    );
  }

  /** Null where nothing is told. */
  get flows(): Promise<FlowLog> | null {
    return this.#flows;
  }

  /** Packets by counter of the table; empty without one. */
  counters(): Map<string, number> {
    return this.#isEnforced ? this.#kernel.counters() : new Map();
  }

  setPolicies(objects: ReadonlyMap<string, KubeObject>): void {
    const policies = new Map<string, Policy>();
    for (const [key, source] of objects) {
      let known = this.#decoded.get(key);
      if (known?.source !== source) {
        const decode = key.includes('/') ? decodeNetworkPolicy : decodeClusterNetworkPolicy;
        known = { source, decoded: decode(source) };
        this.#decoded.set(key, known);
        // Its Events are the controller's: they come from one place, however many nodes there are.
        for (const { object, field, value, because } of known.decoded.problems)
          this.#o.log.warn({ object, field }, `${object}: ${field}: ${value} ${because}`);
      }
      if (known.decoded.policy) policies.set(key, known.decoded.policy);
    }
    for (const key of this.#decoded.keys()) if (!objects.has(key)) this.#decoded.delete(key);
    this.engine.setPolicies(policies);
    if (this.engine.asksNodes) this.#followNodes();
  }

  #followNodes(): void {
    this.#nodes ??= import('./node-peers.ts').then(async ({ nodePeers }) => {
      const { api, log, alarm } = this.#o;
      const { signal } = this.#stop;
      const connection = await connect(api, log, signal);
      const sink = nodePeers((nodes) => this.engine.setNodes(nodes));
      const onAway = (error: Error) =>
        log.warn(
          { error: error.message },
          'the Kubernetes API does not tell nodes: policies go by the last ones',
        );
      if (!connection) return;
      const { client, kube } = connection;
      await kube.followEach<Node>(client, kube.nodes, { sink, onAway, alarm, isBuiltIn: true }, signal);
    });
  }

  async keep(): Promise<void> {
    const { api, log } = this.#o;
    const { signal } = this.#stop;
    const connection = await connect(api, log, signal);
    if (!connection) return;
    const { client, kube } = connection;
    const onAway = (error: Error) =>
      log.warn(
        { error: error.message },
        'the Kubernetes API does not tell pods and namespaces: policies go by the last ones',
      );
    const engine = this.engine;
    const { nodeName, tell, cooldownMs, alarm } = this.#o;
    const conditions = new NodeConditions(nodeName, api.connect, log, signal);
    this.#freshness = new PolicyFreshness({
      cooldownMs,
      say: (condition) => conditions.say(condition),
      onSilent: (text) => tell({ kind: 'stale', object: nodeName, text }),
    });
    const { heard, keep } = this.#freshness;
    const idleMs = () => this.#freshness?.idleMs ?? Number.POSITIVE_INFINITY;
    await Promise.all([
      keep(signal),
      kube.followEach<Pod, PodView>(
        client,
        kube.pods,
        {
          ...{ onAway, alarm, idleMs, onHeard: heard, view: podView, isBuiltIn: true },
          sink: {
            replace: (pods) => engine.setPods(pods),
            put: (pod) => engine.putPod(pod),
            remove: (pod) => engine.removePod(kube.keyOf(pod)),
          },
        },
        signal,
      ),
      kube.followEach<Namespace>(
        client,
        kube.namespaces,
        {
          ...{ onAway, alarm, isBuiltIn: true },
          sink: {
            replace: (all) =>
              engine.setNamespaces(new Map(all.map((one) => [one.metadata.name!, namespaceLabels(one)]))),
            put: (one) => engine.putNamespace(one.metadata.name!, namespaceLabels(one)),
            remove: (one) => engine.putNamespace(one.metadata.name!, null),
          },
        },
        signal,
      ),
    ]);
  }

  /** Of what is known of the cluster's pods. */
  get freshness(): Pick<PolicyView, 'silentMs' | 'isCurrent'> {
    return { silentMs: this.#freshness?.silentMs ?? 0, isCurrent: this.#freshness?.isCurrent ?? true };
  }

  view(key?: string): PolicyView {
    const { engine } = this;
    const status = engine.status;
    const objects: Record<string, string> = {};
    for (const [name, { source }] of this.#decoded) objects[name] = source.metadata.resourceVersion ?? '';
    const view = {
      node: this.#o.nodeName,
      ...status,
      isSettled: engine.isSettled,
      objects,
      ...this.freshness,
    };
    if (key === undefined) return view;
    const seen = engine.pod(key);
    const program = engine.program;
    const classOf = (map: 'from' | 'to') => {
      const name = seen?.ips.map((ip) => program?.[map].get(ip)).find((one) => one !== undefined);
      return name === undefined ? null : (program?.classes.get(name) ?? null);
    };
    const classes = { egress: classOf('from'), ingress: classOf('to') };
    const countsOf = (one: PolicyClass | null): StageCount[] =>
      (one?.stages ?? []).map(({ tier }, place) => {
        const counted = this.#kernel.chainCounters(stageChain(one!, place));
        return { tier, asked: counted[0] ?? 0, undecided: counted.at(-1) ?? 0 };
      });
    return {
      ...view,
      pod: {
        key,
        node: seen?.node ?? null,
        ips: (seen?.ips ?? []).map(formatIp),
        ...classes,
        counts: { egress: countsOf(classes.egress), ingress: countsOf(classes.ingress) },
      },
    };
  }

  /** Why a pod of this node cannot start yet. */
  whyNot({ namespace, name, uid }: PodName): string {
    const key = `${namespace}/${name}`;
    if (!this.engine.isReady) return 'the Kubernetes API has not told policies, pods and namespaces';
    const seen = this.engine.pod(key);
    if (!seen) return `the Kubernetes API does not show the pod ${key}`;
    if (uid !== undefined && seen.uid !== uid)
      return `the Kubernetes API shows another pod ${key}, not ${uid}`;
    return this.engine.status.broken ?? `the policies of ${key} are not in force yet`;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#watch.close();
    this.#tellFlows();
    await this.engine.close();
  }
}
