// Failures of what a command asks or loads, as causes that `podway explain` knows. Others stay what they are.
import type { KubeError } from '../kube/index.ts';
import { LabError } from '../lab/daemon/errors.ts';

/** What the Kubernetes API answered, or a dump in its place. */
function explainedApi(error: KubeError): LabError {
  if (error.cause instanceof LabError) return error.cause;
  const isShut = [0, 401, 403].includes(error.code);
  const [code, next] = isShut
    ? ['NO_CLUSTER', 'kubectl get nodes, with the same kubeconfig, tells whether it can be asked']
    : ['API_REFUSED', 'the Kubernetes API says why'];
  return new LabError(code, error.message, next, { cause: error });
}

/** The image leaves out the lab and what only planning needs (tools/image/tree.ts): a command of theirs fails to load. */
export function explained(error: unknown): unknown {
  // By its name: a command that asks no cluster loads no client.
  if (error instanceof Error && error.name === 'KubeError') return explainedApi(error as KubeError);
  const { code, message } = error as { code?: unknown; message?: string };
  if (code !== 'ERR_MODULE_NOT_FOUND' || !/\/dist\/src\/(lab|planner)\//.test(message ?? '')) return error;
  return new LabError(
    'NOT_IN_IMAGE',
    'the image has what a cluster needs, and this command is not among it',
    'run it on a Linux machine with the npm package or a checkout',
  );
}
