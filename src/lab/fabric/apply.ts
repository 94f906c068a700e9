// The only file that changes the router: brings the kernel from one set of entries to another.
// Order: links come first and are down at the guest's end; then nft in one transaction, so no packet passes unjudged;
// then neighbours, forwarding entries and routes; then links leave, in one group; last the guests boot.
// After a kill in any step all steps can be repeated: `observe` finds what is left to do.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cidr, cidrContains, familyOf, type Ip } from '../../base/ip.ts';
import { programsOn, setProgram } from '../../kernel/bpf/hooks.ts';
import type { Hook } from '../../kernel/bpf/syscall.ts';
import { type ConntrackEntry, NfNetlink } from '../../kernel/nfnetlink.ts';
import { Nft, NftError } from '../../kernel/nftables.ts';
import { type NetlinkError, PROTOCOL, type RtOp } from '../../kernel/rtnetlink.ts';
import { bootGuest, bootGuest6, isBooted } from './boot.ts';
import {
  type Changes,
  diffEntries,
  type Entries,
  type Entry,
  keyOf,
  type NetnsEntry,
  type PortEntry,
  stampOf,
  withoutPorts,
} from './entries.ts';
import { connectIpv6, disconnectIpv6, enableIpv6 } from './ipv6.ts';
import { GATEWAY_LINK, INTERNET, INTERNET_LINK, isNatPlace, ROUTER, ROUTER_MAC, VPC_MTU } from './names.ts';
import { translateAt } from './nat.ts';
import {
  addOps,
  bridgeOps,
  elementOp,
  internetRouteOp,
  observedEntries,
  portOps,
  publicRouteOp,
  removeOps,
} from './operations.ts';
import {
  changeScript,
  type Existing,
  existingNames,
  fullScript,
  type IndexOf,
  isStructure,
  nothing,
  withoutTables,
} from './ruleset.ts';
import { connectInternet, type Space, type Spaces } from './spaces.ts';
import { observedTags, programOf } from './trunk.ts';

/** Group of links that are about to leave: one request, and one wait of the kernel, removes them all. */
const LEAVING = 0x50ff;
/** More elements than this go as text through libnftables, off the main thread, and not as one netlink batch. */
const BATCH_ELEMENTS = 1000;
/** Errors that mean that it was already done: the object went with a link, or a killed process had removed it. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']);

/** Called between steps; tests cut the process off there. */
export type Fault = (point: string) => void;

export class Applier {
  readonly #spaces: Spaces;
  readonly #fault: Fault;
  #router: { space: Space; nft: Nft; nf: NfNetlink } | undefined;
  /** Router's links by name, as of the last observation and what was made since. */
  #indexes = new Map<string, number>();

  constructor(spaces: Spaces, fault: Fault = () => {}) {
    this.#spaces = spaces;
    this.#fault = fault;
  }

  /** Reads the kernel and makes it match the entries from any state. */
  async converge(entries: Entries): Promise<void> {
    await this.#reopen(entries);
    const { space } = this.#router!;
    connectInternet(space, this.#spaces.at(INTERNET));
    // As IPv4's part: made whole at each fresh look, whatever is there of it.
    if (entries.has('ipv6')) connectIpv6(space, this.#spaces.at(INTERNET));
    this.#fault('connected');
    const observed = this.#observe(entries);
    await this.#step(observed, entries, true);
  }

  /** Applies the difference between the last call's entries and the new ones. */
  async change(from: Entries, to: Entries): Promise<void> {
    await this.#step(from, to, false);
  }

  /** Interface index of a router's link; undefined when there is none. */
  indexOf(link: string): number | undefined {
    return this.#indexes.get(link);
  }

  async close(): Promise<void> {
    const router = this.#router;
    this.#router = undefined;
    router?.nf.close();
    await router?.nft.close();
  }

  /** All links between namespaces leave at once; the namespaces themselves are the caller's. */
  async removeLinks(router: Space): Promise<void> {
    const links = router.rt.links().filter((link) => link.kind === 'veth');
    await this.#leave(
      router,
      links.map((link) => link.index),
    );
  }

  async #reopen(entries: Entries): Promise<void> {
    const wanted = [...entries.values()].filter((entry): entry is NetnsEntry => entry.kind === 'netns');
    for (const entry of wanted) if (this.#spaces.isStale(entry.where)) await this.#forget(entry.where);
    for (const entry of wanted) {
      this.#spaces.ensure(entry);
      this.#fault(`space ${entry.where}`);
    }
    if (this.#router === undefined) {
      const space = this.#spaces.at(ROUTER);
      this.#router = { space, nft: Nft.open(space.ns), nf: NfNetlink.open(space.ns) };
    }
  }

  async #forget(where: string): Promise<void> {
    if (where === ROUTER) await this.close();
    this.#spaces.forget(where);
  }

  #observe(entries: Entries): Map<string, Entry> {
    const { rt } = this.#router!.space;
    const links = rt.links();
    this.#indexes = new Map(links.map((link) => [link.name, link.index]));
    const observed = observedEntries({
      links,
      addresses: rt.addresses(),
      neighbours: rt.neighbours(),
      fdb: rt.fdb(),
      routes: rt.routes({ protocol: PROTOCOL }).filter((route) => route.table !== LOCAL_TABLE),
      rules: rt.rules().filter((rule) => rule.protocol === PROTOCOL),
    });
    for (const { dst } of this.#spaces.at(INTERNET).rt.routes({ protocol: PROTOCOL, table: MAIN_TABLE })) {
      const entry: Entry =
        familyOf(dst.ip) === 4 ? { kind: 'public-route', ip: dst.ip } : { kind: 'internet-route', dst };
      observed.set(keyOf(entry), entry);
    }
    for (const [where, life] of this.#spaces.lives()) {
      const entry: Entry = { kind: 'netns', where, role: roleOf(where), life };
      observed.set(keyOf(entry), entry);
    }
    for (const [key, entry] of entries) {
      if (
        (entry.kind === 'boot' || entry.kind === 'boot6') &&
        observed.has(`port ${entry.port}`) &&
        this.#isBooted(entry, entries)
      ) {
        observed.set(key, entry);
      }
    }
    const isOn = (index: number, hook: Hook, name: string) => {
      const names = programsOn(this.#router!.space.ns, index, hook);
      return names.length === 1 && names[0] === name;
    };
    for (const [key, entry] of observedTags(entries, (link) => this.#indexes.get(link), isOn))
      observed.set(key, entry);
    return observed;
  }

  #isBooted(entry: Extract<Entry, { kind: 'boot' | 'boot6' }>, entries: Entries): boolean {
    const port = entries.get(`port ${entry.port}`) as PortEntry;
    return isBooted(this.#spaces.at(entry.where), port.mac, entry.kind);
  }

  async #step(is: Entries, should: Entries, whole: boolean): Promise<void> {
    const changes = diffEntries(is, should);
    const changed = changes.change.filter((one) => one.to.kind === 'port');
    // A guest's link name is free for the next ENI only when the one that had it, gone or elsewhere, has left it.
    const leaving = [...changes.remove, ...changed.map((one) => one.from)].filter(
      (one) => one.kind === 'port',
    );
    const takeovers = changes.add
      .filter((one) => one.kind === 'port')
      .filter((one) => leaving.some((old) => old.where === one.where && old.guestName === one.guestName));
    const remade = new Set(
      [...changed.map((one) => one.to), ...takeovers].map((one) => (one as PortEntry).name),
    );
    const reborn = new Set(changes.change.flatMap(({ to }) => (to.kind === 'netns' ? to.where : [])));
    for (const one of should.values()) if (one.kind === 'port' && reborn.has(one.where)) remade.add(one.name);
    if (remade.size + reborn.size > 0) {
      // A link that was made for something else leaves with all that hangs on it, and is made anew; so does a namespace.
      const without = withoutPorts(should, remade, reborn);
      await this.#apply(diffEntries(is, without), without, whole);
      await this.#apply(diffEntries(without, should), should, false);
    } else {
      await this.#apply(changes, should, whole);
    }
  }

  async #apply(changes: Changes, should: Entries, whole: boolean): Promise<void> {
    const added = [...changes.add, ...changes.change.map((one) => one.to)];
    const router = this.#router!;
    const indexOf: IndexOf = (name) => {
      const index = name.startsWith('#') ? Number(name.slice(1)) : this.#indexes.get(name);
      if (index === undefined) throw new Error(`the router has no link ${name}`);
      return index;
    };
    for (const entry of added) {
      if (entry.kind !== 'netns') continue;
      this.#spaces.ensure(entry);
      this.#fault(`space ${entry.where}`);
    }
    if (added.some((one) => one.kind === 'ipv6')) connectIpv6(router.space, this.#spaces.at(INTERNET));
    this.#makeLinks(added, indexOf);
    for (const one of added) if (one.kind === 'bridge6') enableIpv6(router.space, one.name);
    await this.#rules(changes, should, whole, indexOf);
    this.#fault('nft');
    this.#rest(changes, added, indexOf);
    this.#fault('routed');
    if (changes.remove.some((one) => one.kind === 'ipv6'))
      disconnectIpv6(router.space, this.#spaces.at(INTERNET));
    await this.#forgetFlows(changes.remove);
    const leaving = changes.remove.filter((one) => one.kind === 'port' || one.kind === 'bridge');
    await this.#leave(
      router.space,
      leaving.flatMap((one) => this.#indexes.get((one as PortEntry).name) ?? []),
    );
    for (const one of leaving) this.#indexes.delete((one as PortEntry).name);
    this.#fault('links left');
    for (const entry of added) {
      if (entry.kind !== 'boot') continue;
      bootGuest(this.#spaces.at(entry.where), should.get(`port ${entry.port}`) as PortEntry, entry);
      this.#fault(`booted ${entry.where}`);
    }
    for (const entry of added) {
      if (entry.kind === 'boot6')
        bootGuest6(this.#spaces.at(entry.where), should.get(`port ${entry.port}`) as PortEntry, entry.ip);
    }
    await this.#running(
      added.flatMap((one) => (one.kind === 'boot' || one.kind === 'boot6' ? one.port : [])),
      should,
    );
    for (const entry of added)
      if (entry.kind === 'nat') await translateAt(this.#spaces.at(entry.where), entry.ip);
    for (const entry of changes.remove) {
      if (entry.kind !== 'netns') continue;
      this.#spaces.remove(entry.where);
      this.#fault(`removed ${entry.where}`);
    }
  }

  #makeLinks(added: readonly Entry[], indexOf: IndexOf): void {
    const { rt } = this.#router!.space;
    const bridges = added.filter((one) => one.kind === 'bridge');
    const ports = added.filter((one) => one.kind === 'port');
    if (bridges.length + ports.length === 0) return;
    const make: RtOp[] = bridges
      .filter((one) => !this.#indexes.has(one.name))
      .map((one) => ({
        op: 'bridge-add',
        name: one.name,
        mac: ROUTER_MAC,
        mcastSnooping: false,
      }));
    for (const one of ports) {
      make.push({
        op: 'veth-add',
        name: one.name,
        mtu: VPC_MTU,
        alias: stampOf(one),
        peer: { name: one.guestName, mac: one.mac, mtu: VPC_MTU, netns: this.#spaces.at(one.where).ns },
      });
    }
    rt.apply(make);
    this.#fault('links made');
    if (make.length < MANY_LINKS) {
      for (const { name } of [...bridges, ...ports]) this.#indexes.set(name, rt.link(name)!.index);
    } else {
      for (const link of rt.links()) this.#indexes.set(link.name, link.index);
    }
    rt.apply(bridges.flatMap((one) => bridgeOps(one, indexOf(one.name))));
    rt.apply(ports.flatMap((one) => portOps(one, indexOf)));
    this.#fault('links up');
  }

  async #rules(changes: Changes, should: Entries, whole: boolean, indexOf: IndexOf): Promise<void> {
    const { nft, nf } = this.#router!;
    if (whole) {
      const script = (existing: Existing) => fullScript(should.values(), existing, indexOf);
      try {
        await nft.run(script(existingNames(await nft.list())));
      } catch (error) {
        if (!(error instanceof NftError)) throw error;
        // What is there is not of this version's shape (a set that is a map now): made anew, at the price of a gap.
        await nft.run(`${withoutTables}${script(nothing)}`);
      }
      return;
    }
    const entries = [...changes.add, ...changes.remove, ...changes.change.map((one) => one.to)];
    const elements = entries.filter((one) => one.kind === 'element').length;
    if (entries.some(isStructure) || elements > BATCH_ELEMENTS) {
      await nft.run(changeScript(changes, indexOf));
      return;
    }
    const del = [...changes.remove, ...changes.change.map((one) => one.from)];
    const add = [...changes.add, ...changes.change.map((one) => one.to)];
    nf.elements([
      ...del.flatMap((one) => (one.kind === 'element' ? [elementOp('del', one, indexOf)] : [])),
      ...add.flatMap((one) => (one.kind === 'element' ? [elementOp('add', one, indexOf)] : [])),
    ]);
  }

  #rest(changes: Changes, added: readonly Entry[], indexOf: IndexOf): void {
    const { rt } = this.#router!.space;
    // What a changed entry said before goes first where the new one does not replace it in place.
    const moved = changes.change.filter((one) => one.from.kind === 'fdb').map((one) => one.from);
    const removals = [...changes.remove, ...moved].flatMap((one) => removeOps(one, indexOf));
    for (const error of rt.tryApply(removals)) throwUnlessGone(error);
    rt.apply(added.flatMap((one) => addOps(one, indexOf)));
    for (const one of added) {
      if (one.kind !== 'tag' && one.kind !== 'tags') continue;
      const { hook, program } = programOf(one, indexOf);
      setProgram(this.#router!.space.ns, indexOf(one.port), hook, program);
    }

    const internet = this.#spaces.at(INTERNET);
    const isRoute = (one: Entry) => one.kind === 'public-route' || one.kind === 'internet-route';
    const gone = changes.remove.filter(isRoute);
    const come = added.filter(isRoute);
    if (gone.length + come.length === 0) return;
    const oif = internet.rt.link(INTERNET_LINK)!.index;
    const op = (verb: 'route-replace' | 'route-del') => (one: (typeof come)[number]) =>
      one.kind === 'public-route' ? publicRouteOp(verb, one.ip, oif) : internetRouteOp(verb, one.dst, oif);
    for (const error of internet.rt.tryApply(gone.map(op('route-del')))) throwUnlessGone(error);
    internet.rt.apply(come.map(op('route-replace')));
  }

  /**
   * A guest's link that comes up makes the router's end a port that forwards, and the first port makes its bridge send,
   * but in work items of the kernel. Asking for the link does them at once (Linux 6.8 on); before that they are waited for.
   */
  async #running(ports: readonly string[], should: Entries): Promise<void> {
    const { rt } = this.#router!.space;
    const bridges = new Set(ports.map((name) => (should.get(`port ${name}`) as PortEntry).bridge));
    if (ports.length === 0) return;
    const end = performance.now() + CARRIER_MS;
    for (const name of [...ports, ...bridges, GATEWAY_LINK]) {
      // A guest that took its link down again has its reasons: after the bound the lab goes on.
      while (rt.link(name)?.running === false && performance.now() < end) await sleep(1);
    }
  }

  /** No flow of an address outlives the address: its next holder would inherit it. */
  async #forgetFlows(removed: readonly Entry[]): Promise<void> {
    const ips = new Set<Ip>();
    const prefixes: Cidr[] = [];
    for (const entry of removed) {
      if (entry.kind === 'holder' && entry.hop.to === 'eni') {
        if (entry.dst.length === 128) ips.add(entry.dst.ip);
        else prefixes.push(entry.dst);
      }
      if (entry.kind !== 'element' || entry.family !== 'inet') continue;
      if (entry.set !== 'receivers' && entry.set !== 'public_to_private') continue;
      for (const part of entry.key) if ('ip' in part) ips.add(part.ip);
    }
    const { nf } = this.#router!;
    const named = ({ orig, reply }: ConntrackEntry) =>
      [orig.src, orig.dst, reply.src, reply.dst].some((ip) => prefixes.some((one) => cidrContains(one, ip)));
    await Promise.all([
      ...[...ips].map((ip) => nf.conntrackForget(ip)),
      ...(prefixes.length ? [nf.conntrackRemove(named)] : []),
    ]);
  }

  async #leave(router: Space, indexes: readonly number[]): Promise<void> {
    if (indexes.length === 0) return;
    const down = indexes.map((index): RtOp => ({ op: 'link-set', index, up: false, group: LEAVING }));
    for (const error of router.rt.tryApply(down)) throwUnlessGone(error);
    this.#fault('links down');
    for (const error of await router.rt.applyAsync([{ op: 'group-del', group: LEAVING }]))
      throwUnlessGone(error);
  }
}

/** Longest wait for the links of guests that have booted; it is a millisecond on an idle machine. */
const CARRIER_MS = 1000;
/** From so many new links on, one dump is cheaper than a question for each. */
const MANY_LINKS = 20;
const MAIN_TABLE = 254;
const LOCAL_TABLE = 255;

const roleOf = (where: string): NetnsEntry['role'] =>
  where === ROUTER ? 'router' : where === INTERNET ? 'internet' : isNatPlace(where) ? 'nat' : 'instance';

function throwUnlessGone(error: NetlinkError | null): void {
  if (error !== null && !GONE.has(error.code)) throw error;
}
