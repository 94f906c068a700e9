// What the node's own links mean for the pool: ENIs without a link, addresses that are on a link, ENIs that are set up.
// Invariant: nothing that is held changes.
import type { Ip } from '../base/ip.ts';
import type { EniId } from '../cloud/port.ts';
import { type AttachedEni, type Core, commit } from './core.ts';
import { toldEni, withEni } from './state.ts';

/** Sets what the node cannot use now: ENIs without a link, addresses that are on a link of the node. */
export function noteNode(
  core: Core,
  seen: { linkless: ReadonlySet<EniId>; onLinks: ReadonlyMap<Ip, string> },
): void {
  const { state } = core;
  const changed = [...state.enis.values()].filter(
    (eni) => Boolean(eni.linkless) !== seen.linkless.has(eni.id),
  );
  const isSame = sameKeys(state.onLinks, seen.onLinks);
  if (changed.length === 0 && isSame) return;
  const enis = new Map(state.enis);
  for (const eni of changed) enis.set(eni.id, { ...eni, linkless: seen.linkless.has(eni.id) });
  // The ENI may have been detached.
  if (changed.some((eni) => seen.linkless.has(eni.id))) core.reconcileSoon();
  core.state = { ...state, enis, onLinks: isSame ? state.onLinks : new Map(seen.onLinks) };
  core.kick();
}

/** The node's network is set up for these ENIs. ENIs that EC2 must be asked about first are left to the loop. */
export function noteTold(core: Core, told: readonly AttachedEni[]): void {
  let { state } = core;
  for (const { id, blocks } of told) {
    const eni = state.enis.get(id);
    if (eni?.phase !== 'attached' || !(eni.primary || eni.deleteOnTermination)) continue;
    state = withEni(state, toldEni(eni, new Set(blocks.map((cidr) => cidr.ip))));
  }
  commit(core, state);
}

const sameKeys = (a: ReadonlyMap<Ip, unknown>, b: ReadonlyMap<Ip, unknown>): boolean =>
  a.size === b.size && [...a.keys()].every((ip) => b.has(ip));
