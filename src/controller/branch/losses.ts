// Tells what somebody else took, a branch from its trunk, a branch, a trunk, by log, metric and Event with the pod's or
// Node's name. The keeper then puts it back.

import type { Log } from '../../base/log.ts';
import type { EventRecorder } from '../../kube/index.ts';
import type { ControllerMetrics } from '../metrics.ts';
import { nodeRef, podRef } from './acts.ts';
import type { Losses } from './looks.ts';
import type { Branch } from './plan.ts';
import type { PodView } from './pods.ts';
import type { BranchRecord } from './record.ts';
import type { Trunk } from './trunks.ts';

export type LossesParts = {
  record: BranchRecord;
  pods: PodView;
  /** By node; one that is lost goes from here. */
  trunks: Map<string, Trunk>;
  events: Pick<EventRecorder, 'record'>;
  metrics: Pick<ControllerMetrics, 'branchFailures'>;
  log: Log;
  /** Plans the node again. */
  look: (node: string) => void;
};

export function tellLosses(parts: LossesParts, { vanished, gone, detached, deleted }: Losses): void {
  const { record, trunks, events } = parts;
  for (const branch of vanished)
    tellLoss(parts, branch, `${branch.eniId} was taken off its trunk by somebody else`);
  for (const branch of gone) tellLoss(parts, branch, `${branch.eniId} was deleted by somebody else`);
  for (const [name, { eniId }] of [...trunks]) {
    const was = detached.includes(eniId) ? 'detached' : deleted.includes(eniId) ? 'deleted' : null;
    if (was === null) continue;
    const text = `the trunk ${eniId} of ${name} was ${was} by somebody else`;
    trunks.delete(name);
    events.record(nodeRef(name), 'Warning', 'TrunkLost', text);
    for (const branch of record.branches)
      if (branch.association?.trunkId === eniId) tellLoss(parts, branch, text);
  }
}

function tellLoss({ pods, log, metrics, events, look }: LossesParts, branch: Branch, text: string): void {
  const pod = pods.find(branch.podUid);
  log.warn({ pod: branch.pod, branch: branch.eniId }, text);
  metrics.branchFailures.inc({ cause: 'BRANCH_LOST' });
  if (!pod || pod.isOver) return;
  events.record(podRef(pod), 'Warning', 'BranchLost', `BRANCH_LOST: ${text}`);
  look(pod.node);
}
