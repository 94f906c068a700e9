// Which idle addresses to return so that whole /28s of a subnet become free. Pure. A /28 counts only when everything that
// is held of it is idle: free on a node, or on an interface that is attached to nothing. Those that cost the fewest
// addresses come first. What a node needs for its goal it keeps, unless it wants prefixes: then its single addresses are
// what stands in the way.
import { formatIp, type Ipv4 } from '../../base/ip.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import { brokenPrefixes, type SubnetSpace, spaceFigures } from './subnet-space.ts';

/** A node's name, or the id of an interface that is attached to nothing. */
export type IdleOwner = { node: string } | { interface: string };
export type IdleOf = {
  owner: IdleOwner;
  /** Single addresses that no pod has. */
  idle: readonly Ipv4[];
  /** How many of them may be returned; Infinity for a node that wants prefixes, and for an interface. */
  spare: number;
};

export type DefragStep = { prefix: string; addresses: ({ ip: string } & IdleOwner)[] };
export type DefragPlan = { freePrefixes: number; freePrefixesAfter: number; steps: DefragStep[] };

export function planDefrag(space: SubnetSpace, owners: readonly IdleOf[]): DefragPlan {
  const owner = new Map<Ipv4, IdleOwner>();
  for (const one of owners) for (const ip of one.idle) owner.set(ip, one.owner);
  const spare = new Map(owners.map((one) => [one.owner, one.spare]));
  const candidates = brokenPrefixes(space)
    .filter(({ held }) => held.every((ip) => owner.has(ip)))
    .sort((a, b) => a.held.length - b.held.length || a.ip - b.ip);
  const steps: DefragStep[] = [];
  for (const { ip, held } of candidates) {
    const cost = new Map<IdleOwner, number>();
    for (const one of held) cost.set(owner.get(one)!, (cost.get(owner.get(one)!) ?? 0) + 1);
    if ([...cost].some(([one, count]) => count > spare.get(one)!)) continue;
    for (const [one, count] of cost) spare.set(one, spare.get(one)! - count);
    steps.push({
      prefix: `${formatIp(ip)}/${32 - Math.log2(PREFIX_SIZE)}`,
      addresses: held.map((one) => ({ ip: formatIp(one), ...owner.get(one)! })),
    });
  }
  const { freePrefixes } = spaceFigures(space);
  return { freePrefixes, freePrefixesAfter: freePrefixes + steps.length, steps };
}

/** The addresses of a plan, owner by owner, in the plan's order. */
export function addressesByOwner(steps: readonly DefragStep[]): { owner: IdleOwner; addresses: string[] }[] {
  const found = new Map<string, { owner: IdleOwner; addresses: string[] }>();
  for (const { ip, ...owner } of steps.flatMap((step) => step.addresses)) {
    const key = 'node' in owner ? owner.node : owner.interface;
    const known = found.get(key);
    if (known) known.addresses.push(ip);
    else found.set(key, { owner, addresses: [ip] });
  }
  return [...found.values()];
}
