// Security groups per pod in this process: policies and webhooks in every replica, and in the leader the decision whether
// trunks and branches are made. `auto` makes them from the first SecurityGroupPolicy on, and never where EKS's controller
// is; `on` makes trunks before there is a policy; `off` does nothing. Where AWS denies trunks it says so and asks again.
import type { Clock } from '../../base/clock.ts';
import { systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Budget } from '../../cloud/budget.ts';
import { limitsFromTable } from '../../cloud/limits.ts';
import type { Cloud, TrunkCloud } from '../../cloud/port.ts';
import type { EventRecorder, KubeClient } from '../../kube/index.ts';
import { PolicyView } from '../../kube/pod-groups-view.ts';
import type { OwnCalls } from '../budget/keeper.ts';
import type { ControllerMetrics } from '../metrics.ts';
import type { ControllerConfig } from '../options.ts';
import type { ClusterView } from '../view.ts';
import { CniNodes } from './cni-nodes.ts';
import { signOfEks } from './eks.ts';
import { failureOf, isDenied } from './failures.ts';
import { BranchKeeper } from './keeper.ts';
import { configureWebhooks, Webhooks } from './webhooks.ts';

export type BranchMode = 'auto' | 'on' | 'off';
type ClusterCloud = Cloud & TrunkCloud & Budget;

/** Between two looks whether branches are needed, and two writes of the webhooks' configuration (ms). */
const LOOK_MS = 500;
const CONFIGURE_MS = 60_000;
/** After AWS's no (ms). */
const DENIED_MS = 300_000;
const AGAIN_MS = 10_000;
const EKS_HOLDS_MS = 60_000;

export type SecurityGroupsParts = {
  config: Pick<
    ControllerConfig,
    'namespace' | 'branchController' | 'branchCooldown' | 'webhookListen' | 'webhookUrl'
  >;
  client: KubeClient;
  isLeading: () => boolean;
  metrics: ControllerMetrics;
  log: Log;
  /** EC2 with the cluster's budget: a call waits as what waits for it is urgent. */
  openCloud: (isPodWaiting: () => boolean, signal: AbortSignal) => Promise<ClusterCloud>;
  clock?: Clock;
};

export type TermOfBranches = { view: ClusterView; events: EventRecorder };

export class SecurityGroups {
  readonly #p: SecurityGroupsParts;
  readonly #clock: Clock;
  readonly #policies: PolicyView;
  readonly #webhooks: Webhooks | null;
  #isActive = false;
  #made: { cloud: ClusterCloud; keeper: BranchKeeper } | null = null;
  #eks: { at: number; sign: string | null } | null = null;

  constructor(parts: SecurityGroupsParts) {
    this.#p = parts;
    this.#clock = parts.clock ?? systemClock;
    const { client, config, isLeading, log } = parts;
    const { webhookListen: listen, webhookUrl: url, namespace } = config;
    this.#policies = new PolicyView(client, this.#clock);
    this.#webhooks = listen
      ? new Webhooks({
          ...{ client, policies: this.#policies, listen, namespace, url, isLeading, log },
          clock: this.#clock,
        })
      : null;
  }

  get #where() {
    const { namespace, webhookUrl: url } = this.#p.config;
    return { namespace, url };
  }

  /** What this process asks of the account's EC2 calls for branches, and takes. Nothing while it makes none. */
  readonly calls: OwnCalls = {
    asked: () => {
      if (!this.#made) return null;
      const { cloud, keeper } = this.#made;
      return { ...cloud.rates(), nodesWaiting: keeper.nodesWaiting };
    },
    grant: (rates, ms) => this.#made?.cloud.grant(rates, ms),
  };

  /** Of every replica. Ends when `signal` aborts. Throws LISTEN_FAILED. */
  async serve(signal: AbortSignal): Promise<void> {
    const { client, log, config } = this.#p;
    const { branchController: mode } = config;
    if (mode === 'off') return;
    const isNeeded = async () => {
      if (this.#isActive || mode === 'on') return true;
      return this.#policies.size > 0 && (await this.#signOfEks(signal)) === null;
    };
    await Promise.all([
      this.#policies.follow(client, log, signal),
      ...(this.#webhooks ? [this.#webhooks.serve(isNeeded, signal)] : []),
    ]);
  }

  /** Of the leader. Ends when `signal` aborts. */
  async keep(term: TermOfBranches, signal: AbortSignal): Promise<void> {
    const { config, log } = this.#p;
    const { branchController: mode } = config;
    if (mode === 'off') return void (await this.#withdraw(signal));
    let isTold = false;
    while (!signal.aborted) {
      if (!this.#isNeeded(term.view)) {
        await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
        continue;
      }
      try {
        const sign = await this.#signOfEks(signal);
        if (sign !== null && mode === 'auto') {
          log.info({ sign }, "EKS's controller makes the branches here: branchController auto is off");
          return await this.#withdraw(signal);
        }
        if (sign !== null) log.warn({ sign }, "branchController is on where EKS's controller is");
        await this.#make(term, signal);
      } catch (error) {
        if (signal.aborted) return;
        const { code, text } = failureOf(error);
        const denied = isDenied(error);
        this.#p.metrics.branchFailures.inc({ cause: denied ? 'TRUNK_DENIED' : code });
        if (denied) this.#tellDenied(term, text);
        if (!isTold) log.warn({ cause: denied ? 'TRUNK_DENIED' : code, error: text }, 'no branches are made');
        isTold = true;
        await this.#clock.sleep(denied ? DENIED_MS : AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  /** A node that says how many branches it takes was given a trunk once: what it left is to be ended. */
  #isNeeded(view: ClusterView): boolean {
    if (!view.isWhole || !this.#policies.isWhole) return false;
    if (this.#p.config.branchController === 'on' || this.#policies.size > 0) return true;
    return [...view.nodes.values()].some(({ podEni }) => Number(podEni[0] ?? 0) > 0);
  }

  /** By what EKS's controller was seen in the last minute. */
  async #signOfEks(signal: AbortSignal): Promise<string | null> {
    const now = this.#clock.now();
    if (!this.#eks || now - this.#eks.at > EKS_HOLDS_MS)
      this.#eks = { at: now, sign: await signOfEks(this.#p.client, signal) };
    return this.#eks.sign;
  }

  #tellDenied({ events }: TermOfBranches, text: string): void {
    for (const { namespace, name } of this.#policies.all) {
      const about = {
        apiVersion: 'vpcresources.k8s.aws/v1beta1',
        kind: 'SecurityGroupPolicy',
        namespace,
        name,
      };
      events.record(about, 'Warning', 'TrunkDenied', `TRUNK_DENIED: ${text}`);
    }
  }

  async #make({ view, events }: TermOfBranches, signal: AbortSignal): Promise<void> {
    const { openCloud, config, client, isLeading, metrics, log } = this.#p;
    let keeper: BranchKeeper | null = null;
    const cloud = await openCloud(() => keeper?.isPodWaiting ?? false, signal);
    await cloud.probeTrunking(signal);
    log.info({}, 'branches are made');
    this.#isActive = true;
    keeper = new BranchKeeper({
      ...{ view, policies: this.#policies, client, cloud, events, isLeading, metrics, log },
      limitsOf: (type) => limitsFromTable(type),
      cooldown: config.branchCooldown,
      clock: this.#clock,
    });
    const making = keeper;
    const cniNodes = new CniNodes({
      ...{ client, view, isLeading, log, clock: this.#clock },
      onAsked: (name) => making.wantTrunk(name),
    });
    this.#made = { cloud, keeper };
    try {
      await Promise.all([making.keep(signal), cniNodes.keep(signal), this.#configure(signal)]);
    } finally {
      this.#made = null;
    }
  }

  /** The API asks the webhooks once they have a certificate, and trusts the one of now. */
  async #configure(signal: AbortSignal): Promise<void> {
    const webhooks = this.#webhooks;
    if (!webhooks) return;
    let written = '';
    let writtenAt = Number.NEGATIVE_INFINITY;
    let isTold = false;
    while (!signal.aborted) {
      const cert = webhooks.authority;
      const now = this.#clock.now();
      if (cert !== null && (cert !== written || now - writtenAt > CONFIGURE_MS) && this.#p.isLeading())
        try {
          await configureWebhooks(this.#p.client, this.#where, cert, signal);
          if (written === '') this.#p.log.info({}, 'the API asks the webhooks');
          [written, writtenAt, isTold] = [cert, now, false];
        } catch (error) {
          if (signal.aborted) return;
          if (!isTold)
            this.#p.log.warn({ error: (error as Error).message }, 'the API does not know the webhooks');
          isTold = true;
        }
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  /** No pod's creation waits for us. */
  async #withdraw(signal: AbortSignal): Promise<void> {
    const { client, log } = this.#p;
    await configureWebhooks(client, this.#where, null, signal).catch((error: Error) => {
      if (!signal.aborted) log.warn({ error: error.message }, "the webhooks' configuration stays");
    });
  }
}
