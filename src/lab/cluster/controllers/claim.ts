// Who owns what: a controller keeps what it owns while its selector matches, lets go of the rest, and takes what nobody
// owns and its selector matches (as after `kubectl delete --cascade=orphan`). Pure.
import type { Resource } from '../../../kube/resources.ts';
import { matchesRequirements, type Requirement, selectorRequirements } from '../../../kube/selectors.ts';
import type { KubeObject, LabelSelector, OwnerReference } from '../../../kube/types.ts';
import type { Action } from './plan.ts';

/** Parsed selectors by the object that holds them; stored objects are frozen and shared. */
const parsed = new WeakMap<LabelSelector, readonly Requirement[]>();

export function selects(selector: LabelSelector, object: KubeObject): boolean {
  let requirements = parsed.get(selector);
  if (requirements === undefined) {
    requirements = selectorRequirements(selector);
    parsed.set(selector, requirements);
  }
  return requirements.length > 0 && matchesRequirements(requirements, object.metadata.labels);
}

export function claim<T extends KubeObject>(
  owner: KubeObject & { spec: { selector: LabelSelector } },
  reference: OwnerReference,
  resource: Resource<T>,
  owned: readonly T[],
  orphans: readonly T[],
): { kept: T[]; actions: Action[] } {
  const { selector } = owner.spec;
  const ending = owner.metadata.deletionTimestamp !== undefined;
  const kept = owned.filter((each) => selects(selector, each));
  if (ending) return { kept, actions: [] };
  const released = owned.filter((each) => !selects(selector, each) && !each.metadata.deletionTimestamp);
  const adopted = orphans.filter((each) => selects(selector, each) && !each.metadata.deletionTimestamp);
  const owners = (object: T, ownerReferences: OwnerReference[]): Action => ({
    do: 'update',
    resource,
    object: { ...object, metadata: { ...object.metadata, ownerReferences } },
  });
  return {
    kept,
    actions: [
      ...released.map((each) =>
        owners(each, each.metadata.ownerReferences?.filter(({ uid }) => uid !== reference.uid) ?? []),
      ),
      ...adopted.map((each) => owners(each, [...(each.metadata.ownerReferences ?? []), reference])),
    ],
  };
}
