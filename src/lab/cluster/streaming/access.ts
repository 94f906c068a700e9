// What streams and webhooks ask of the lab's nodes. Implemented over the node runners (nodes/pod-access.ts); tests have their own.
import type { Socket } from 'node:net';
import type { Pod } from '../../../kube/types.ts';

export type RunningPod = {
  /** Path of its network namespace. */
  netns: string;
  /** Environment of its container. */
  env: NodeJS.ProcessEnv;
};

export type PodAccess = {
  /** Undefined while no process of the pod runs. */
  running(pod: Pod): RunningPod | undefined;
  /** Where its output is kept; the file may not exist yet. */
  logFile(pod: Pod): string;
  /** A connection into the VPC, from the namespace of a node: the named one, or any. Throws when there is none. */
  dial(endpoint: { address: string; port: number; node: string | undefined; ofApi?: true }): Socket;
  /** Path of the program that gives a command a terminal. */
  ttyProgram(): Promise<string>;
};

/** A refusal that the client is told: an HTTP status and, as far as it began, the end of the stream. */
export class StreamRefusal extends Error {
  override name = 'StreamRefusal';
  readonly code: 400 | 404 | 500;
  constructor(code: 400 | 404 | 500, message: string) {
    super(message);
    this.code = code;
  }
}

/** The pod has one container; a name that is not its own is refused. */
export function checkContainer(pod: Pod, query: URLSearchParams): string {
  const own = pod.spec.containers[0]?.name ?? '';
  const asked = query.get('container') || own;
  if (asked !== own)
    throw new StreamRefusal(400, `container ${asked} is not valid for pod ${pod.metadata.name}`);
  return own;
}

export function runningOf(access: PodAccess, pod: Pod, query: URLSearchParams): RunningPod {
  const container = checkContainer(pod, query);
  const running = access.running(pod);
  if (running === undefined) throw new StreamRefusal(404, `container not found ("${container}")`);
  return running;
}
