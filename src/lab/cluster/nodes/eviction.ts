// Taints that say NoExecute, as kube-controller-manager's taint eviction works: a pod that does not tolerate all of its
// node's such taints goes at once; one that tolerates them for a time goes when the shortest is over, counted from when
// the taints were seen. The times live in memory: a daemon that starts again counts anew, as there.
import type { Node, Pod } from '../../../kube/types.ts';
import { allowances, untolerated } from '../fits.ts';
import { isActive } from './scheduler.ts';

const EXECUTE = ['NoExecute'];

/** Seconds that a pod may stay on its node; undefined for as long as it likes. */
export function staySeconds(pod: Pod, node: Node): number | undefined {
  if (untolerated(pod.spec.tolerations, node, EXECUTE).length > 0) return 0;
  const bounded = allowances(pod.spec.tolerations, node, EXECUTE);
  return bounded.length === 0 ? undefined : Math.max(0, Math.min(...bounded));
}

type Waiting = { key: string; at: number };

export class TaintEviction {
  readonly #waiting = new Map<string, Waiting>();

  /** Pods whose time is over at `now` (ms), and when the next one's is. */
  due(pods: readonly Pod[], nodes: readonly Node[], now: number): { evicted: Pod[]; nextAt?: number } {
    const byName = new Map(nodes.map((node) => [node.metadata.name, node]));
    const evicted: Pod[] = [];
    const seen = new Set<string>();
    for (const pod of pods) {
      const node = byName.get(pod.spec.nodeName);
      if (!node || pod.metadata.deletionTimestamp || !isActive(pod)) continue;
      const seconds = staySeconds(pod, node);
      if (seconds === undefined) continue;
      const uid = pod.metadata.uid ?? '';
      // Other taints, or other tolerations, begin another wait.
      const key = JSON.stringify([
        seconds,
        node.spec?.taints?.filter(({ effect }) => effect === 'NoExecute'),
      ]);
      const known = this.#waiting.get(uid);
      const at = known?.key === key ? known.at : now + seconds * 1000;
      seen.add(uid);
      if (at <= now) evicted.push(pod);
      else this.#waiting.set(uid, { key, at });
    }
    for (const uid of this.#waiting.keys()) if (!seen.has(uid)) this.#waiting.delete(uid);
    const times = [...this.#waiting.values()].map(({ at }) => at).filter((at) => at > now);
    return { evicted, ...(times.length > 0 ? { nextAt: Math.min(...times) } : {}) };
  }
}
