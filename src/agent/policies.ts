// The node's door to network policy. Light: it follows NetworkPolicies, and loads what enforces them when the first one is
// seen; a cluster without any pays for one watch. Invariant: with an API, no pod starts before it is known whether there
// are policies, and if there are, before its own are in force; with policyTimeout isolate it starts and reaches its node
// alone until they are. What a process before this one knew stays on file. Fails with POLICY_TIMEOUT.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Alarm } from '../base/alarm.ts';
import { PodwayError } from '../base/errors.ts';
import { formatIp, type Ip } from '../base/ip.ts';
import { JUDGED, POLICY_MASK } from '../base/packet-marks.ts';
import type { PolicySettings } from '../base/policy-words.ts';
import type { KubeObject, Sink } from '../kube/index.ts';
import type { FlowPage } from '../policy/flow-log.ts';
import { followClusterPolicies } from './cluster-policy-watch.ts';
import { connect } from './configuration-watch.ts';
import type { IsolatedPods } from './isolated-pods.ts';
import type { Parts } from './parts.ts';
import type { PolicyKeeper, PolicyView } from './policy-keeper.ts';
import type { PodName } from './tell.ts';

/** Ms that an ADD waits for its policies. */
const ADMIT_MS = 2_000;

const JUDGED_PACKETS = { mark: JUDGED, mask: POLICY_MASK } as const;

const KIND_NAMES = {
  networkpolicies: 'NetworkPolicies',
  clusternetworkpolicies: 'ClusterNetworkPolicies',
} as const;
type PolicyKind = keyof typeof KIND_NAMES;
const KINDS = Object.keys(KIND_NAMES) as PolicyKind[];

/** Without managedFields and annotations: nobody reads them, and they are often longer than the rest. */
const lean = ({ metadata: { namespace, name, uid, resourceVersion }, ...rest }: KubeObject): KubeObject => ({
  ...rest,
  metadata: {
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  },
});

/** Only those of a namespace have a slash in their key. */
const kindOf = (key: string): PolicyKind =>
  key.includes('/') ? 'networkpolicies' : 'clusternetworkpolicies';

export type PoliciesOptions = Pick<Parts, 'config' | 'api' | 'log' | 'netns' | 'tell'> & {
  /** As they are now: a NodeNetwork may change them. */
  settings: () => PolicySettings;
  cooldownMs: () => number;
  /** Addresses of the pods of this node, by pod. */
  held: () => Iterable<{ pod: PodName; ips: readonly Ip[] }>;
  /** Makes the routes ask for judged packets, or no longer. */
  onEnforce: () => Promise<void>;
};

export class Policies {
  readonly #o: PoliciesOptions;
  readonly #files: Record<'none' | 'enforced' | 'isolated', string>;
  /** Whether there are policies is known, from the API or, at a restart, from the process before. */
  #known = Promise.withResolvers<void>();
  #isKnown = false;
  #keeper: Promise<PolicyKeeper> | null = null;
  #isolated: Promise<IsolatedPods> | null = null;
  #turned = Promise.withResolvers<void>();
  /** Rung by whoever may know that the API answers again. */
  readonly #alarm = new Alarm();
  #isEnforced: boolean;
  /** By NAMESPACE/NAME, or by NAME for those of the cluster. */
  readonly #policies = new Map<string, KubeObject>();
  /** Kinds that the API has told whole, or refuses to tell. */
  readonly #told = new Set<PolicyKind>();

  constructor(options: PoliciesOptions) {
    this.#o = options;
    const { runDir } = options.config;
    this.#files = {
      none: join(runDir, 'policy.none'),
      enforced: join(runDir, 'policy.enforced'),
      isolated: join(runDir, 'policy.isolated.json'),
    };
    this.#isEnforced = existsSync(this.#files.enforced);
    if (!this.#isOn || (!this.#isEnforced && existsSync(this.#files.none))) this.#learn();
  }

  get #isOn(): boolean {
    return this.#o.api.isConfigured && this.#o.settings().policy !== 'off';
  }

  /** The settings have changed. */
  configure(): void {
    this.#turned.resolve();
    this.#turned = Promise.withResolvers();
    void this.#keeper?.then((keeper) => keeper.configure(this.#o.settings()));
    if (!this.#isOn) void this.#isolated?.then((isolated) => isolated.releaseAll());
  }

  /** What the pods' routes ask of a packet; undefined without policies. */
  get judged(): { mark: number; mask: number } | undefined {
    return this.#isEnforced ? JUDGED_PACKETS : undefined;
  }

  get keeper(): Promise<PolicyKeeper> | null {
    return this.#keeper;
  }

  /** Ends when `signal` aborts. Never throws. */
  async keep(signal: AbortSignal): Promise<void> {
    const { api, log } = this.#o;
    if (existsSync(this.#files.isolated)) void this.#isolation();
    if (!this.#isOn) await this.#leave();
    while (!this.#isOn) {
      if (signal.aborted || !api.isConfigured) return;
      await Promise.race([this.#turned.promise, aborted(signal)]).catch(() => undefined);
    }
    if (this.#isEnforced) this.#load();
    const connection = await connect(api, log, signal);
    if (!connection) return;
    const { client, kube } = connection;
    const alarm = this.#alarm;
    const sinkOf = (kind: PolicyKind): Sink<KubeObject> => ({
      replace: (objects) => {
        for (const key of this.#policies.keys()) if (kindOf(key) === kind) this.#policies.delete(key);
        for (const one of objects) this.#policies.set(kube.keyOf(one), lean(one));
        this.#tell(kind);
      },
      put: (one) => {
        this.#policies.set(kube.keyOf(one), lean(one));
        this.#tell(kind);
      },
      remove: (one) => {
        this.#policies.delete(kube.keyOf(one));
        this.#tell(kind);
      },
    });
    const onAway = (kind: PolicyKind) => (error: Error) => this.#away(kind, error);
    await Promise.all([
      kube.followEach(
        client,
        kube.networkPolicies,
        { sink: sinkOf('networkpolicies'), onAway: onAway('networkpolicies'), alarm, isBuiltIn: true },
        signal,
      ),
      followClusterPolicies(
        {
          ...{ client, kube, alarm },
          sink: sinkOf('clusternetworkpolicies'),
          onAway: onAway('clusternetworkpolicies'),
        },
        signal,
      ),
    ]);
    await (await this.#isolated)?.close();
    await (await this.#keeper)?.close();
  }

  /** Some policies without the others could allow what the others deny: they count when all kinds are told. */
  #tell(kind: PolicyKind): void {
    this.#told.add(kind);
    if (KINDS.some((one) => !this.#told.has(one))) return;
    if (this.#policies.size > 0) this.#load();
    this.#learn();
    void this.#keeper?.then((keeper) => keeper.setPolicies(this.#policies));
  }

  /**
   * Before a pod's link is made: resolves when what policies say of it is in force; undefined where there is nothing to
   * wait for. Throws POLICY_TIMEOUT; the caller releases the addresses.
   */
  admit(pod: PodName | undefined, ips: readonly Ip[], signal: AbortSignal): Promise<void> | undefined {
    if (!pod || (this.#isKnown && !this.#keeper)) return undefined;
    if (!this.#isOn) {
      void this.#keeper?.then((keeper) => keeper.engine.hold(`${pod.namespace}/${pod.name}`, ips));
      return undefined;
    }
    return this.#admit(pod, ips, signal);
  }

  async #admit(pod: PodName, ips: readonly Ip[], signal: AbortSignal): Promise<void> {
    // Who starts the pod has heard of it from the API.
    this.#alarm.ring();
    const until = AbortSignal.any([signal, AbortSignal.timeout(ADMIT_MS)]);
    let waitsFor = 'the Kubernetes API has not told whether there are policies';
    try {
      await this.#inForce(pod, ips, until, () => {
        waitsFor = `the policies of ${pod.namespace}/${pod.name} are not in force`;
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!until.aborted) throw error;
      const because = (await this.#keeper)?.whyNot(pod) ?? waitsFor;
      const { policy, policyTimeout } = this.#o.settings();
      if (policy === 'audit') {
        // It drops nothing, so it keeps no pod from starting: the pod is judged from when the API shows it.
        (await this.#keeper)?.engine.hold(`${pod.namespace}/${pod.name}`, ips);
        this.#o.log.warn(
          { pod: `${pod.namespace}/${pod.name}` },
          `a pod starts before it is audited: ${because}`,
        );
        return;
      }
      if (policyTimeout === 'isolate') {
        const isolation = await this.#isolation();
        return await isolation.isolate(pod, ips, `after ${ADMIT_MS} ms ${because}`);
      }
      throw new PodwayError(
        'POLICY_TIMEOUT',
        `${ips.map(formatIp).join(', ')}: after ${ADMIT_MS} ms ${because}`,
        {
          object: `${pod.namespace}/${pod.name}`,
        },
      );
    }
  }

  async #inForce(
    pod: PodName,
    ips: readonly Ip[],
    signal: AbortSignal,
    onKnown: () => void = () => {},
  ): Promise<void> {
    await Promise.race([this.#known.promise, aborted(signal)]);
    onKnown();
    if (this.#isOn) await (await this.#keeper)?.engine.admit(pod, ips, signal);
  }

  #isolation(): Promise<IsolatedPods> {
    this.#isolated ??= import('./isolated-pods.ts').then(async ({ IsolatedPods }) => {
      const { netns, log, tell } = this.#o;
      const inForce = (pod: PodName, ips: readonly Ip[], signal: AbortSignal) =>
        this.#inForce(pod, ips, signal);
      const isolated = new IsolatedPods({ netns, log, tell, inForce, file: this.#files.isolated });
      await isolated.resume();
      return isolated;
    });
    return this.#isolated;
  }

  /** The addresses are nobody's any more. */
  release(pod: PodName | undefined, ips: readonly Ip[]): void {
    if (!pod) return;
    void this.#isolated?.then((isolated) => isolated.release(ips));
    if (!this.#keeper) return;
    void this.#keeper.then((keeper) => keeper.engine.release(`${pod.namespace}/${pod.name}`, ips));
  }

  /** The connections that the node told after number `after`; waits up to `waitMs` for one. Null where none are told. */
  async flows(after: number, waitMs: number): Promise<FlowPage | null> {
    const flows = await (await this.#keeper)?.flows;
    return flows ? flows.after(after, waitMs) : null;
  }

  /** Text of metrics; empty where there are no policies. */
  async metrics(): Promise<string> {
    const keeper = await this.#keeper;
    if (!keeper) return '';
    const { policyMetricsText } = await import('./policy-metrics.ts');
    return policyMetricsText(keeper, (await this.#isolated)?.names.length ?? 0);
  }

  /** What is in force; null where there are no policies. */
  async view(pod?: string): Promise<PolicyView | null> {
    const keeper = await this.#keeper;
    return keeper ? keeper.view(pod) : null;
  }

  #learn(): void {
    if (this.#isKnown) return;
    this.#isKnown = true;
    if (!this.#isEnforced && this.#isOn && this.#policies.size === 0) this.#write('none');
    this.#known.resolve();
  }

  #away(kind: PolicyKind, error: Error): void {
    const { log, tell, config } = this.#o;
    if ((error as { code?: number }).code === 403) {
      tell({
        kind: 'policy',
        object: kind,
        text: `${KIND_NAMES[kind]} are not enforced on ${config.nodeName}: the agent may not list them: ${error.message}`,
      });
      this.#tell(kind);
    } else
      log.warn(
        { error: error.message },
        `the Kubernetes API does not tell the ${KIND_NAMES[kind]}: the last ones count`,
      );
  }

  #load(): void {
    this.#keeper ??= import('./policy-keeper.ts').then(({ PolicyKeeper }) => {
      const { api, log, netns, tell, held, config } = this.#o;
      const onEnforce = (enforced: boolean) => this.#enforce(enforced);
      const keeper = new PolicyKeeper(
        {
          api,
          log,
          netns,
          tell,
          onEnforce,
          existing: config.settings.existingConnections,
          settings: this.#o.settings(),
          cooldownMs: this.#o.cooldownMs,
          nodeName: config.nodeName,
          alarm: this.#alarm,
        },
        this.#isEnforced,
      );
      for (const { pod, ips } of held()) keeper.engine.hold(`${pod.namespace}/${pod.name}`, ips);
      void keeper.keep();
      return keeper;
    });
  }

  async #enforce(enforced: boolean): Promise<void> {
    this.#isEnforced = enforced;
    // What is off says nothing of whether there are policies.
    if (enforced || this.#isOn) this.#write(enforced ? 'enforced' : 'none');
    else for (const file of [this.#files.none, this.#files.enforced]) rmSync(file, { force: true });
    await this.#o.onEnforce();
  }

  #write(state: 'none' | 'enforced'): void {
    const { none, enforced } = this.#files;
    try {
      writeFileSync(state === 'none' ? none : enforced, '', { mode: 0o600 });
      rmSync(state === 'none' ? enforced : none, { force: true });
    } catch (error) {
      // Without the file the next start asks the API first.
      this.#o.log.warn(
        { error: (error as Error).message },
        'it is not on file whether policies are in force',
      );
    }
  }

  /** Another engine's, or nobody's: our table goes, and the routes stay. */
  async #leave(): Promise<void> {
    if (!this.#isEnforced) return;
    await this.#enforce(false);
    const { PolicyKernel } = await import('../policy/kernel.ts');
    const kernel = new PolicyKernel(this.#o.netns);
    await kernel
      .remove()
      .catch((error) => this.#o.log.warn({ error: String(error) }, 'the policy table is left'));
    await kernel.close();
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
