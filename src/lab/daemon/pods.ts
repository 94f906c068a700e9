// `pod run` and `pod delete`: objects of the API made and removed, and the wait for what the node runner makes of them.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cause, causes } from '../../base/causes.ts';
import type { Node, Pod } from '../../kube/types.ts';
import { ApiError } from '../cluster/api/index.ts';
import { BUILT_IN_IMAGE, COMMAND_IMAGE } from '../cluster/command.ts';
import { labCauses } from './causes.ts';
import { LabError } from './errors.ts';
import { waitingCause } from './ipam.ts';
import type { OpenLab } from './lab.ts';
import type { PodMessage, RunPodRequest } from './protocol.ts';
import { podMessage } from './view.ts';
import { until } from './wait.ts';

const DEMO_PODS = 4;
const REAL_DEMO_PODS = 20;
const DEMO_TIMEOUT_MS = 60_000;
const REAL_DEMO_TIMEOUT_MS = 180_000;

type PodRequest = Pick<RunPodRequest, 'name' | 'namespace' | 'labels' | 'command' | 'node'>;

/** `real`: for a real runtime, which has the server as an image that the lab imports, and pulls nothing. */
export function podObject(request: PodRequest, real = false): Pod {
  const command = request.command.length > 0;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: request.name, namespace: request.namespace, labels: request.labels },
    spec: {
      ...(request.node === undefined ? {} : { nodeName: request.node }),
      // A command that ends is done; the server is to be there always.
      restartPolicy: command ? 'Never' : 'Always',
      containers: [
        {
          name: 'main',
          image: command ? COMMAND_IMAGE : BUILT_IN_IMAGE,
          ...(command ? { command: request.command } : { ports: [{ containerPort: 8080 }] }),
          ...(real ? { imagePullPolicy: 'Never', args: ['--name', request.name] } : {}),
        },
      ],
    },
  };
}

export async function runPod(
  lab: OpenLab,
  request: RunPodRequest,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<{ namespace: string; name: string }> {
  const { namespace, name, node } = request;
  if (node !== undefined && !lab.store.nodes().some((each) => each.metadata.name === node)) {
    throw new LabError('NO_SUCH_NODE', `there is no node ${node}`, 'podway node list');
  }
  const real = lab.record.shape.kubernetes !== undefined;
  if (real && request.command.length > 0)
    throw new LabError(
      'IMAGE_NEEDED',
      `pod ${name} has a command, and a real Kubernetes runs commands of images alone`,
      'kubectl run NAME --image IMAGE -- CMD, with an image that the nodes have; or podway lab exec NODE -- CMD',
    );
  let created: Pod;
  try {
    created = await lab.store.createPod(podObject(request, real));
  } catch (error) {
    throw refusal(error, namespace, name);
  }
  if (!request.wait) return { namespace, name };
  await waitForPod(lab, created, request.timeoutMs, signal, say);
  return { namespace, name };
}

/** The node that a pod is bound to. */
export const nodeOf = (lab: OpenLab, pod: Pod): Node | undefined =>
  lab.store.nodes().find((node) => node.metadata.name === pod.spec.nodeName);

function refusal(error: unknown, namespace: string, name: string): unknown {
  if (!(error instanceof ApiError)) return error;
  if (error.reason === 'AlreadyExists')
    return new LabError(
      'POD_EXISTS',
      `pod ${name} exists in namespace ${namespace}`,
      `podway pod delete ${name}, or take another name`,
    );
  if (error.code === 404)
    return new LabError(
      'NO_SUCH_NAMESPACE',
      `there is no namespace ${namespace}`,
      `kubectl create namespace ${namespace}`,
    );
  return new LabError('POD_REFUSED', error.message, 'change what the message names');
}

/** Resolves when the pod runs or has succeeded. Throws LabError with its cause: known and lasting, or time over. */
async function waitForPod(
  lab: OpenLab,
  created: Pod,
  timeoutMs: number,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<void> {
  const { namespace = 'default', name = '' } = created.metadata;
  const uid = created.metadata.uid;
  let before = '';
  // A real API's answer may come before its watch tells of the pod.
  let seen = false;
  const look = (): 'running' | LabError | undefined => {
    const pod = lab.store.pod(namespace, name);
    if (pod?.metadata.uid !== uid || !pod) {
      if (!seen) return undefined;
      return new LabError('POD_GONE', `pod ${name} was deleted while it was waited for`, 'podway pod list');
    }
    seen = true;
    const phase = pod.status?.phase;
    if (phase === 'Running' || phase === 'Succeeded') return 'running';
    const message = podMessage(pod);
    if (phase === 'Failed')
      return new LabError(
        message?.code ?? 'POD_FAILED',
        `pod ${name} failed: ${message?.text ?? ''}`,
        `podway pod logs ${name}`,
      );
    const shown = message ?? podMessage(pod, nodeOf(lab, pod));
    const text = shown ? `${shown.code}: ${shown.text}` : 'waiting';
    if (text !== before) say(text);
    before = text;
    return message && isLasting(message.code) ? failure(lab, name, message, pod.spec.nodeName) : undefined;
  };
  const found = await until(lab.store, look, timeoutMs, signal);
  if (found === 'running') return;
  if (found) throw found;
  const pod = lab.store.pod(namespace, name);
  const message = pod ? (podMessage(pod, nodeOf(lab, pod)) ?? (await waitingCause(lab, pod))) : undefined;
  if (message) throw failure(lab, name, message, pod?.spec.nodeName);
  throw new LabError(
    'TIMEOUT',
    `pod ${name} is not Running after ${timeoutMs / 1000} s`,
    `podway pod list; it stays Pending and is tried again`,
  );
}

function failure(lab: OpenLab, name: string, { code, text }: PodMessage, node = 'NODE'): LabError {
  const known = Object.hasOwn(causes, code) ? causes[code as Cause] : labCauses[code];
  const next = known?.next ?? `podway lab logs ${node} --lab ${lab.record.name}`;
  return new LabError(code, `pod ${name}: ${text}`, next);
}

/** UNSCHEDULABLE lasts until nodes or pods change, which the scheduler sees; a foreign plugin's 11 was made transient. */
const isLasting = (code: string): boolean =>
  Object.hasOwn(causes, code)
    ? !causes[code as Cause].transient && code !== 'INTERNAL' && code !== 'IO_FAILURE'
    : false;

type DeleteRequest = { namespace: string; names: string[]; timeoutMs: number };

/** Returns when the pods are gone from the API, which the node runner does last: after DEL. */
export async function deletePods(
  lab: OpenLab,
  { namespace, names, timeoutMs }: DeleteRequest,
  signal: AbortSignal,
): Promise<{ deleted: string[] }> {
  const present = names.flatMap((name) => lab.store.pod(namespace, name) ?? []);
  await Promise.all(present.map((pod) => lab.store.deletePod(namespace, pod.metadata.name!)));
  const inApi = () =>
    present.filter((pod) => lab.store.pod(namespace, pod.metadata.name!)?.metadata.uid === pod.metadata.uid);
  const left = () => [...inApi(), ...present.filter((pod) => lab.cluster.hasSandbox(pod.metadata.uid!))];
  const end = performance.now() + timeoutMs;
  await until(lab.store, () => (inApi().length === 0 ? true : undefined), timeoutMs, signal);
  // A pod that had ended, or was forced away, leaves the API before its sandbox is gone: no event tells of that end.
  while (left().length > 0 && performance.now() < end && !signal.aborted) await sleep(5);
  const stuck = left()[0];
  if (stuck) {
    throw new LabError(
      'TIMEOUT',
      `pod ${stuck.metadata.name} is not gone after ${timeoutMs / 1000} s`,
      `podway lab logs ${stuck.spec.nodeName ?? 'NODE'}; its deletion goes on`,
    );
  }
  return { deleted: present.map((pod) => pod.metadata.name!) };
}

/** A Deployment of the built-in server over the nodes of a real Kubernetes; returns when its pods run. */
async function runDemoDeployment(lab: OpenLab, say: (text: string) => void): Promise<void> {
  const labels = { app: 'demo' };
  const spread = {
    maxSkew: 1,
    topologyKey: 'kubernetes.io/hostname',
    whenUnsatisfiable: 'ScheduleAnyway',
    labelSelector: { matchLabels: labels },
  };
  const container = {
    name: 'main',
    image: BUILT_IN_IMAGE,
    imagePullPolicy: 'Never',
    args: ['--name', '$(POD_NAME)'],
    env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
    ports: [{ containerPort: 8080 }],
  };
  await lab.apply('demo', [
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'demo', namespace: 'default' },
      spec: {
        replicas: REAL_DEMO_PODS,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            terminationGracePeriodSeconds: 1,
            topologySpreadConstraints: [spread],
            containers: [container],
          },
        },
      },
    },
  ]);
  const running = () =>
    lab.store
      .pods()
      .filter(
        ({ metadata, status }) =>
          metadata.labels?.['app'] === 'demo' && !metadata.deletionTimestamp && status?.phase === 'Running',
      ).length;
  let before = -1;
  const look = () => {
    const count = running();
    if (count !== before) say(`${count} of ${REAL_DEMO_PODS} demo pods run`);
    before = count;
    return count >= REAL_DEMO_PODS ? true : undefined;
  };
  if (await until(lab.store, look, REAL_DEMO_TIMEOUT_MS)) return;
  const late = lab.store
    .pods()
    .find(({ metadata, status }) => metadata.labels?.['app'] === 'demo' && status?.phase !== 'Running');
  const message = late && podMessage(late, nodeOf(lab, late));
  throw new LabError(
    message?.code ?? 'TIMEOUT',
    `${before} of ${REAL_DEMO_PODS} demo pods run after ${REAL_DEMO_TIMEOUT_MS / 1000} s: ${late?.metadata.name}: ${message?.text ?? late?.status?.phase}`,
    'kubectl get pods -o wide; kubectl get events',
  );
}

/** Makes the demo's pods that are missing, replaces ended ones, and waits until all run. */
export async function runDemoPods(lab: OpenLab, say: (text: string) => void): Promise<void> {
  if (lab.record.shape.kubernetes) return runDemoDeployment(lab, say);
  const signal = new AbortController().signal;
  say('starting the demo pods');
  await Promise.all(
    Array.from({ length: DEMO_PODS }, async (_, index) => {
      const name = `demo-${index + 1}`;
      const known = lab.store.pod('default', name);
      const ended = known?.status?.phase === 'Failed' || known?.status?.phase === 'Succeeded';
      if (ended)
        await deletePods(lab, { namespace: 'default', names: [name], timeoutMs: DEMO_TIMEOUT_MS }, signal);
      if (!known || ended)
        await lab.store.createPod(
          podObject({ name, namespace: 'default', labels: { app: 'demo' }, command: [] }),
        );
      await waitForPod(lab, lab.store.pod('default', name)!, DEMO_TIMEOUT_MS, signal, () => {});
    }),
  );
}
