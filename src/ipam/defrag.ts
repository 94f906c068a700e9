// Which idle addresses to return so that whole /28s of a subnet become free. Pure. A /28 counts only when everything that
// is held of it is idle; those that cost the fewest addresses come first. What a node needs for its goal it keeps, unless
// it wants prefixes: then its single addresses are what stands in the way.
import { formatIp, type Ipv4 } from '../base/ip.ts';
import { PREFIX_SIZE } from './incumbent.ts';
import { brokenPrefixes, type SubnetSpace, spaceFigures } from './subnet-space.ts';

export type IdleOf = {
  node: string;
  /** Free single addresses that no pod has. */
  idle: readonly Ipv4[];
  /** How many of them the node may return; Infinity for a node that wants prefixes. */
  spare: number;
};

export type DefragStep = { prefix: string; addresses: { ip: string; node: string }[] };
export type DefragPlan = { freePrefixes: number; freePrefixesAfter: number; steps: DefragStep[] };

export function planDefrag(space: SubnetSpace, nodes: readonly IdleOf[]): DefragPlan {
  const owner = new Map<Ipv4, string>();
  for (const { node, idle } of nodes) for (const ip of idle) owner.set(ip, node);
  const spare = new Map(nodes.map((one) => [one.node, one.spare]));
  const candidates = brokenPrefixes(space)
    .filter(({ held }) => held.every((ip) => owner.has(ip)))
    .sort((a, b) => a.held.length - b.held.length || a.ip - b.ip);
  const steps: DefragStep[] = [];
  for (const { ip, held } of candidates) {
    const cost = new Map<string, number>();
    for (const one of held) cost.set(owner.get(one)!, (cost.get(owner.get(one)!) ?? 0) + 1);
    if ([...cost].some(([node, count]) => count > spare.get(node)!)) continue;
    for (const [node, count] of cost) spare.set(node, spare.get(node)! - count);
    steps.push({
      prefix: `${formatIp(ip)}/${32 - Math.log2(PREFIX_SIZE)}`,
      addresses: held.map((one) => ({ ip: formatIp(one), node: owner.get(one)! })),
    });
  }
  const { freePrefixes } = spaceFigures(space);
  return { freePrefixes, freePrefixesAfter: freePrefixes + steps.length, steps };
}

/** The addresses of a plan, node by node, in the plan's order. */
export function addressesByNode(steps: readonly DefragStep[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { addresses } of steps)
    for (const { ip, node } of addresses) found.set(node, [...(found.get(node) ?? []), ip]);
  return found;
}
