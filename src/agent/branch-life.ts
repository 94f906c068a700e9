// What the agent hears of security groups per pod beside its pods' annotations: SecurityGroupPolicies, and its node's
// CNINode. From them follow whether an ENI slot is kept for a trunk, the node's request for one, and which pods lack
// their groups. Loaded once the node serves, where an API is configured. Ends when `signal` aborts; never throws.
import { systemClock } from '../base/clock.ts';
import { PolicyView } from '../kube/pod-groups-view.ts';
import { connect } from './configuration-watch.ts';
import type { Parts } from './parts.ts';
import { PodGroups } from './pod-groups.ts';
import type { Serving } from './start.ts';
import { type CniNodeView, TrunkSlot, viewCniNode } from './trunk-slot.ts';

export async function keepBranchLife(
  { api, config, log, metrics, tell }: Parts,
  { pool, configuration, branches }: Serving,
  signal: AbortSignal,
): Promise<void> {
  const connection = await connect(api, log, signal);
  if (!connection) return;
  const { client, kube } = connection;
  const policies = new PolicyView(client, systemClock, () => note());
  const groups = new PodGroups({
    client,
    policies,
    missingGroups: config.settings.missingGroups,
    onMissing: (pod, answer, text) => {
      metrics.groupsNotInjected.inc({ answer });
      const object = `${pod.namespace}/${pod.name}`;
      // The refusal is an Event of its own.
      if (answer === 'allowed') tell({ kind: 'groups', object, text: `GROUPS_NOT_INJECTED: ${text}`, pod });
    },
  });
  const slot = new TrunkSlot({
    ...{ client, pool, nodeName: config.nodeName, log },
    onLack: (text) => tell({ kind: 'trunk', object: config.nodeName, text }),
  });
  let isTold = false;
  const note = () => {
    branches.noteGuard(groups);
    // What was known last counts until both have been told.
    if (!policies.isWhole || !isTold) return;
    configuration.noteWantsTrunk(policies.size > 0 || slot.isAsked);
    slot.look();
  };
  await Promise.all([
    policies.follow(client, log, signal),
    kube.follow(
      client,
      kube.cniNodes,
      {
        fieldSelector: `metadata.name=${config.nodeName}`,
        keep: viewCniNode,
        onAway: (error) => log.warn({ error: error.message }, 'the CNINode is not to be had'),
        onChange: (kept: ReadonlyMap<string, CniNodeView>) => {
          isTold = true;
          slot.note(kept.get(config.nodeName) ?? null);
          note();
        },
      },
      signal,
    ),
    slot.keep(signal),
  ]);
}
