// The runner's interface to a node's CNI chain, and the mapping of its failures to a pod's cause. Implemented by
// daemon/pod-network.ts with the runtime side of src/cni.
import type { Pod } from '../../../kube/types.ts';
import type { PodFailure } from './pod-status.ts';

export type PodAttachment = { containerId: string; netnsPath: string; pod: Pod };

export type PodNetwork = {
  /**
   * Runs ADD over the chain; the pod's addresses, primary family first, and a sentence for each thing that the pod asks for
   * and no plugin of the chain does. Throws NetworkFailure.
   */
  add(attachment: PodAttachment, signal?: AbortSignal): Promise<{ ips: string[]; without: string[] }>;
  /** Runs DEL over the chain; needs neither the namespace nor the pod's object. */
  del(attachment: {
    containerId: string;
    netnsPath: string;
    namespace: string;
    name: string;
    uid: string;
  }): Promise<void>;
  /** Undefined when ADD would be served. */
  status(): Promise<PodFailure | undefined>;
};

export class NetworkFailure extends Error {
  override name = 'NetworkFailure';
  readonly failure: PodFailure;
  constructor(failure: PodFailure, options?: ErrorOptions) {
    super(failure.text, options);
    this.failure = failure;
  }
}

export function failureOf(error: unknown): PodFailure {
  if (error instanceof NetworkFailure) return error.failure;
  const text = error instanceof Error ? error.message : String(error);
  return { cause: 'INTERNAL', text, transient: true };
}
