// Three pods in each of some namespaces over two nodes, each serving ports 80 and 81 by TCP, UDP and SCTP in every family
// that it has, and probes between all of them; the objects in force, and what they say of each pair.
import { CoreV1Api, type KubeConfig, NetworkingV1Api, type V1NetworkPolicy } from '@kubernetes/client-node';
import { formatIp, type Ip } from '../../src/base/ip.ts';
import type { Netns } from '../../src/kernel/netns.ts';
import { KubeClient, namespaces, pods, readKubeConfig } from '../../src/kube/index.ts';
import { BUILT_IN_IMAGE } from '../../src/lab/cluster/command.ts';
import { ControlClient } from '../../src/lab/daemon/client.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { LabStatus, NodeView, PodView } from '../../src/lab/daemon/protocol.ts';
import { type ClusterPolicy, type Objects, type OraclePod, reaches } from './policy-oracle.ts';
import {
  type Ask,
  type Family,
  familyOfIp,
  Place,
  PROTOCOLS,
  type Protocol,
  probe,
} from './policy-probes.ts';
import { eventually } from './wait.ts';

export type { Protocol } from './policy-probes.ts';
export type Who = { readonly ns: string; readonly pod: string };
export type At = { readonly protocol: Protocol; readonly family: Family };
/** Whether `from` reaches `to` on the port; undefined: as the objects say. */
export type Allow = (from: Who, to: Who, port: number, at: At) => boolean | undefined;

/** A lab, with its own cluster or a real one. */
export type Site = {
  readonly name: string;
  kube(): Promise<Pick<KubeConfig, 'makeApiClient'>>;
  kubeconfig(): Promise<string>;
};

export const PODS = ['a', 'b', 'c'] as const;
export const PORTS = [80, 81] as const;
/** Neighbours and strangers in each namespace; others take turns. */
const NODE_OF: Record<string, string> = {
  ...{ 'x/a': 'node-1', 'x/b': 'node-2', 'x/c': 'node-1' },
  ...{ 'y/a': 'node-1', 'y/b': 'node-2', 'y/c': 'node-2' },
  ...{ 'z/a': 'node-2', 'z/b': 'node-1', 'z/c': 'node-2' },
};
export const nodeOf = (key: string): string => NODE_OF[key] ?? (key.endsWith('b') ? 'node-2' : 'node-1');
const CONVERGES_MS = 30_000;

export const servedPorts = (of: readonly number[] = PORTS): OraclePod['ports'] =>
  of.flatMap((port) =>
    PROTOCOLS.map((protocol) => ({
      name: `serve-${port}-${protocol.toLowerCase()}`,
      containerPort: port,
      protocol,
    })),
  );

export type GroundOptions = {
  readonly namespaces?: readonly string[];
  /** Ms in which the packets do as the objects say. */
  readonly convergesMs?: number;
};
export type AddOptions = {
  readonly labels?: Record<string, string>;
  readonly ports?: OraclePod['ports'];
  readonly node?: string;
};

/** Between two pods of the ground. */
type PairAsk = Ask & { readonly from: Place };

const keyOf = ({ ns, pod }: Who): string => `${ns}/${pod}`;
type Labels = Record<string, string>;

export class PolicyGround {
  readonly #site: Site;
  readonly #control: ControlClient;
  readonly #o: GroundOptions;
  readonly #places = new Map<string, Place>();
  readonly #pods = new Map<string, OraclePod & { labels: Labels }>();
  readonly #namespaces = new Map<string, Labels>();
  readonly #policies = new Map<string, V1NetworkPolicy>();
  /** Of the cluster: who applies them says so. */
  cluster: readonly ClusterPolicy[] = [];
  core!: CoreV1Api;
  networking!: NetworkingV1Api;
  client!: KubeClient;
  probes = 0;
  /** Connections that servers accepted, as `ADDRESS > NAMESPACE/POD:PORT`. */
  readonly seen: string[] = [];
  /** Servers answer what they are sent, on connections that begin from now on, instead of ending them. */
  echoes = false;
  /** Address by which a pod is asked instead of its own, as a Service's. */
  via: ((key: string, family: Family) => Ip | undefined) | null = null;

  constructor(site: Site, options: GroundOptions = {}) {
    this.#site = site;
    this.#control = new ControlClient(site.name, labPaths(site.name).control);
    this.#o = options;
  }

  async start(): Promise<void> {
    const config = await this.#site.kube();
    this.client = new KubeClient(await readKubeConfig(await this.#site.kubeconfig()));
    this.core = config.makeApiClient(CoreV1Api);
    this.networking = config.makeApiClient(NetworkingV1Api);
    const { namespaces: all = ['x', 'y', 'z'] } = this.#o;
    await Promise.all(all.map((ns) => this.addNamespace(ns)));
    await this.addPods(...all.flatMap((ns) => PODS.map((pod) => [{ ns, pod }] as const)));
  }

  async addNamespace(ns: string, labels: Labels = { ns }): Promise<void> {
    await this.core.createNamespace({ body: { metadata: { name: ns, labels } } });
    this.#namespaces.set(ns, { 'kubernetes.io/metadata.name': ns, ...labels });
  }

  async createPod(who: Who, { labels, ports = servedPorts(), node }: AddOptions = {}): Promise<void> {
    const { ns, pod } = who;
    const its = labels ?? { pod };
    await eventually('the pod is made', () =>
      this.core
        .createNamespacedPod({
          namespace: ns,
          body: {
            metadata: { name: pod, labels: its },
            spec: {
              nodeName: node ?? nodeOf(keyOf(who)),
              terminationGracePeriodSeconds: 0,
              containers: [{ name: 'c', image: BUILT_IN_IMAGE, imagePullPolicy: 'Never', ports: [...ports] }],
            },
          },
        })
        // A real cluster makes each namespace's account a moment later.
        .catch((error: Error) => {
          if (/serviceaccount/.test(error.message)) return Promise.reject(error);
          throw error;
        }),
    );
    this.#pods.set(keyOf(who), { ns, pod, labels: { ...its }, ports });
  }

  /** Waits until the pod runs, and opens its servers. */
  async openPod(who: Who): Promise<void> {
    const key = keyOf(who);
    const view = await eventually(
      `${key} runs`,
      async () =>
        (await this.pods()).find(
          (one) => one.namespace === who.ns && one.name === who.pod && one.phase === 'Running',
        ),
      60_000,
    );
    this.openAt(who, view);
  }

  openAt(who: Who, { netnsPath, ips }: Pick<PodView, 'netnsPath' | 'ips'>): void {
    const key = keyOf(who);
    const ports = [...new Set(this.#pods.get(key)!.ports.map(({ containerPort }) => containerPort))];
    const place = new Place(key, netnsPath, ips, {
      ports,
      onAccept: (from, port, socket) => {
        this.seen.push(`${from} > ${key}:${port}`);
        if (!this.echoes) return void socket.end('.');
        socket.write('.');
        socket.pipe(socket);
      },
    });
    this.#places.set(key, place);
  }

  /** All at once, and their servers. */
  async addPods(...all: readonly (readonly [Who, AddOptions?])[]): Promise<void> {
    await Promise.all(all.map(([who, options]) => this.createPod(who, options)));
    for (const [who] of all) await this.openPod(who);
  }

  async removePods(...all: readonly Who[]): Promise<void> {
    await Promise.all(all.map((who) => this.removePod(who)));
  }

  async removePod(who: Who): Promise<void> {
    const key = keyOf(who);
    this.#places.get(key)?.close();
    this.#places.delete(key);
    this.#pods.delete(key);
    await this.core.deleteNamespacedPod({ namespace: who.ns, name: who.pod, gracePeriodSeconds: 0 });
    await eventually(`${key} is gone`, async () =>
      (await this.pods()).every((one) => `${one.namespace}/${one.name}` !== key),
    );
  }

  pods = (): Promise<PodView[]> => this.#control.call('GET', '/v1/pods');
  nodes = async (): Promise<NodeView[]> => (await this.#control.call<LabStatus>('GET', '/v1/status')).nodes;
  place = (key: string): Place => this.#places.get(key)!;
  get places(): readonly Place[] {
    return [...this.#places.values()];
  }
  netnsOf = (key: string): Netns => this.place(key).netns;
  /** The first of its addresses. */
  ipOf = (key: string): string => formatIp(this.place(key).ips[0]!);
  /** Each of its addresses as a CIDR. */
  hostsOf = (key: string): string[] =>
    this.place(key).ips.map((ip) => `${formatIp(ip)}/${familyOfIp(ip) === 4 ? 32 : 128}`);

  /** Exactly these policies, made, replaced and deleted one by one. */
  async policies(wanted: readonly V1NetworkPolicy[]): Promise<void> {
    const nameOf = ({ metadata }: V1NetworkPolicy) => `${metadata!.namespace}/${metadata!.name}`;
    const names = new Set(wanted.map(nameOf));
    for (const [key, { metadata }] of this.#policies) {
      if (names.has(key)) continue;
      await this.networking.deleteNamespacedNetworkPolicy({
        namespace: metadata!.namespace!,
        name: metadata!.name!,
      });
      this.#policies.delete(key);
    }
    for (const body of wanted) {
      const { namespace, name } = body.metadata as { namespace: string; name: string };
      const key = nameOf(body);
      if (!this.#policies.has(key)) await this.networking.createNamespacedNetworkPolicy({ namespace, body });
      else if (JSON.stringify(this.#policies.get(key)) !== JSON.stringify(body))
        await this.networking.replaceNamespacedNetworkPolicy({ namespace, name, body });
      this.#policies.set(key, body);
    }
  }

  async labelPod(who: Who, labels: Record<string, string | null>): Promise<void> {
    await this.client.patch(pods, who.pod, who.ns, { metadata: { labels } });
    change(this.#pods.get(keyOf(who))!.labels, labels);
  }

  async labelNamespace(ns: string, labels: Record<string, string | null>): Promise<void> {
    await this.client.patch(namespaces, ns, undefined, { metadata: { labels } });
    change(this.#namespaces.get(ns)!, labels);
  }

  async removeNamespace(ns: string): Promise<void> {
    for (const { ns: its, pod } of [...this.#pods.values()])
      if (its === ns) await this.removePod({ ns, pod });
    await this.core.deleteNamespace({ name: ns });
    this.#namespaces.delete(ns);
  }

  /** Until it may be made again. */
  async namespaceGone(ns: string): Promise<void> {
    await eventually(`${ns} is gone`, () =>
      this.core.readNamespace({ name: ns }).then(
        () => false,
        () => true,
      ),
    );
  }

  get objects(): Objects {
    return {
      policies: [...this.#policies.values()],
      cluster: this.cluster,
      namespaces: this.#namespaces,
    };
  }

  /**
   * Pairs for which the packets do otherwise than `allow` says, or the objects where it says nothing, as text. A pod to
   * itself is not asked.
   */
  async differences(
    protocols: Protocol | readonly Protocol[],
    ports: readonly number[],
    allow: Allow = () => undefined,
  ): Promise<string[]> {
    const asks = this.#asks([protocols].flat(), ports);
    this.probes += asks.length;
    const came = await probe(asks);
    return asks.flatMap((ask, at) =>
      this.#should(ask, allow) === came[at] ? [] : [`${textOf(ask)}: ${came[at] ? 'came' : 'did not come'}`],
    );
  }

  #asks(protocols: readonly Protocol[], ports: readonly number[]): PairAsk[] {
    const all = this.places;
    const asks: PairAsk[] = [];
    for (const from of all)
      for (const to of all) {
        if (to === from) continue;
        for (const ip of to.ips) {
          const address = this.via ? this.via(to.key, familyOfIp(ip)) : ip;
          if (address === undefined) continue;
          for (const protocol of protocols)
            for (const port of ports) asks.push({ from, to, address, protocol, port });
        }
      }
    return asks;
  }

  #should({ from, to, address, protocol, port }: PairAsk, allow: Allow): boolean {
    const [sender, receiver] = [this.#pods.get(from.key)!, this.#pods.get(to.key)!];
    const family = familyOfIp(address);
    const said = allow(sender, receiver, port, { protocol, family });
    const ipIn = (place: Place) => place.ips.find((ip) => familyOfIp(ip) === family)!;
    const question = { from: sender, to: receiver, src: ipIn(from), dst: ipIn(to), protocol, port };
    return said ?? (isServed(receiver, protocol, port) && reaches(this.objects, question));
  }

  /** Waits until the packets do as `allow` says. */
  async expect(
    what: string,
    protocols: Protocol | readonly Protocol[],
    ports: readonly number[],
    allow?: Allow,
  ): Promise<void> {
    let last: string[] = [];
    const end = performance.now() + (this.#o.convergesMs ?? CONVERGES_MS);
    do {
      last = await this.differences(protocols, ports, allow);
      if (last.length === 0) return;
    } while (performance.now() < end);
    throw new Error(`${what}: ${last.length} pairs do otherwise:\n${last.slice(0, 8).join('\n')}`);
  }

  /**
   * While something else happens: nothing comes that may not, and all comes that may. What has not come is asked once
   * more, since on a busy machine it may only be late.
   */
  async expectSteady(what: string, allow?: Allow): Promise<void> {
    const first = await this.differences(PROTOCOLS, PORTS, allow);
    const again = first.length === 0 ? [] : await this.differences(PROTOCOLS, PORTS, allow);
    const wrong = [...first, ...again].filter(
      (line) => line.endsWith(': came') || (first.includes(line) && again.includes(line)),
    );
    if (wrong.length > 0) throw new Error(`${what}: ${[...new Set(wrong)].slice(0, 8).join('\n')}`);
  }

  /** Each pod reaches itself by its own address, whatever is in force. */
  async expectOwn(what: string): Promise<void> {
    const asks = this.places.flatMap((place) =>
      place.ips.flatMap((address) =>
        PROTOCOLS.map((protocol) => ({ from: place, to: place, address, protocol, port: PORTS[0] })),
      ),
    );
    const came = await probe(asks);
    const lost = asks.filter((_, at) => !came[at]).map(textOf);
    if (lost.length > 0) throw new Error(`${what}: ${lost.join('\n')}`);
  }

  close(): void {
    this.client?.close();
    for (const place of this.#places.values()) place.close();
    this.#places.clear();
  }
}

const isServed = ({ ports }: OraclePod, protocol: Protocol, port: number): boolean =>
  ports.some((one) => one.protocol === protocol && one.containerPort === port);

const textOf = ({ from, to, address, protocol, port }: Ask): string =>
  `${from.key} > ${to.key} (${formatIp(address)}) ${protocol} ${port}`;

function change(all: Labels, labels: Record<string, string | null>): void {
  for (const [key, value] of Object.entries(labels))
    if (value === null) delete all[key];
    else all[key] = value;
}
