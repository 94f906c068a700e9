// Which ENIs of nodes that are gone may be deleted, and which PodwayNodes have served. Pure. An ENI goes when its node has
// been gone for the grace and two looks, the gap apart or more, have shown it unattached and the instance ended. Of an
// instance that has not ended (stopped, or its Node was deleted) it must hang loose far longer: an agent may still run
// there, which attaches or deletes its own. Invariant: nothing without our tags, and nothing of a node that is there.
import type { InstanceState } from '../../cloud/fleet.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { ageByTag, bearsOurTags, isLoose } from '../../ipam/ec2/tags.ts';
import type { Node, PodwayNode } from '../../kube/index.ts';
import { instanceOf } from '../node-view.ts';

/** An instance that a PodwayNode ties ENIs to and that no Node is. */
export type Candidate = { readonly node: string; readonly instanceId: string; readonly cluster: string };

export function candidatesOf(
  nodes: ReadonlyMap<string, Pick<Node, 'metadata' | 'spec'>>,
  podwayNodes: ReadonlyMap<string, PodwayNode>,
): Candidate[] {
  const live = new Set([...nodes.values()].map(instanceOf));
  const found = new Map<string, Candidate>();
  for (const [name, { spec }] of podwayNodes) {
    if (!spec) continue;
    const node = nodes.get(name);
    // A Node that does not say which instance it is may be this one.
    const isOpen = node !== undefined && instanceOf(node) === null;
    const tied = isOpen ? (spec.former ?? []) : [spec, ...(spec.former ?? [])];
    for (const { instanceId, cluster = '' } of tied)
      if (!live.has(instanceId)) found.set(instanceId, { node: name, instanceId, cluster });
  }
  return [...found.values()];
}

export type Look = {
  readonly at: number;
  /** Those that EC2 knows. */
  readonly states: ReadonlyMap<string, InstanceState>;
  /** Of all candidates, by tag. */
  readonly enis: readonly EniDescription[];
};

/** When something was first so (ms), and has been in each look since. */
export type Memory = {
  readonly missing: ReadonlyMap<string, number>;
  readonly ended: ReadonlyMap<string, number>;
  readonly loose: ReadonlyMap<EniId, number>;
  readonly bare: ReadonlyMap<string, number>;
};
export const nothing: Memory = {
  missing: new Map(),
  ended: new Map(),
  loose: new Map(),
  bare: new Map(),
};

/** Without what came back between two looks. */
export function only(memory: Memory, candidates: readonly Candidate[]): Memory {
  const ids = new Set(candidates.map(({ instanceId }) => instanceId));
  if ([...memory.missing.keys()].every((id) => ids.has(id))) return memory;
  const kept = (map: ReadonlyMap<string, number>) => new Map([...map].filter(([id]) => ids.has(id)));
  const { missing, ended, bare } = memory;
  // Whose ENIs they were is not kept: all of them are looked at anew.
  return { missing: kept(missing), ended: kept(ended), bare: kept(bare), loose: new Map() };
}

export type Step = {
  readonly memory: Memory;
  /** To be deleted, once more checked by whoever does it. */
  readonly sweep: readonly { readonly eni: EniId; readonly of: Candidate }[];
  /** Ended, and without an ENI of ours. */
  readonly done: readonly Candidate[];
  /** Loose ones with an Elastic IP: a person's business. */
  readonly kept: readonly EniId[];
  /** Not seen to have ended. */
  readonly unended: number;
};

export type Times = {
  /** Between the first and the last of the looks that must agree (ms). */
  readonly gap: number;
};
const GRACES = 2;
/** Of an instance that has not ended, in gaps. */
const UNENDED_GAPS = 20;

const hasEnded = (state: InstanceState | undefined): boolean => state === undefined || state === 'terminated';

export function step(
  before: Memory,
  candidates: readonly Candidate[],
  { at, states, enis }: Look,
  { gap }: Times,
): Step {
  const memory = {
    missing: new Map<string, number>(),
    ended: new Map<string, number>(),
    loose: new Map<EniId, number>(),
    bare: new Map<string, number>(),
  };
  const sweep: { eni: EniId; of: Candidate }[] = [];
  const done: Candidate[] = [];
  const kept: EniId[] = [];
  let unended = 0;
  for (const one of candidates) {
    const { instanceId } = one;
    const missing = since(memory.missing, before.missing, instanceId, at);
    const isEnded = hasEnded(states.get(instanceId));
    const ended = isEnded ? since(memory.ended, before.ended, instanceId, at) : at;
    if (!isEnded) unended++;
    const whose = { instanceId, cluster: one.cluster === '' ? undefined : one.cluster };
    const ours = enis.filter(({ tags }) => bearsOurTags(tags, whose));
    let left = 0;
    for (const eni of ours) {
      if (eni.addresses.some((address) => address.public)) {
        if (isLoose(eni, whose)) kept.push(eni.id);
        continue;
      }
      if (eni.attachment === null || eni.attachment.instanceId === instanceId) left++;
      if (!isLoose(eni, whose)) continue;
      const loose = at - since(memory.loose, before.loose, eni.id, at);
      const age = Math.max(loose, ageByTag(eni.tags, at) ?? 0);
      const isOver =
        loose >= gap &&
        at - missing >= GRACES * gap &&
        age >= GRACES * gap &&
        (at - ended >= gap || loose >= UNENDED_GAPS * gap);
      if (isOver) sweep.push({ eni: eni.id, of: one });
    }
    if (left > 0 || !isEnded) continue;
    const bare = at - since(memory.bare, before.bare, instanceId, at);
    if (bare >= gap && at - missing >= GRACES * gap && at - ended >= gap) done.push(one);
  }
  return { memory, sweep, done, kept, unended };
}

function since<K>(next: Map<K, number>, before: ReadonlyMap<K, number>, key: K, at: number): number {
  const first = before.get(key) ?? at;
  next.set(key, first);
  return first;
}
