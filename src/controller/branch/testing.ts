// The real keeper of branches for tests: on the embedded API, EC2 in memory, and time that runs a hundred times as
// fast.
import { pino } from 'pino';
import { fastClock } from '../../base/testing.ts';
import { limitsFromTable } from '../../cloud/limits.ts';
import type { Cloud, TrunkCloud } from '../../cloud/port.ts';
import type { FakeCloud } from '../../cloud/testing.ts';
import { decodePodEnis, type KubeClient, nodes, POD_ENI, type PodEni, pods } from '../../kube/index.ts';
import { PolicyView } from '../../kube/pod-groups-view.ts';
import { createMetrics } from '../metrics.ts';
import { ClusterView } from '../view.ts';
import { BranchKeeper } from './keeper.ts';

export const clock = fastClock(100);

export type Told = { about: string; reason: string; text: string };

/** m5.large nodes and pods of theirs; the keeper runs from `start` to `stop`, as often as wanted. */
export class Bench {
  readonly told: Told[] = [];
  readonly #client: KubeClient;
  readonly #cloud: FakeCloud;
  readonly #asked: Cloud & TrunkCloud;
  #keeper: BranchKeeper | null = null;
  #end: AbortController | null = null;
  readonly #kept: Promise<unknown>[] = [];

  /** `asked`: how the keeper asks the cloud. */
  constructor(client: KubeClient, cloud: FakeCloud, asked: Cloud & TrunkCloud = cloud) {
    this.#client = client;
    this.#cloud = cloud;
    this.#asked = asked;
  }

  get isPodWaiting(): boolean {
    return this.#keeper?.isPodWaiting ?? false;
  }

  async addNode(name: string, instanceId: string): Promise<void> {
    this.#cloud.addInstanceEni({ deviceIndex: 0, instanceId });
    await this.#client.create(nodes, {
      metadata: { name, labels: { 'node.kubernetes.io/instance-type': 'm5.large' } },
      spec: { providerID: `aws:///us-west-2a/${instanceId}` },
    });
  }

  async addPod(name: string, nodeName: string): Promise<void> {
    const resources = { limits: { [POD_ENI]: '1' }, requests: { [POD_ENI]: '1' } };
    await this.#client.create(pods, {
      metadata: { name, namespace: 'default' },
      spec: { nodeName, containers: [{ name: 'c', image: 'x', resources }] },
    });
  }

  async branchOf(name: string): Promise<PodEni | null> {
    const text = (await this.#client.get(pods, name, 'default')).metadata.annotations?.[POD_ENI];
    return text === undefined ? null : decodePodEnis(text)[0]!;
  }

  start(): void {
    const client = this.#client;
    const log = pino({ level: process.env['PODWAY_LOG'] ?? 'silent' });
    const end = new AbortController();
    const { signal } = end;
    const view = new ClusterView();
    const policies = new PolicyView(client, clock);
    const keeper = new BranchKeeper({
      ...{ view, policies, client, cloud: this.#asked, log, cooldown: 30_000, clock },
      metrics: createMetrics(),
      events: {
        record: (about, _type, reason, text) => {
          const { name = '' } = about as { name?: string };
          this.told.push({ about: name, reason, text });
        },
      },
      isLeading: () => !signal.aborted,
      limitsOf: (type) => limitsFromTable(type),
    });
    this.#keeper = keeper;
    this.#end = end;
    this.#kept.push(
      view.follow(client, log, signal),
      policies.follow(client, log, signal),
      keeper.keep(signal),
    );
  }

  /** It leads no more, while what it has asked EC2 for goes on. */
  abandon(): void {
    this.#end?.abort(new Error('over'));
  }

  async stop(): Promise<void> {
    this.abandon();
    await Promise.all(this.#kept);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
