// The cluster of a lab as a real Kubernetes: a control plane on an instance of its own, a RealNode per running instance
// with an agent. `leave` and `settle` follow the VPC's state as the embedded cluster's do. Entry: openKubernetes.
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { writeFileAtomic } from '../../base/files.ts';
import { KubeClient } from '../../kube/client.ts';
import { readKubeConfig } from '../../kube/config.ts';
import { NOT_READY_TAINT } from '../../kube/podway-node.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { BUILT_IN_IMAGE } from '../cluster/command.ts';
import { superviseController } from '../cluster/controller.ts';
import { isNode } from '../cluster/nodes/cluster.ts';
import { Servers } from '../cluster/nodes/servers.ts';
import type { Supervisor } from '../cluster/nodes/supervisor.ts';
import { LabError } from '../daemon/errors.ts';
import { readJson, writeJson } from '../daemon/files.ts';
import type { ClusterNode, ClusterSide, LabCluster, PodSandbox } from '../daemon/lab-cluster.ts';
import { type LabPaths, netnsPath } from '../daemon/paths.ts';
import { lifeOf, placesOf } from '../fabric/plan.ts';
import { SERVE_TAG } from '../shape/build.ts';
import type { Settings } from '../shape/settings.ts';
import type { Instance, VpcState } from '../vpc/model.ts';
import { apply, bindingManifests, dnsManifests, podwayManifests } from './addons.ts';
import { writeArchive } from './archive.ts';
import type { Binaries } from './binaries.ts';
import { ControlPlane } from './control-plane.ts';
import { endRealNode } from './end-node.ts';
import { hostDoor } from './host-door.ts';
import {
  bulkFolder,
  CONTROL_PLANE,
  COREDNS_IMAGE,
  controlPlanePaths,
  PAUSE_IMAGE,
  realNodePaths,
  SERVICE_CIDR,
  SERVICE_CIDR6,
} from './layout.ts';
import { RealNode, type RealNodeDeps } from './node.ts';
import { ClusterPki, kubeconfigText } from './pki.ts';
import { chooseRuntime } from './runtime.ts';
import { Sandboxes } from './sandboxes.ts';
import { type RealStore, realStore } from './store.ts';

const API_READY_MS = 120_000;
const LOOK_MS = 200;

export type KubernetesDeps = {
  lab: string;
  paths: LabPaths;
  settings: Settings;
  binaries: Binaries;
  /** Of the host's loopback. */
  port: number;
  programs: { shim: string; podServer: string; pause: string };
  agentCommand: string[];
  controllerCommand: string[];
  region: string;
  ec2Endpoint: string;
  podLimit(instanceType: string): number;
  lives(): ReadonlyMap<string, string>;
  log: Logger;
};

export async function openKubernetes(deps: KubernetesDeps): Promise<ClusterSide> {
  const { paths, log, settings, binaries } = deps;
  const files = controlPlanePaths(paths);
  mkdirSync(files.images, { recursive: true, mode: 0o700 });
  const pki = new ClusterPki(files);
  const runtime = await chooseRuntime(binaries.programs, settings.runtime, bulkFolder(paths));
  log.info({ runtime, kubernetes: binaries.version, source: binaries.source }, 'a real Kubernetes');
  const ca = await pki.authority('ca');
  const door = `https://127.0.0.1:${deps.port}`;
  const superAdmin = await pki.issue('ca', 'super-admin', { user: 'podway-lab', groups: ['system:masters'] });
  writeFileAtomic(files.superAdmin, kubeconfigText(door, ca.cert, 'podway-lab', superAdmin));
  const admin = await pki.issue('ca', 'admin', { user: 'podway-admin', groups: ['podway:cluster-admins'] });
  const client = new KubeClient(await readKubeConfig(files.superAdmin));
  const store = realStore(client, (error) => log.info({ err: error.message }, 'the API is away'));
  const images = [...(await ownImages(deps)), ...binaries.images];
  const cluster = new RealCluster(deps, { pki, runtime, images, store });
  return {
    cluster,
    store,
    hostServer: () => hostDoor(() => cluster.apiServer()),
    kubeconfig: (server) => kubeconfigText(server, ca.cert, 'podway-admin', admin),
    begin: () => cluster.begin(client),
    settled: (say) => cluster.settled(say),
    apply: (name, objects) => cluster.apply(name, objects),
    putObjects: async (objects) => {
      if (objects.length === 0) return;
      await cluster.settled(() => {});
      await cluster.apply('objects', objects);
    },
    detach: () => cluster.detach(),
    async close() {
      store.close();
      client.close();
    },
  };
}

/** Archives of the lab's own programs, for its nodes' containerd. */
async function ownImages({ paths, programs, binaries }: KubernetesDeps): Promise<string[]> {
  const { images } = controlPlanePaths(paths);
  const made: [string, string, string | undefined][] = [
    ['pause', PAUSE_IMAGE, programs.pause],
    ['pod-server', BUILT_IN_IMAGE, programs.podServer],
    ['coredns', COREDNS_IMAGE, binaries.programs.coredns],
  ];
  const files: string[] = [];
  for (const [name, image, program] of made) {
    const known = binaries.images.some((file) => file.endsWith(`/${name}.tar`));
    if (program === undefined || known) continue;
    const file = join(images, `${name}.tar`);
    const { size, mtimeMs } = statSync(program);
    const stamp = `${program} ${size} ${mtimeMs}`;
    if (!existsSync(file) || readJson<string>(`${file}.json`) !== stamp) {
      const scratch = join(images, 'scratch');
      const rootfs = join(scratch, 'rootfs');
      mkdirSync(rootfs, { recursive: true });
      copyFileSync(program, join(rootfs, name));
      await writeArchive(file, rootfs, { names: [image], config: { Entrypoint: [`/${name}`] }, scratch });
      rmSync(scratch, { recursive: true, force: true });
      writeJson(`${file}.json`, stamp);
    }
    files.push(file);
  }
  return files;
}

type Parts = Pick<RealNodeDeps, 'pki' | 'runtime' | 'images'> & { store: RealStore };

class RealCluster implements LabCluster {
  readonly #deps: KubernetesDeps;
  readonly #parts: Parts;
  readonly #nodes = new Map<string, RealNode>();
  readonly #servers: Servers;
  readonly #sandboxes: Sandboxes;
  #control: { plane: ControlPlane; life: string } | undefined;
  #left = '';
  #detached = new AbortController();
  #settled: Promise<void> | undefined;
  #controller: Supervisor | undefined;
  #began = () => {};
  readonly #begun = new Promise<KubeClient>((resolve) => {
    this.#began = resolve as () => void;
  });

  constructor(deps: KubernetesDeps, parts: Parts) {
    this.#deps = deps;
    this.#parts = parts;
    this.#servers = new Servers(deps.paths, deps.programs.podServer);
    this.#sandboxes = new Sandboxes(deps.paths, (node) => this.#nodes.get(node)?.holder);
  }

  /** Where the API server listens, for those outside the VPC. */
  apiServer(): { netnsPath: string; address: string } | undefined {
    if (!this.#control) return undefined;
    return {
      netnsPath: netnsPath(this.#deps.paths.netns(CONTROL_PLANE)),
      address: this.#control.plane.address,
    };
  }

  node(name: string): ClusterNode | undefined {
    const real = this.#nodes.get(name);
    return real && this.#view(real);
  }

  nodes(): ClusterNode[] {
    return [...this.#nodes.values()].map((real) => this.#view(real));
  }

  #view(real: RealNode): ClusterNode {
    const object = this.#parts.store.nodes().find((each) => each.metadata.name === real.name);
    const failure = real.failure ?? notReady(object, this.#deps.settings.agent);
    return { name: real.name, paths: real.paths, ready: failure === undefined, failure };
  }

  sandboxOf(pod: Pod): PodSandbox | undefined {
    return this.#sandboxes.of(pod);
  }

  /** In the form of the CRI: a time, the stream and F or P before each line. */
  logFile({ metadata: { namespace, name, uid }, spec, status }: Pod): string {
    const pods = join(realNodePaths(this.#deps.paths, spec.nodeName ?? '').logs, 'pods');
    const [first] = spec.containers;
    const restarts = status?.containerStatuses?.find((each) => each.name === first?.name)?.restartCount ?? 0;
    return join(pods, `${namespace}_${name}_${uid}`, first?.name ?? '', `${restarts}.log`);
  }

  /** Kubelet takes a pod from the API when its sandbox is gone. */
  hasSandbox(): boolean {
    return false;
  }

  begin(client: KubeClient): void {
    this.#servers.serve('internet', '');
    (this.#began as (value: KubeClient) => void)(client);
  }

  async leave(newest: VpcState): Promise<void> {
    const instances = living(newest);
    const told = instances
      .map(({ name, instance }) => `${name} ${instance.state} ${lifeOf(instance)}`)
      .join();
    if (told === this.#left) return;
    const lives = new Map(
      instances
        .filter(({ instance }) => isOn(instance))
        .map(({ name, instance }) => [name, lifeOf(instance)]),
    );
    const { paths } = this.#deps;
    if (this.#control && lives.get(CONTROL_PLANE) !== this.#control.life) {
      await this.#controller?.stop();
      this.#controller = undefined;
      await this.#control.plane.stop();
      this.#control = undefined;
    }
    const present = new Set(instances.map(({ name }) => name));
    const going = [...this.#nodes.values()].filter((node) => lives.get(node.name) !== node.life);
    await Promise.all(
      going.map(async (node) => {
        this.#nodes.delete(node.name);
        await node.stop();
        if (present.has(node.name)) return;
        await this.#parts.store.removeNode(node.name).catch(() => {});
        for (const dir of [node.paths.root, node.paths.bulk]) rmSync(dir, { recursive: true, force: true });
      }),
    );
    await this.#servers.leave(lives);
    // A daemon that was killed in between has left some of it.
    const done = new Set(going.map((node) => node.name));
    for (const [place, life] of this.#deps.lives())
      if (life !== '' && lives.get(place) !== life && !done.has(place)) await endRealNode(paths, place);
    this.#left = told;
  }

  async settle(newest: VpcState): Promise<void> {
    if (this.#detached.signal.aborted) return;
    for (const { name, instance } of living(newest)) {
      if (instance.state !== 'running') continue;
      const address = primaryAddress(newest, instance);
      if (name === CONTROL_PLANE && !this.#control) await this.#startControlPlane(instance, address);
      const serves = instance.tags[SERVE_TAG];
      if (serves) this.#servers.serve(name, lifeOf(instance), serves);
    }
    // Nodes name the API server's address in what they write.
    if (!this.#control) return;
    for (const { name, instance } of living(newest)) {
      if (instance.state !== 'running' || !isNode(instance) || this.#nodes.has(name)) continue;
      const node = new RealNode(
        {
          ...this.#deps,
          ...this.#parts,
          shim: this.#deps.programs.shim,
          apiAddress: () => this.#control?.plane.address,
          installed: () => this.#settled ?? Promise.resolve(),
        },
        {
          node: name,
          zone: instance.zone,
          region: newest.region,
          instanceId: instance.id,
          instanceType: instance.instanceType,
          address: primaryAddress(newest, instance),
          ...(this.#deps.settings.families === 'dual' ? addressOf6(newest, instance) : {}),
          maxPods: this.#deps.podLimit(instance.instanceType),
          hasController: this.#deps.settings.controller === 'process',
          life: lifeOf(instance),
        },
      );
      this.#nodes.set(name, node);
      node.start();
    }
  }

  async #startControlPlane(instance: Instance, address: string): Promise<void> {
    const { paths, binaries, log, settings } = this.#deps;
    const serviceCidrs = [SERVICE_CIDR, ...(settings.families === 'dual' ? [SERVICE_CIDR6] : [])];
    const plane = new ControlPlane({ paths, pki: this.#parts.pki, binaries, address, serviceCidrs });
    this.#control = { plane, life: lifeOf(instance) };
    await plane.start();
    const settling = this.#install(plane);
    settling.catch((error: unknown) => {
      if (!this.#detached.signal.aborted) log.error({ err: error }, 'the cluster is not set up');
    });
    this.#settled = settling;
  }

  async settled(say: (text: string) => void): Promise<void> {
    say('waiting for the API server');
    const end = performance.now() + API_READY_MS;
    while (!this.#settled && performance.now() < end) await sleep(LOOK_MS);
    await this.#settled;
  }

  async #install(plane: ControlPlane): Promise<void> {
    const client = await this.#begun;
    const end = performance.now() + API_READY_MS;
    const { signal } = this.#detached;
    for (;;) {
      const answer = await client.getPath<string>('/readyz').catch((error: Error) => error.message);
      if (answer === 'ok') break;
      if (performance.now() > end) {
        const missing = plane.missing().join(', ');
        throw new LabError(
          'KUBERNETES_API',
          `the API server is not ready after ${API_READY_MS / 1000} s: ${missing ? `${missing} ended` : answer}`,
          `podway lab logs ${CONTROL_PLANE} --lab ${this.#deps.lab}`,
        );
      }
      await sleep(LOOK_MS, undefined, { signal });
    }
    const hasDns = this.#parts.images.some((file) => file.endsWith('/coredns.tar'));
    await this.apply('base', [
      ...bindingManifests(),
      ...podwayManifests(this.#deps.settings),
      ...(hasDns ? dnsManifests() : []),
    ]);
    if (this.#deps.settings.controller === 'process') this.#startController();
    // The controller manager makes it; without it the API refuses pods.
    const account = '/api/v1/namespaces/default/serviceaccounts/default';
    while (!(await client.getPath(account).catch(() => null)) && performance.now() < end)
      await sleep(LOOK_MS, undefined, { signal });
  }

  /** By the API's address in the VPC, with the rights of the chart's account, and in EC2 more than the nodes' role has. */
  #startController(): void {
    const { paths, controllerCommand: command, region, ec2Endpoint, settings } = this.#deps;
    if (this.#detached.signal.aborted || !this.#control) return;
    const keys = readJson<{ accessKeyId: string; secretAccessKey: string }>(paths.keys);
    this.#controller = superviseController({
      dir: paths.controller,
      netns: paths.netns(CONTROL_PLANE),
      command,
      kubeconfig: readFileSync(controlPlanePaths(paths).kubeconfig('podway-controller'), 'utf8'),
      region,
      ec2Endpoint,
      address: this.#control.plane.address,
      env: {
        ...settings.env,
        AWS_ACCESS_KEY_ID: keys?.accessKeyId ?? '',
        AWS_SECRET_ACCESS_KEY: keys?.secretAccessKey ?? '',
      },
    });
  }

  async apply(name: string, objects: Parameters<typeof apply>[0]): Promise<void> {
    const files = controlPlanePaths(this.#deps.paths);
    await apply(objects, {
      kubectl: this.#deps.binaries.programs.kubectl,
      kubeconfig: files.superAdmin,
      file: join(files.root, `${name}.json`),
    });
  }

  detach(): void {
    this.#detached.abort();
    this.#control?.plane.detach();
    this.#controller?.detach();
    for (const node of this.#nodes.values()) node.detach();
    this.#servers.detach();
  }
}

/** Kubernetes and our controller take them away a moment after the node has said that it is Ready: until then no pod comes. */
const UNREADY_TAINTS: readonly string[] = ['node.kubernetes.io/not-ready', NOT_READY_TAINT];

/** Without an agent of the lab's a node has no network until somebody installs one: it is there when it has joined. */
function notReady(object: Node | undefined, agent: Settings['agent']) {
  if (!object)
    return { cause: 'NODE_NOT_REGISTERED', text: 'its kubelet has not joined the cluster', transient: true };
  const ready = object.status?.conditions?.find((each) => each.type === 'Ready');
  const taint = object.spec?.taints?.find(({ key }) => UNREADY_TAINTS.includes(key));
  if ((ready?.status === 'True' && !taint) || agent === 'none') return undefined;
  return {
    cause: 'NODE_NOT_READY',
    text:
      (ready?.status === 'True' ? `it has the taint ${taint?.key} still` : ready?.message) ??
      'kubelet has not told its state',
    transient: true,
  };
}

const isOn = ({ state }: Instance): boolean => state === 'running' || state === 'pending';

function living(state: VpcState): { name: string; instance: Instance }[] {
  const places = placesOf(state);
  return Object.values(state.instances)
    .filter(({ state: now }) => now !== 'terminated' && now !== 'shutting-down')
    .map((instance) => ({ instance, name: places.get(instance.id) ?? instance.id }));
}

const primaryOf = (state: VpcState, instance: Instance) =>
  Object.values(state.networkInterfaces).find(
    ({ attachment }) => attachment?.instanceId === instance.id && attachment.deviceIndex === 0,
  );
const primaryAddress = (state: VpcState, instance: Instance): string =>
  primaryOf(state, instance)?.privateIps[0] ?? '';
const addressOf6 = (state: VpcState, instance: Instance): { address6?: string } => {
  const [address6] = primaryOf(state, instance)?.ipv6Addresses ?? [];
  return address6 === undefined ? {} : { address6 };
};
