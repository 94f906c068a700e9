// DaemonSet: one pod on each node that takes it, bound to it from the start; a new template replaces them node by node
// within maxUnavailable or maxSurge. Its templates are kept as ControllerRevisions, which `kubectl rollout undo` reads.
// Pure.
import { isDeepStrictEqual } from 'node:util';
import { pods as podResource } from '../../../kube/resources.ts';
import type { Node, Pod, Toleration } from '../../../kube/types.ts';
import { matchesNode, toleratesTaints } from '../fits.ts';
import {
  type ControllerRevision,
  controllerRevisions,
  type DaemonSet,
  type DaemonSetStatus,
  daemonSets,
  podsOf,
} from '../workloads.ts';
import { type Action, BURST, earliest, ownedBy, type Plan } from './plan.ts';
import { isAvailable, isFinished, isReady, nextAvailable, podFrom, templateHash } from './pods.ts';

const REVISION_LABEL = 'controller-revision-hash';

type Input = {
  set: DaemonSet;
  pods: readonly Pod[];
  nodes: readonly Node[];
  revisions: readonly ControllerRevision[];
  now: number;
};

/** The pods of one node; `should`: it is to have one. */
type Place = { name: string; should: boolean; pods: Pod[] };

export function planDaemonSet({ set, pods, nodes, revisions, now }: Input): Plan {
  const hash = templateHash(set.spec.template);
  const places = placesOf(set, pods, nodes);
  const ending = set.metadata.deletionTimestamp !== undefined;
  const current = (pod: Pod) => pod.metadata.labels?.[REVISION_LABEL] === hash;
  const { minReadySeconds } = set.spec;
  const serves = (pod: Pod | undefined) => pod !== undefined && isAvailable(pod, minReadySeconds, now);
  const status: DaemonSetStatus = { ...countPlaces(places, current, serves) };
  status.observedGeneration = set.metadata.generation ?? 1;
  const history = ending ? [] : keepHistory(set, hash, pods, revisions);
  const changes = ending ? [] : podActions(set, hash, places, current, serves);
  return {
    actions: [{ do: 'status', resource: daemonSets, object: set, status }, ...history, ...changes],
    ...earliest(nextAvailable(pods, minReadySeconds, now)),
  };
}

/** Places of nodes, and of pods whose node is not there. */
function placesOf(set: DaemonSet, pods: readonly Pod[], nodes: readonly Node[]): Place[] {
  const byNode = new Map<string, Pod[]>();
  for (const pod of pods) {
    const name = pod.spec.nodeName ?? '';
    byNode.set(name, [...(byNode.get(name) ?? []), pod]);
  }
  const { spec } = set.spec.template;
  const tolerations = [...(spec.tolerations ?? []), ...daemonTolerations(spec.hostNetwork === true)];
  const places = nodes.map((node): Place => {
    const name = node.metadata.name!;
    const here = byNode.get(name) ?? [];
    byNode.delete(name);
    // A pod that is there already stays for NoSchedule.
    const effects = here.length > 0 ? ['NoExecute'] : ['NoSchedule', 'NoExecute'];
    const should = matchesNode(spec, node) && toleratesTaints(tolerations, node, effects);
    return { name, should, pods: here };
  });
  return [...places, ...[...byNode].map(([name, left]) => ({ name, should: false, pods: left }))];
}

/** As upstream gives each daemon pod: it stays through what a node goes through. */
function daemonTolerations(hostNetwork: boolean): Toleration[] {
  const away = ['not-ready', 'unreachable'];
  const pressed = ['disk-pressure', 'memory-pressure', 'pid-pressure', 'unschedulable'];
  if (hostNetwork) pressed.push('network-unavailable');
  const exists = (effect: string) => (name: string) => ({
    key: `node.kubernetes.io/${name}`,
    operator: 'Exists',
    effect,
  });
  return [...away.map(exists('NoExecute')), ...pressed.map(exists('NoSchedule'))];
}

type Test = (pod: Pod) => boolean;
type Serves = (pod: Pod | undefined) => boolean;
const lives: Test = (pod) => !isFinished(pod) && pod.metadata.deletionTimestamp === undefined;

function countPlaces(places: readonly Place[], current: Test, serves: Serves): DaemonSetStatus {
  const should = places.filter((place) => place.should);
  const having = (test: Test) => should.filter((place) => place.pods.some((pod) => lives(pod) && test(pod)));
  const numberAvailable = having(serves).length;
  return {
    desiredNumberScheduled: should.length,
    currentNumberScheduled: having(() => true).length,
    numberMisscheduled: places.filter((place) => !place.should && place.pods.some(lives)).length,
    numberReady: having(isReady).length,
    updatedNumberScheduled: having(current).length,
    numberAvailable,
    numberUnavailable: should.length - numberAvailable,
  };
}

function podActions(
  set: DaemonSet,
  hash: string,
  places: readonly Place[],
  current: Test,
  serves: Serves,
): Action[] {
  const actions: Action[] = [];
  const remove = (object: Pod) => {
    if (object.metadata.deletionTimestamp === undefined)
      actions.push({ do: 'delete', resource: podResource, object });
  };
  const make = (name: string) => {
    if (actions.length < BURST)
      actions.push({ do: 'create', resource: podResource, object: daemonPod(set, hash, name) });
  };
  const should = places.filter((place) => place.should).length;
  const { type, rollingUpdate } = set.spec.updateStrategy;
  const rolling = type === 'RollingUpdate';
  const surge = rolling ? podsOf(rollingUpdate?.maxSurge ?? 0, should, 'up') : 0;
  const unavailable = podsOf(rollingUpdate?.maxUnavailable ?? 1, should, 'up');
  const waitingForNew: string[] = [];
  const replaceable: Pod[] = [];
  let surging = 0;
  let away = 0;
  for (const place of places) {
    for (const pod of place.pods) if (isFinished(pod) || !place.should) remove(pod);
    if (!place.should) continue;
    const here = place.pods.filter(lives);
    const [fresh, ...spareNew] = oldestFirst(here.filter(current));
    const [old, ...spareOld] = oldestFirst(here.filter((pod) => !current(pod)));
    for (const pod of [...spareNew, ...spareOld]) remove(pod);
    // A terminating pod keeps its place until it is deleted, unless a surge pod is allowed.
    const going = place.pods.some((pod) => pod.metadata.deletionTimestamp !== undefined && !isFinished(pod));
    if (!fresh && !old) {
      away += 1;
      if (!going || surge > 0) make(place.name);
    } else if (fresh && old) {
      if (serves(fresh)) remove(old);
      else if (surge > 0) surging += 1;
      else remove(old);
    } else if (fresh) away += serves(fresh) ? 0 : 1;
    else if (rolling && old) {
      if (surge > 0) {
        if (serves(old)) waitingForNew.push(place.name);
        else make(place.name);
      } else if (serves(old)) replaceable.push(old);
      else {
        // The pod does not serve, so replacing it costs nothing.
        away += 1;
        remove(old);
      }
    }
  }
  for (const pod of replaceable.slice(0, Math.max(0, unavailable - away))) remove(pod);
  for (const name of waitingForNew.slice(0, Math.max(0, surge - surging))) make(name);
  return actions;
}

const madeAt = ({ metadata }: Pod): string => `${metadata.creationTimestamp ?? ''} ${metadata.name ?? ''}`;
const oldestFirst = (pods: Pod[]): Pod[] => pods.sort((a, b) => (madeAt(a) < madeAt(b) ? -1 : 1));

function daemonPod(set: DaemonSet, hash: string, nodeName: string): Pod {
  const reference = ownedBy(set, { apiVersion: 'apps/v1', kind: 'DaemonSet' });
  const pod = podFrom(set.spec.template, { object: set, reference });
  pod.metadata.labels = { ...pod.metadata.labels, [REVISION_LABEL]: hash };
  const added = daemonTolerations(pod.spec.hostNetwork === true);
  pod.spec = { ...pod.spec, nodeName, tolerations: [...(pod.spec.tolerations ?? []), ...added] };
  return pod;
}

/** The present template has the highest revision; those that no pod has and the history need not keep go. */
function keepHistory(
  set: DaemonSet,
  hash: string,
  pods: readonly Pod[],
  revisions: readonly ControllerRevision[],
): Action[] {
  const resource = controllerRevisions;
  const data = { spec: { template: { ...set.spec.template, $patch: 'replace' } } };
  const sorted = [...revisions].sort((a, b) => a.revision - b.revision);
  const present = sorted.find((each) => isDeepStrictEqual(each.data, data));
  const highest = sorted.at(-1)?.revision ?? 0;
  if (present === undefined) {
    const labels = { ...set.spec.template.metadata?.labels, [REVISION_LABEL]: hash };
    const object: ControllerRevision = {
      apiVersion: 'apps/v1',
      kind: 'ControllerRevision',
      metadata: {
        name: `${set.metadata.name}-${hash}`,
        namespace: set.metadata.namespace!,
        labels,
        ...(set.metadata.annotations ? { annotations: set.metadata.annotations } : {}),
        ownerReferences: [ownedBy(set, { apiVersion: 'apps/v1', kind: 'DaemonSet' })],
      },
      data,
      revision: highest + 1,
    };
    return [{ do: 'create', resource, object }];
  }
  if (present.revision < highest)
    return [{ do: 'update', resource, object: { ...present, revision: highest + 1 } as ControllerRevision }];
  const used = new Set(pods.map((pod) => pod.metadata.labels?.[REVISION_LABEL]));
  const idle = sorted.filter(
    (each) => each !== present && !used.has(each.metadata.labels?.[REVISION_LABEL] ?? ''),
  );
  return idle
    .slice(0, Math.max(0, sorted.length - 1 - set.spec.revisionHistoryLimit))
    .map((object) => ({ do: 'delete', resource, object }));
}
