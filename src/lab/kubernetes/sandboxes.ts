// Which sandbox a pod of a real node has, from the node's own links: the alias of a pod's link on the node names the
// container, the pod and its namespace. Nobody else in the lab knows it without asking the node's runtime.
import { readAlias } from '../../datapath/alias.ts';
import { openNetns } from '../../kernel/netns.ts';
import { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Pod } from '../../kube/types.ts';
import type { PodSandbox } from '../daemon/lab-cluster.ts';
import { type LabPaths, netnsPath } from '../daemon/paths.ts';

/** A list of pods asks for each of them: one look at a node's links answers all. */
const KEPT_MS = 100;

type Found = { containerId: string; netns: string };

export class Sandboxes {
  readonly #paths: LabPaths;
  readonly #holderOf: (node: string) => number | undefined;
  readonly #looks = new Map<string, { at: number; found: Map<string, Found> }>();

  constructor(paths: LabPaths, holderOf: (node: string) => number | undefined) {
    this.#paths = paths;
    this.#holderOf = holderOf;
  }

  of(pod: Pod): PodSandbox | undefined {
    const node = pod.spec.nodeName;
    const holder = node === undefined ? undefined : this.#holderOf(node);
    if (node === undefined || holder === undefined) return undefined;
    const own = { node, ips: (pod.status?.podIPs ?? []).map(({ ip }) => ip), state: 'made' } as const;
    if (pod.spec.hostNetwork) {
      const netns = this.#paths.netns(node);
      return { ...own, containerId: '', hostNetwork: true, netns };
    }
    const found = this.#look(node).get(`${pod.metadata.namespace}/${pod.metadata.name}`);
    if (!found) return undefined;
    return {
      ...own,
      containerId: found.containerId,
      hostNetwork: false,
      netns: found.netns.slice(found.netns.lastIndexOf('/') + 1),
      netnsPath: `/proc/${holder}/root${found.netns}`,
    };
  }

  #look(node: string): Map<string, Found> {
    const known = this.#looks.get(node);
    if (known && performance.now() - known.at < KEPT_MS) return known.found;
    const found = this.#read(node);
    this.#looks.set(node, { at: performance.now(), found });
    return found;
  }

  /** By NAMESPACE/POD. */
  #read(node: string): Map<string, Found> {
    const found = new Map<string, Found>();
    try {
      using netns = openNetns(netnsPath(this.#paths.netns(node)));
      const rt = RtNetlink.open(netns);
      try {
        for (const { alias, name } of rt.links()) {
          const read = readAlias(alias ?? null, name);
          if (!read?.pod || !read.netns) continue;
          found.set(`${read.pod.namespace}/${read.pod.name}`, {
            containerId: read.containerId,
            // A link that leads to /run is followed from our own root, not from the view's.
            netns: read.netns.replace(/^\/var\/run\//, '/run/'),
          });
        }
      } finally {
        rt.close();
      }
    } catch {
      // The instance is stopped at this moment.
    }
    return found;
  }
}
