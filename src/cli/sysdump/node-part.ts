// One node's part of a dump: its agent's introspection over the socket, what `doctor --local` finds, and the kernel of the
// network namespace that this runs in. Run on the node (`podway sysdump --local`) by whoever makes a dump. A question that
// fails is in the part as its error; a silent agent is asked once.
import type { NodeView } from '../../agent/routes.ts';
import { errorBody, LabError } from '../../lab/daemon/errors.ts';
import type { IpamNode } from '../../lab/daemon/protocol.ts';
import { askLocal, askLocalText } from '../cluster/local.ts';
import { AGENT_PATHS, BY_POD } from './dump.ts';

/** Values by file name below `nodes/NODE/`; `.txt` are strings. */
export type NodePart = {
  node: string | null;
  error?: ReturnType<typeof errorBody>;
  files: Record<string, unknown>;
};

/** Pods that are explained one by one: more than any instance type has addresses for. */
const MOST_PODS = 800;
/** Bytes of what a part has of metrics: `pods/exec` takes 16 MiB in all. */
const MAX_METRICS = 1 << 20;

/** `more`: pods without an address that are explained too. */
export async function nodePart(more: readonly string[] = []): Promise<NodePart> {
  const files: Record<string, unknown> = {};
  const put = async (name: string, ask: () => Promise<unknown>) => {
    files[name] = await ask().catch((error: unknown) => ({ error: errorBody(error) }));
  };
  const { kernelPart } = await import('./kernel-part.ts');
  Object.assign(files, await kernelPart());
  let view: NodeView;
  try {
    view = await askLocal<NodeView>('/v1/node');
  } catch (error) {
    return { node: null, error: errorBody(error), files };
  }
  for (const [path, file] of Object.entries(AGENT_PATHS)) await put(file, () => askLocal(path));
  await put('doctor.json', async () => (await import('../doctor/node.ts')).nodeRows(view));
  files['metrics.txt'] = await askLocalText('/metrics').then(
    (text) => text.slice(0, MAX_METRICS),
    (error: Error) => `${error.message}\n`,
  );
  const pods = [...new Set([...podsOf(files['ipam.json'] as IpamNode), ...more])];
  for (const [path, file] of Object.entries(BY_POD)) await put(file, () => askEach(path, pods));
  return { node: view.node, files };
}

/** `namespace/name` of those that hold an address. */
function podsOf({ enis = [] }: Partial<IpamNode>): string[] {
  const pods = enis.flatMap((eni) => eni.addresses.flatMap(({ pod }) => pod ?? []));
  return [...new Set(pods)].slice(0, MOST_PODS);
}

async function askEach(path: string, pods: readonly string[]): Promise<Record<string, unknown>> {
  const answers: Record<string, unknown> = {};
  for (const pod of pods) {
    answers[pod] = await askLocal(`${path}?pod=${encodeURIComponent(pod)}`).catch((error: unknown) => {
      if (error instanceof LabError && error.code === 'AGENT_UNREACHABLE') throw error;
      return { error: errorBody(error) };
    });
  }
  return answers;
}
