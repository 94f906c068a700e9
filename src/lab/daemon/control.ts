// What the control socket serves. One `lab up` at a time; everything that reads needs a lab that is open.

import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { isNode } from '../cluster/nodes/cluster.ts';
import { openSandboxJournal } from '../cluster/nodes/sandbox-journal.ts';
import { CONTROL_PLANE } from '../kubernetes/layout.ts';
import { checkSettingsFor } from '../shape/settings.ts';
import {
  checkCluster,
  defaultShape,
  flagDifferences,
  type Shape,
  shapeDifferences,
  withControlPlane,
  withDemo,
} from '../shape/shape.ts';
import { testConnectivity } from './connectivity.ts';
import { LabError } from './errors.ts';
import { faultRoutes } from './faults.ts';
import type { Call, Emit, Route } from './http.ts';
import { checkIpam, explainIpam, releaseAddress, releaseIdle, showIpam } from './ipam.ts';
import { type OpenLab, openLab } from './lab.ts';
import type { LabPaths } from './paths.ts';
import { deletePods, nodeOf, runDemoPods, runPod } from './pods.ts';
import { freePorts } from './ports.ts';
import type { LabStatus, PodView, RunPodRequest, UpRequest, UpResult } from './protocol.ts';
import { isEarlier, type LabRecord, readRecord, VERSION, writeRecord } from './record.ts';
import { instanceView, living, nodeView, podView, vpcViews } from './view.ts';
import { waitForInstances, waitForNodes } from './wait.ts';

/** Time for the answer that says why a lab does not open to reach the caller. */
const TELL_MS = 300;

const wantedShape = (shape: Shape, { flags }: UpRequest): Shape =>
  flags.kubernetes ? withControlPlane(shape, flags.kubernetes, CONTROL_PLANE) : shape;

export class Control {
  readonly #paths: LabPaths;
  readonly #log: Logger;
  #record: LabRecord | undefined;
  #opening: Promise<OpenLab> | undefined;
  #open: OpenLab | undefined;
  #building: Promise<unknown> = Promise.resolve();
  /** Number of `lab up`s in progress. */
  #builders = 0;
  #state: 'empty' | 'starting' | 'up' = 'empty';
  onExit: () => void = () => {};

  constructor(paths: LabPaths, log: Logger) {
    this.#paths = paths;
    this.#log = log;
  }

  /** Opens a lab that has a record. The next `lab up` gets its failure. */
  resume(): void {
    this.#record = readRecord(this.#paths.record);
    if (this.#record) this.#openNow(this.#record).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#open?.close();
  }

  routes(): Route[] {
    return [
      { method: 'GET', pattern: '/v1/ping', answer: () => this.#ping() },
      { method: 'POST', pattern: '/v1/exit', answer: () => setImmediate(this.onExit) && {} },
      {
        method: 'POST',
        pattern: '/v1/up',
        stream: true,
        answer: (call, emit) => this.#up(call.body as UpRequest, emit),
      },
      { method: 'GET', pattern: '/v1/status', answer: async () => this.#status(await this.#ready()) },
      { method: 'GET', pattern: '/v1/pods', answer: async () => this.#pods(await this.#ready()) },
      {
        method: 'POST',
        pattern: '/v1/pods',
        stream: true,
        answer: async (call, emit) => this.#runPod(call, emit),
      },
      {
        method: 'POST',
        pattern: '/v1/pods/delete',
        stream: true,
        answer: async (call) => deletePods(await this.#ready(), call.body as never, call.signal),
      },
      {
        method: 'GET',
        pattern: '/v1/pods/:namespace/:name',
        answer: async (call) => this.#pod(await this.#ready(), call.path[2]!, call.path[3]!),
      },
      {
        method: 'GET',
        pattern: '/v1/pods/:namespace/:name/log',
        answer: async (call) => this.#podLog(await this.#ready(), call.path[2]!, call.path[3]!),
      },
      {
        method: 'GET',
        pattern: '/v1/ipam',
        answer: async (call) => showIpam(await this.#ready(), call.query.get('node') ?? undefined),
      },
      {
        method: 'POST',
        pattern: '/v1/ipam/release',
        answer: async (call) => {
          const { node, address } = call.body as { node: string; address: string };
          return releaseAddress(await this.#ready(), node, address);
        },
      },
      {
        method: 'POST',
        pattern: '/v1/ipam/release-idle',
        answer: async (call) => {
          const { node, addresses } = call.body as { node: string; addresses: string[] };
          return releaseIdle(await this.#ready(), node, addresses);
        },
      },
      {
        method: 'GET',
        pattern: '/v1/ipam/explain',
        answer: async ({ query }) =>
          explainIpam(await this.#ready(), query.get('subject') ?? '', query.get('namespace') ?? 'default'),
      },
      { method: 'GET', pattern: '/v1/ipam/check', answer: async () => checkIpam(await this.#ready()) },
      {
        method: 'POST',
        pattern: '/v1/connectivity',
        stream: true,
        answer: async (call, emit) => this.#connectivity(call, emit),
      },
      {
        method: 'POST',
        pattern: '/v1/demo',
        stream: true,
        answer: async (call, emit) => this.#demo(call, emit),
      },
      ...faultRoutes(() => this.#ready()),
    ];
  }

  #ping() {
    const pods = this.#open?.store.pods().length ?? 0;
    const nodes = this.#open?.cluster.nodes().length ?? 0;
    return {
      state: this.#told(),
      pid: process.pid,
      ec2Endpoint: this.#record ? `http://127.0.0.1:${this.#record.ports.ec2}` : '',
      nodes,
      pods,
    };
  }

  /** A lab that opened is up when all of its shape has been there once. */
  #told(): string {
    if (this.#state !== 'up' || this.#record?.whole) return this.#state;
    return this.#builders > 0 ? 'building' : 'half-made';
  }

  #openNow(record: LabRecord): Promise<OpenLab> {
    this.#record = record;
    this.#state = 'starting';
    const opening = openLab(this.#paths, record, this.#log);
    this.#opening = opening;
    opening.then(
      (open) => {
        this.#open = open;
        this.#state = 'up';
      },
      (error: unknown) => {
        // A half opened lab ends with this process, which exits after it has answered the caller.
        this.#log.error({ err: error }, 'the lab does not open');
        setTimeout(() => this.onExit(), TELL_MS);
      },
    );
    return opening;
  }

  async #ready(): Promise<OpenLab> {
    if (this.#opening) return this.#opening;
    throw new LabError(
      'LAB_NOT_UP',
      `lab ${this.#paths.lab} is not up`,
      `podway lab up --lab ${this.#paths.lab}`,
    );
  }

  async #up(request: UpRequest, emit: Emit): Promise<UpResult> {
    const before = this.#building;
    const mine = before
      .catch(() => {})
      .then(() => this.#upNow(request, (text) => emit({ kind: 'progress', text })))
      .finally(() => {
        this.#builders -= 1;
      });
    this.#builders += 1;
    this.#building = mine.catch(() => {});
    return mine;
  }

  async #upNow(request: UpRequest, say: (text: string) => void): Promise<UpResult> {
    const began = performance.now();
    const known = this.#record;
    const already = known !== undefined;
    if (!known && isEarlier(this.#paths.record)) {
      throw new LabError(
        'LAB_EARLIER',
        `lab ${this.#paths.lab} was made by an earlier version of podway`,
        `podway lab down --lab ${this.#paths.lab} removes it`,
      );
    }
    if (!known) {
      const wanted = wantedShape(request.shape ?? defaultShape(request.flags), request);
      checkSettingsFor(wanted.kubernetes !== undefined, wanted.settings);
      checkCluster(wanted);
      const [ec2, kube] = (await freePorts(2)) as [number, number];
      const record: LabRecord = {
        version: VERSION,
        name: this.#paths.lab,
        shape: request.demo ? withDemo(wanted) : wanted,
        ports: { ec2, kube },
        createdAt: Date.now(),
      };
      writeRecord(this.#paths.record, record);
      say('opening the VPC and the Kubernetes API');
      await this.#openNow(record);
    } else {
      const differences = request.shape
        ? shapeDifferences(known.shape, wantedShape(request.shape, request))
        : flagDifferences(known.shape, request.flags);
      if (differences.length > 0) {
        throw new LabError(
          'SHAPE_DIFFERS',
          `lab ${known.name} is up in another shape: ${differences.join('; ')}`,
          `podway lab down --lab ${known.name} first, or take another --lab`,
        );
      }
      if (request.demo) known.shape = withDemo(known.shape);
      writeRecord(this.#paths.record, known);
      if (!this.#opening) await this.#openNow(known);
    }
    const lab = await this.#ready();
    say('building the VPC');
    await lab.build(say);
    await waitForInstances(lab, say);
    await lab.settled(say);
    await waitForNodes(lab, say);
    if (!lab.record.whole) {
      lab.record.whole = true;
      writeRecord(this.#paths.record, lab.record);
    }
    if (request.demo && lab.record.shape.demo === undefined) await runDemoPods(lab, say);
    return { already, ms: Math.round(performance.now() - began), status: this.#status(lab) };
  }

  #status(lab: OpenLab): LabStatus {
    const { record, vpc, store } = lab;
    const state = vpc.state();
    const places = living(state);
    const nodes = store.nodes();
    const views = places.map(({ instance, name }) => ({
      instance,
      view: instanceView(state, instance, name, this.#paths),
    }));
    return {
      name: record.name,
      state: this.#told(),
      ec2Endpoint: `http://127.0.0.1:${record.ports.ec2}`,
      kubernetesEndpoint: `https://127.0.0.1:${record.ports.kube}`,
      kubeconfig: this.#paths.kubeconfig,
      region: state.region,
      settings: record.shape.settings as Record<string, string>,
      vpcs: vpcViews(state),
      nodes: views
        .filter(({ instance }) => isNode(instance))
        .map(({ instance, view }) =>
          nodeView(
            view,
            instance.zone,
            this.#paths,
            nodes.find((node) => node.metadata.name === view.name),
          ),
        )
        .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
      instances: views.filter(({ instance }) => !isNode(instance)).map(({ view }) => view),
      pods: this.#pods(lab),
    };
  }

  #pods(lab: OpenLab): PodView[] {
    const nodes = new Map(lab.store.nodes().map((node) => [node.metadata.name, node]));
    return lab.store
      .pods()
      .map((pod) => podView(pod, lab.cluster.sandboxOf(pod), nodes.get(pod.spec.nodeName)));
  }

  #pod(lab: OpenLab, namespace: string, name: string): PodView {
    const pod = this.#find(lab, namespace, name);
    return podView(pod, lab.cluster.sandboxOf(pod), nodeOf(lab, pod));
  }

  #podLog(lab: OpenLab, namespace: string, name: string): { file: string } {
    const pod = this.#find(lab, namespace, name);
    const file =
      lab.cluster.logFile?.(pod) ?? openSandboxJournal(this.#paths.pods).logFile(pod.metadata.uid!);
    if (!existsSync(file))
      throw new LabError(
        'NO_LOG',
        `pod ${name} has written nothing: it has not started`,
        'podway pod list tells why',
      );
    return { file };
  }

  #find(lab: OpenLab, namespace: string, name: string) {
    const pod = lab.store.pod(namespace, name);
    if (!pod)
      throw new LabError(
        'NO_SUCH_POD',
        `there is no pod ${name} in namespace ${namespace}`,
        'podway pod list',
      );
    return pod;
  }

  async #runPod(call: Call, emit: Emit): Promise<PodView> {
    const lab = await this.#ready();
    const { namespace, name } = await runPod(lab, call.body as RunPodRequest, call.signal, (text) =>
      emit({ kind: 'progress', text }),
    );
    return this.#pod(lab, namespace, name);
  }

  async #connectivity(call: Call, emit: Emit) {
    const lab = await this.#ready();
    return testConnectivity(lab, this.#status(lab), this.#paths, call.signal, emit);
  }

  /** What `lab up --demo` proves. */
  async #demo(call: Call, emit: Emit) {
    const lab = await this.#ready();
    if (lab.record.shape.demo === undefined) return this.#connectivity(call, emit);
    const { showSecurityGroups } = await import('./groups-demo.ts');
    return showSecurityGroups(lab, () => this.#pods(lab), call.signal, emit);
  }
}
