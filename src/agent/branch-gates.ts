// What the security groups of pods with branches let in, for what arrives on the node for them (host ports, NodePorts):
// the kernel tells for which pods something arrived, EC2 their groups' rules, which are asked again while more arrives.
// Invariant: what EC2 has not told lets nothing in, and is told. Nothing is asked for pods that nothing arrives for.
// Never throws.
import { type Clock, systemClock } from '../base/clock.ts';
import { asPodwayError } from '../base/errors.ts';
import type { Cidr } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { GroupCloud, IngressRule } from '../cloud/port.ts';
import type { GateRule } from '../datapath/branch-gate.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import type { Tell } from './tell.ts';

/** Between two looks for whom something arrived (ms). */
const LOOK_MS = 1_000;
/** Rules in use are asked again after this (ms, up to half longer). */
const REFRESH_MS = 60_000;
/** Rules of pods that nothing has arrived for in this time (ms) are forgotten. */
const KEEP_MS = 10 * 60_000;
/** Between two times that EC2 is asked (ms), at least; doubled after each failure, up to REFRESH_MS. */
const PAUSE_MS = 2_000;
/** Addresses and prefixes of a group that a rule names; a larger group lets nobody in here. */
const MOST_MEMBERS = 4_096;

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58 };
const WITH_PORTS = new Set([6, 17, 132]);
const ICMP = new Set([1, 58]);

export type BranchGatesOptions = {
  pool: Pick<AddressPool, 'held'> & { readonly cloud: Partial<GroupCloud> };
  datapath: Pick<Datapath, 'askedPods'>;
  /** Makes the kernel as the rules are now. */
  sync(): Promise<unknown>;
  tell: Tell;
  log: Log;
  clock?: Clock;
};

type WithBranch = Lease & { branch: NonNullable<Lease['branch']> };

export class BranchGates {
  readonly #o: BranchGatesOptions;
  readonly #clock: Clock;
  /** By branch ENI. */
  readonly #rules = new Map<string, readonly GateRule[]>();
  /** When something last arrived (ms), by branch ENI. */
  readonly #arrivedAt = new Map<string, number>();
  /** When EC2 may be asked again for what is not known, and when it is asked for what is (ms). */
  #mayAskAt = 0;
  #refreshAt = 0;
  #failures = 0;

  constructor(options: BranchGatesOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Undefined while they are not known. */
  of(eniId: string): readonly GateRule[] | undefined {
    return this.#rules.get(eniId);
  }

  /** Until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (await this.look(signal)) await this.#o.sync();
      } catch (error) {
        if (!signal.aborted) this.#o.log.warn({ error: String(error) }, 'arrivals for pods with branches');
      }
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  /** True when what is let in has changed. */
  async look(signal: AbortSignal): Promise<boolean> {
    const now = this.#clock.now();
    const pods = new Map(
      this.#o.pool.held().flatMap((lease) => (lease.branch ? [[lease.branch.id, lease as WithBranch]] : [])),
    );
    const asked = new Set(this.#o.datapath.askedPods());
    for (const [id, { ips }] of pods) if (ips.some((ip) => asked.has(ip))) this.#arrivedAt.set(id, now);
    let isChanged = false;
    for (const [id, at] of this.#arrivedAt) {
      if (pods.has(id) && now - at < KEEP_MS) continue;
      this.#arrivedAt.delete(id);
      isChanged = this.#rules.delete(id) || isChanged;
    }
    const wanted = [...this.#arrivedAt.keys()];
    const isOneUnknown = wanted.some((id) => !this.#rules.has(id));
    const isDue = now >= this.#mayAskAt && (isOneUnknown || now >= this.#refreshAt);
    if (wanted.length === 0 || !isDue) return isChanged;
    return (await this.#ask(wanted, pods, signal)) || isChanged;
  }

  async #ask(
    wanted: readonly string[],
    pods: ReadonlyMap<string, WithBranch>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const before = JSON.stringify(textOf(this.#rules));
    try {
      await this.#learn(wanted, pods, signal);
      this.#failures = 0;
    } catch (error) {
      if (signal.aborted) return false;
      this.#failures++;
      const { message } = asPodwayError(error);
      for (const id of wanted.filter((one) => !this.#rules.has(one)))
        this.#tell(
          pods.get(id)!,
          `nothing that arrives on the node reaches the pod: its groups’ rules are not known: ${message}`,
        );
    }
    const now = this.#clock.now();
    this.#mayAskAt = now + Math.min(PAUSE_MS * 2 ** this.#failures, REFRESH_MS);
    this.#refreshAt = now + REFRESH_MS * (1 + Math.random() / 2);
    return JSON.stringify(textOf(this.#rules)) !== before;
  }

  async #learn(
    wanted: readonly string[],
    pods: ReadonlyMap<string, WithBranch>,
    signal: AbortSignal,
  ): Promise<void> {
    const { cloud } = this.#o.pool;
    const groupsOf = await cloud.describeGroupsOf!(wanted, signal);
    const groups = [...new Set([...groupsOf.values()].flat())].sort();
    const rules = groups.length === 0 ? [] : await cloud.describeIngressRules!(groups, signal);
    const named = [
      ...new Set(rules.flatMap(({ peer }) => (peer.kind === 'group' ? peer.groupId : []))),
    ].sort();
    const members = named.length === 0 ? new Map() : await cloud.describeMembers!(named, signal);
    for (const id of wanted) {
      const pod = pods.get(id)!;
      const own = groupsOf.get(id);
      if (own === undefined) {
        this.#rules.delete(id);
        this.#tell(
          pod,
          `nothing that arrives on the node reaches the pod: EC2 does not know its branch ${id}`,
        );
        continue;
      }
      const gate: GateRule[] = [];
      for (const rule of rules.filter(({ groupId }) => own.includes(groupId))) {
        const read = readRule(rule, members);
        if (typeof read === 'string')
          this.#tell(
            pod,
            `the rule ${rule.id} of ${rule.groupId} lets nothing in at host ports and NodePorts: ${read}`,
          );
        else gate.push(read);
      }
      this.#rules.set(id, gate);
    }
  }

  #tell({ owner, branch }: WithBranch, text: string): void {
    this.#o.tell({
      kind: 'arrivals',
      object: `${branch.id} ${text}`,
      text,
      ...(owner.pod ? { pod: owner.pod } : {}),
    });
  }
}

/** Why a rule cannot be judged on the node, or what it lets in. */
export function readRule(
  { protocol: word, fromPort, toPort, peer }: IngressRule,
  members: ReadonlyMap<string, readonly Cidr[]>,
): GateRule | string {
  const protocol = word === '-1' ? null : (PROTOCOLS[word] ?? Number(word));
  if (protocol !== null && !(Number.isInteger(protocol) && protocol >= 0 && protocol <= 255))
    return `the protocol ${word} is not known`;
  if (peer.kind === 'prefix-list') return `prefix lists (${peer.id}) are not read on nodes; name its CIDRs`;
  const sources = peer.kind === 'cidr' ? [peer.cidr] : (members.get(peer.groupId) ?? []);
  if (sources.length > MOST_MEMBERS)
    return `${peer.kind === 'group' ? peer.groupId : ''} has ${sources.length} addresses, more than ${MOST_MEMBERS}`;
  const hasType = protocol !== null && ICMP.has(protocol) && fromPort >= 0;
  const hasPorts = protocol !== null && WITH_PORTS.has(protocol) && fromPort >= 0;
  return {
    protocol,
    ports: hasPorts ? [fromPort, toPort] : hasType ? [fromPort, fromPort] : null,
    ...(hasType && toPort >= 0 ? { code: toPort } : {}),
    sources,
  };
}

/** As JSON can compare them. */
const textOf = (rules: ReadonlyMap<string, readonly GateRule[]>) =>
  [...rules].map(([id, gate]) => [
    id,
    gate.map(({ sources, ...rest }) => ({
      ...rest,
      sources: sources.map(({ ip, length }) => `${ip}/${length}`),
    })),
  ]);
