// Finds rules of one policy that hardly do what was meant: rules that an earlier rule makes useless, and ports with a
// protocol by which no pod serves them. Pure.
import type { Direction, Peers, PodView, Policy, PolicyRule, Port } from './model.ts';
import { PORT_PROTOCOLS, PROTOCOL_NAMES, TCP, UDP } from './model.ts';

export type RuleSaid = { readonly kind: 'shadowed' | 'protocol'; readonly text: string };

const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];
const DNS_PORT = 53;

/** Addresses of IPv6 are bigints, which have no JSON of their own. */
const textOf = (peer: Peers): string =>
  JSON.stringify(peer, (_key, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));

const coversPort = (wide: Port, port: Port): boolean => {
  if (wide.protocol !== port.protocol) return false;
  if ('name' in wide || 'name' in port) return 'name' in wide && 'name' in port && wide.name === port.name;
  return wide.from <= port.from && port.to <= wide.to;
};

/** Whatever matches `rule` matches `wide`. Peers are compared as they are written. */
function covers(wide: PolicyRule, rule: PolicyRule): boolean {
  const all = new Set(wide.peers.map(textOf));
  const isAny = wide.peers.some(({ kind }) => kind === 'any');
  if (!isAny && !rule.peers.every((peer) => all.has(textOf(peer)))) return false;
  if (wide.ports === null) return true;
  return rule.ports !== null && rule.ports.every((port) => wide.ports!.some((one) => coversPort(one, port)));
}

/**
 * Rules of a NetworkPolicy have no order: the one that says less is told, or of two that are the same the later one.
 */
export function shadowed({ tier, ...policy }: Policy): RuleSaid[] {
  return DIRECTIONS.flatMap((direction) =>
    (policy[direction] ?? []).flatMap((rule, at, rules): RuleSaid[] => {
      if (rule.peers.length === 0) return [];
      const by = rules.find(
        (other, place) =>
          place !== at &&
          covers(other, rule) &&
          (place < at || (tier === 'networkpolicy' && !covers(rule, other))),
      );
      if (!by) return [];
      const text = `rule ${rule.index} of ${direction} adds nothing: rule ${by.index} matches all that it matches`;
      return [{ kind: 'shadowed', text }];
    }),
  );
}

/** A port without a protocol is one of TCP: often the one of UDP was meant. */
export function protocols(policy: Policy, subjects: readonly PodView[]): RuleSaid[] {
  return DIRECTIONS.flatMap((direction) =>
    (policy[direction] ?? []).flatMap(({ index, ports, verdict }) => {
      if (verdict !== 'allow' || ports === null) return [];
      return ports.flatMap((port): RuleSaid[] => {
        if ('name' in port || port.from !== port.to) return [];
        const opens = `rule ${index} of ${direction} opens ${port.from}/${PROTOCOL_NAMES[port.protocol]}`;
        if (direction === 'egress') {
          const hasUdp = policy.egress!.some(
            (rule) =>
              rule.ports === null ||
              rule.ports.some((one) => coversPort(one, { protocol: UDP, from: DNS_PORT, to: DNS_PORT })),
          );
          if (port.from !== DNS_PORT || port.protocol !== TCP || hasUdp) return [];
          return [{ kind: 'protocol', text: `${opens} and no rule opens it by udp, by which DNS is asked` }];
        }
        const served = subjects.flatMap((pod) => pod.ports.filter((one) => one.port === port.from));
        if (served.length === 0 || served.some(({ protocol }) => protocol === port.protocol)) return [];
        const by = PORT_PROTOCOLS.filter((one) => served.some(({ protocol }) => protocol === one));
        const names = by.map((one) => PROTOCOL_NAMES[one]).join(' and ');
        return [{ kind: 'protocol', text: `${opens}, which its pods serve by ${names}` }];
      });
    }),
  );
}
