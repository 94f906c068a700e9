// Computes the operations that make the kernel hold the desired values. Pure: returns operations with their texts.
// Invariant: only objects with our protocol number, or elements of our map, are ever deleted.
import { type Cidr, familyOf, formatCidr, type Ip } from '../base/ip.ts';
import {
  type Address,
  MAIN_TABLE,
  type Route,
  type RouteOp,
  type RtOp,
  type Rule,
  type RuleOp,
} from '../kernel/rtnetlink.ts';
import { isOurTable, PROTOCOL } from './marks.ts';

/** `object` names what the operation is about, whatever is done with it: the same object is the same text. */
export type Change = { readonly op: RtOp; readonly object: string; readonly text: string };

type RuleValues = Omit<RuleOp, 'op'>;
type RouteValues = Omit<RouteOp, 'op'>;

const ruleText = (rule: {
  family: number;
  priority: number;
  table: number;
  fwmark?: number | null;
  to?: Cidr | null;
}): string =>
  `rule IPv${rule.family} ${rule.priority}${rule.to ? ` to ${formatCidr(rule.to)}` : ''}${rule.fwmark ? ` mark 0x${rule.fwmark.toString(16)}` : ''} table ${rule.table}`;

const ruleKey = (rule: RuleValues | Rule): string =>
  JSON.stringify([
    rule.family,
    rule.priority,
    rule.table,
    rule.fwmark ?? 0,
    // The kernel fills in all bits when a mark comes without a mask.
    (rule.fwmark ?? 0) === 0 && (rule.fwmask ?? 0) === 0 ? 0 : (rule.fwmask ?? 0xffffffff),
    rule.invert ?? false,
    rule.action ?? 'lookup',
    rule.goto ?? 0,
    rule.iifname ?? '',
    rule.oifname ?? '',
    rule.from ? formatCidr(rule.from) : '',
    rule.to ? formatCidr(rule.to) : '',
  ]);

/** Additions come before deletions: a packet may meet both the old and the new rule, but never neither. */
export function diffRules(observed: readonly Rule[], desired: readonly RuleValues[]): Change[] {
  const ours = observed.filter((rule) => rule.protocol === PROTOCOL && rule.action !== 'other');
  const have = new Map<string, Rule[]>();
  for (const rule of ours) have.set(ruleKey(rule), [...(have.get(ruleKey(rule)) ?? []), rule]);
  const changes: Change[] = [];
  for (const rule of desired) {
    // Two equal rules (somebody restored ours beside ours) count as one and a leftover.
    if (have.get(ruleKey(rule))?.pop() === undefined) {
      changes.push({
        op: { op: 'rule-add', ...rule },
        object: ruleText(rule),
        text: `add ${ruleText(rule)}`,
      });
    }
  }
  const wanted = new Map(desired.map((rule) => [ruleKey(rule), rule]));
  const standing = [...ours];
  for (const rule of [...have.values()].flat()) {
    const object = ruleText(rule);
    const deletion = {
      op: { op: 'rule-del', ...selectors(rule) },
      object,
      text: `delete ${object}`,
    } as const;
    while (standing.includes(rule)) {
      const [hit] = standing.splice(
        standing.findIndex((other) => isDeletedBy(rule, other)),
        1,
      );
      changes.push(deletion);
      if (ruleKey(hit!) === ruleKey(rule)) break;
      const again = wanted.get(ruleKey(hit!));
      if (again) changes.push({ op: { op: 'rule-add', ...again }, object, text: deletion.text });
    }
  }
  return changes;
}

/**
 * The kernel deletes the first rule that matches all selectors of the request, even if the rule has more selectors. So
 * deleting a less specific rule may delete a rule of ours before it, which then has to be added again.
 */
function isDeletedBy(request: Rule, rule: Rule): boolean {
  const cidr = (value: Cidr | null) => (value === null ? null : formatCidr(value));
  const same = <T>(asked: T | null, has: T | null) => asked === null || asked === has;
  return (
    rule.family === request.family &&
    rule.priority === request.priority &&
    rule.table === request.table &&
    rule.action === request.action &&
    (request.fwmark === 0 || (rule.fwmark === request.fwmark && rule.fwmask === request.fwmask)) &&
    same(request.iifname, rule.iifname) &&
    same(request.oifname, rule.oifname) &&
    same(cidr(request.from), cidr(rule.from)) &&
    same(cidr(request.to), cidr(rule.to))
  );
}

/** linux/rtnetlink.h: RT_TABLE_DEFAULT, RTPROT_KERNEL. */
const DEFAULT_TABLE = 253;
const KERNEL_PROTOCOL = 2;
/** The rules that the kernel makes in a new namespace; IPv6 has none for `default`. */
const KERNEL_RULES = [
  { family: 4, priority: 32766, table: MAIN_TABLE, name: 'main' },
  { family: 4, priority: 32767, table: DEFAULT_TABLE, name: 'default' },
  { family: 6, priority: 32766, table: MAIN_TABLE, name: 'main' },
] as const;

/**
 * The missing ones of the kernel's own rules for `main` and `default`, which `ip rule flush` deletes: without them
 * nothing leaves the node. A rule at another priority counts as present.
 */
export function missingKernelRules(observed: readonly Rule[], families: readonly (4 | 6)[]): Change[] {
  const leadsTo = (rule: Rule, family: number, table: number) =>
    rule.family === family &&
    rule.table === table &&
    rule.action === 'lookup' &&
    rule.suppressPrefixLength === null &&
    !rule.invert &&
    rule.fwmark === 0 &&
    [rule.from, rule.to, rule.iifname, rule.oifname].every((selector) => selector === null);
  return KERNEL_RULES.filter(
    ({ family, table }) =>
      families.includes(family) && !observed.some((rule) => leadsTo(rule, family, table)),
  ).map(({ name, ...rule }) => ({
    op: { op: 'rule-add', ...rule, protocol: KERNEL_PROTOCOL },
    object: ruleText(rule),
    text: `add the kernel’s own rule IPv${rule.family} ${rule.priority} for ${name}`,
  }));
}

function selectors(rule: Rule): RuleValues {
  const { family, priority, table, fwmark, fwmask, iifname, oifname, from, to, protocol, invert, action } =
    rule;
  return {
    family,
    priority,
    table,
    protocol,
    ...(fwmark === 0 && fwmask === 0 ? {} : { fwmark, fwmask }),
    ...(invert ? { invert } : {}),
    ...(action === 'lookup' || action === 'other' ? {} : { action }),
    ...(rule.goto === null ? {} : { goto: rule.goto }),
    ...(iifname === null ? {} : { iifname }),
    ...(oifname === null ? {} : { oifname }),
    ...(from === null ? {} : { from }),
    ...(to === null ? {} : { to }),
  };
}

/** What the kernel gives to a route that names no metric (IP6_RT_PRIO_USER). */
export const defaultMetric = (dst: Cidr): number => (familyOf(dst.ip) === 6 ? 1024 : 0);

const routePlace = (route: RouteValues | Route): string =>
  `${route.table} ${formatCidr(route.dst)} ${route.metric ?? defaultMetric(route.dst)}`;

const routeText = (route: RouteValues | Route): string =>
  `route ${formatCidr(route.dst)} table ${route.table}`;

function sameRoute(have: Route, want: RouteValues): boolean {
  return (
    have.type === (want.type ?? 'unicast') &&
    (have.oif ?? 0) === (want.oif ?? blackholeOif(have)) &&
    (have.gateway ?? null) === (want.gateway ?? null) &&
    have.onlink === (want.onlink ?? false) &&
    (have.src ?? null) === (want.src ?? null) &&
    have.protocol === (want.protocol ?? PROTOCOL) &&
    (want.scope === undefined ||
      want.type === 'blackhole' ||
      want.type === 'unreachable' ||
      familyOf(want.dst.ip) === 6 ||
      have.scope === want.scope)
  );
}

/** IPv6 reports lo as the link of a black hole; IPv4 reports none. */
const blackholeOif = (have: Route): number => (have.type === 'unicast' ? 0 : (have.oif ?? 0));

/** `observed` is every route with our protocol number; those outside our tables (none of ours makes any) are left. */
export function diffRoutes(observed: readonly Route[], desired: readonly RouteValues[]): Change[] {
  const have = new Map<string, Route>();
  for (const route of observed) {
    if (route.protocol === PROTOCOL && isOurTable(route.table)) have.set(routePlace(route), route);
  }
  const changes: Change[] = [];
  for (const route of desired) {
    const place = routePlace(route);
    const there = have.get(place);
    have.delete(place);
    if (there && sameRoute(there, route)) continue;
    changes.push({
      op: { op: 'route-replace', ...route },
      object: routeText(route),
      text: `${there ? 'replace' : 'add'} ${routeText(route)}`,
    });
  }
  for (const route of have.values()) {
    changes.push({
      op: {
        op: 'route-del',
        dst: route.dst,
        table: route.table,
        type: route.type as 'unicast' | 'blackhole' | 'unreachable',
        metric: route.metric,
        protocol: PROTOCOL,
      },
      object: routeText(route),
      text: `delete ${routeText(route)}`,
    });
  }
  return changes;
}

type WantedAddress = { ip: Ip; length: number; noPrefixRoute: boolean; noDad?: boolean };

/**
 * Addresses of a secondary ENI's link. The link is ours, so every other global address on it is removed: one with a
 * prefix adds a second route to the subnet to `main`, and a pod's address would make the node consume its packets.
 */
export function diffAddresses(
  index: number,
  observed: readonly Address[],
  desired: readonly WantedAddress[],
): Change[] {
  const changes: Change[] = [];
  const key = (address: { ip: Ip; length: number; noPrefixRoute: boolean }) =>
    `${address.ip} ${address.length} ${address.noPrefixRoute}`;
  const wanted = new Set(desired.map(key));
  const have = new Set(observed.map(key));
  for (const address of observed) {
    const linkLocal6 = familyOf(address.ip) === 6 && address.scope !== 0;
    if (linkLocal6 || wanted.has(key(address))) continue;
    const object = addressText(index, address);
    const { ip, length } = address;
    changes.push({ op: { op: 'addr-del', index, ip, length }, object, text: `delete ${object}` });
  }
  for (const address of desired) {
    if (have.has(key(address))) continue;
    const object = addressText(index, address);
    changes.push({ op: { op: 'addr-add', index, ...address }, object, text: `add ${object}` });
  }
  return changes;
}

const addressText = (index: number, { ip, length }: { ip: Ip; length: number }): string =>
  `address ${formatCidr({ ip, length })} of link ${index}`;

/** An element of the pods' map: link and address to the chain of an ENI. */
export type PodElement = { readonly ifindex: number; readonly ip: Ip; readonly chain: string };

const elementKey = (element: PodElement): string => `${element.ifindex} ${element.ip}`;

export function diffElements(
  observed: readonly PodElement[],
  desired: readonly PodElement[],
): { remove: PodElement[]; add: PodElement[] } {
  const have = new Map(observed.map((element) => [elementKey(element), element]));
  const remove: PodElement[] = [];
  const add: PodElement[] = [];
  for (const element of desired) {
    const there = have.get(elementKey(element));
    have.delete(elementKey(element));
    if (there?.chain === element.chain) continue;
    if (there) remove.push(there);
    add.push(element);
  }
  return { remove: [...remove, ...have.values()], add };
}
