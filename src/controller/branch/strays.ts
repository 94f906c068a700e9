// What nodes that are gone have left: branches that are no trunk's of ours, trunks that were made and never attached.
// Without a cluster's name it may be another cluster's, and stays.
import type { Log } from '../../base/log.ts';
import type { Cloud, EniDescription } from '../../cloud/port.ts';
import { instanceOf } from '../node-view.ts';
import type { ClusterView } from '../view.ts';
import { looseTrunks, type Seen } from './loose-trunks.ts';
import type { Branch } from './plan.ts';
import type { PodView } from './pods.ts';
import type { BranchRecord } from './record.ts';
import type { Trunk } from './trunks.ts';

export type StraysParts = {
  view: Pick<ClusterView, 'nodes' | 'podwayNodes'>;
  record: BranchRecord;
  pods: PodView;
  /** By node. */
  trunks: ReadonlyMap<string, Trunk>;
  cloud: Pick<Cloud, 'deleteNetworkInterface'>;
  isLeading: () => boolean;
  log: Log;
};

export class Strays {
  readonly #p: StraysParts;
  #looseTrunks: Seen = new Map();

  constructor(parts: StraysParts) {
    this.#p = parts;
  }

  /** Of nodes that are gone, or that are no trunk's any more. */
  branches(): Branch[] {
    const { view, record, pods } = this.#p;
    const trunks = new Set([...this.#p.trunks.values()].map(({ eniId }) => eniId));
    const clusters = this.#clusters;
    return record.branches.filter(({ trunkId, podUid, cluster }) => {
      if (trunks.has(trunkId)) return false;
      const pod = pods.find(podUid);
      // A pod of ours had it, whatever the cluster's name.
      return pod ? !view.nodes.has(pod.node) || pod.isOver : cluster !== undefined && clusters.has(cluster);
    });
  }

  /** Of nodes that went while their trunk was being made. `enis`: all trunks. Throws CloudError. */
  async endTrunks(enis: readonly EniDescription[], signal: AbortSignal): Promise<void> {
    const { cloud, view, isLeading, log } = this.#p;
    const clusters = this.#clusters;
    if (clusters.size === 0) return;
    const instances = [...view.nodes.values()].map(instanceOf);
    const known = instances.includes(null) ? null : new Set(instances as string[]);
    const { seen, over } = looseTrunks(this.#looseTrunks, enis, known, clusters);
    this.#looseTrunks = seen;
    for (const trunk of over) {
      if (!isLeading()) return;
      await cloud.deleteNetworkInterface(trunk, signal);
      log.info({ trunk }, 'deleted a trunk that was made for a node and never attached');
    }
  }

  get #clusters(): Set<string> {
    const names = [...this.#p.view.podwayNodes.values()].map(({ spec }) => spec?.cluster ?? '');
    return new Set(names.filter((name) => name !== ''));
  }
}
