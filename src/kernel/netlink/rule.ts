// Policy routing rules (rtnetlink RTM_*RULE, struct fib_rule_hdr). Ours carry our protocol number; a deletion matches
// every value it names, the protocol among them.
import { type Cidr, cidrOf } from '../../base/ip.ts';
import { AF_INET, AF_INET6 } from './address.ts';
import { Attributes, putIp, putText, putU8, putU32 } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { beginMessage, endMessage, type Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts';
import { PROTOCOL } from './route.ts';

export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_GOTO = 4;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_OIFNAME = 17;
const FRA_PROTOCOL = 21;
const FIB_RULE_INVERT = 0x2;
/** Table of the header when it stands in the attribute (RT_TABLE_UNSPEC). */
const TABLE_IN_ATTRIBUTE = 0;
const NO_SUPPRESSION = 0xffffffff;

const ACTIONS = { lookup: 1, goto: 2, blackhole: 6, unreachable: 7, prohibit: 8 } as const;
export type RuleAction = keyof typeof ACTIONS;
const actionNames = new Map<number, RuleAction>(
  Object.entries(ACTIONS).map(([name, n]) => [n, name as RuleAction]),
);

export type RuleOp = {
  op: 'rule-add' | 'rule-del';
  family: 4 | 6;
  priority: number;
  from?: Cidr;
  to?: Cidr;
  iifname?: string;
  oifname?: string;
  fwmark?: number;
  /** Default: all bits, when a mark is named. */
  fwmask?: number;
  /** `not`: everything that the selectors do not match. */
  invert?: boolean;
  table: number;
  /** Default PROTOCOL; 0 in a deletion matches any. */
  protocol?: number;
  /** Reject results whose prefix is this long or shorter, and go on with the next rule. */
  suppressPrefixLength?: number;
  /** Default lookup; the others ignore the table. */
  action?: RuleAction;
  /** Of the action `goto`: the priority to go on at. */
  goto?: number;
};

export type Rule = {
  family: 4 | 6;
  priority: number;
  from: Cidr | null;
  to: Cidr | null;
  iifname: string | null;
  oifname: string | null;
  /** Unsigned. */
  fwmark: number;
  fwmask: number;
  invert: boolean;
  table: number;
  protocol: number;
  suppressPrefixLength: number | null;
  /** `other` for nop and whatever else we never make. */
  action: RuleAction | 'other';
  /** Of the action `goto`. */
  goto: number | null;
};

export function encodeRuleOp(w: ByteWriter, op: RuleOp): number {
  const message = beginMessage(
    w,
    op.op === 'rule-add' ? RTM_NEWRULE : RTM_DELRULE,
    op.op === 'rule-add' ? NLM_F_CREATE | NLM_F_EXCL : 0,
  );
  // A deletion that names no action matches any (0).
  const action = op.action === undefined && op.op === 'rule-del' ? 0 : ACTIONS[op.action ?? 'lookup'];
  const at = w.take(12);
  w.bytes[at] = op.family === 4 ? AF_INET : AF_INET6;
  w.bytes[at + 1] = op.to?.length ?? 0;
  w.bytes[at + 2] = op.from?.length ?? 0;
  w.bytes[at + 4] = op.table > 255 ? TABLE_IN_ATTRIBUTE : op.table;
  w.bytes[at + 7] = action;
  w.view.setUint32(at + 8, op.invert ? FIB_RULE_INVERT : 0, true);
  if (op.to && op.to.length > 0) putIp(w, FRA_DST, op.to.ip);
  if (op.from && op.from.length > 0) putIp(w, FRA_SRC, op.from.ip);
  if (op.iifname !== undefined) putText(w, FRA_IIFNAME, op.iifname);
  if (op.oifname !== undefined) putText(w, FRA_OIFNAME, op.oifname);
  putU32(w, FRA_PRIORITY, op.priority);
  if (op.fwmark !== undefined) putU32(w, FRA_FWMARK, op.fwmark);
  if (op.fwmask !== undefined) putU32(w, FRA_FWMASK, op.fwmask);
  if (action <= ACTIONS.lookup && op.table > 255) putU32(w, FRA_TABLE, op.table);
  if (op.goto !== undefined) putU32(w, FRA_GOTO, op.goto);
  if (op.suppressPrefixLength !== undefined) putU32(w, FRA_SUPPRESS_PREFIXLEN, op.suppressPrefixLength);
  putU8(w, FRA_PROTOCOL, op.protocol ?? PROTOCOL);
  endMessage(w, message);
  return 1;
}

export function encodeRuleDump(w: ByteWriter, family: 4 | 6): void {
  const message = beginMessage(w, RTM_GETRULE, NLM_F_DUMP);
  const at = w.take(12);
  w.bytes[at] = family === 4 ? AF_INET : AF_INET6;
  endMessage(w, message);
}

export function decodeRule(message: Message): Rule | null {
  const { bytes, start } = message;
  const family = bytes[start];
  if (family !== AF_INET && family !== AF_INET6) return null;
  const attributes = new Attributes(bytes, start + 12, message.end);
  const suppress = attributes.u32(FRA_SUPPRESS_PREFIXLEN);
  const prefix = (type: number, length: number): Cidr | null => {
    const ip = attributes.ip(type);
    return ip === undefined ? null : cidrOf(ip, length);
  };
  const fwmark = attributes.u32(FRA_FWMARK) ?? 0;
  return {
    family: family === AF_INET ? 4 : 6,
    priority: attributes.u32(FRA_PRIORITY) ?? 0,
    from: prefix(FRA_SRC, bytes[start + 2]!),
    to: prefix(FRA_DST, bytes[start + 1]!),
    iifname: attributes.text(FRA_IIFNAME) ?? null,
    oifname: attributes.text(FRA_OIFNAME) ?? null,
    fwmark,
    fwmask: attributes.u32(FRA_FWMASK) ?? 0,
    invert: (bytes[start + 8]! & FIB_RULE_INVERT) !== 0,
    table: attributes.u32(FRA_TABLE) ?? bytes[start + 4]!,
    protocol: attributes.u8(FRA_PROTOCOL) ?? 0,
    suppressPrefixLength: suppress === undefined || suppress === NO_SUPPRESSION ? null : suppress,
    action: actionNames.get(bytes[start + 7]!) ?? 'other',
    goto: attributes.u32(FRA_GOTO) ?? null,
  };
}
