// The forward chain of the old iptables (x_tables), which nftables does not list: read by getsockopt, never changed. Only
// where the filter table is in use already: asking for one that is not there makes it, and each packet then pays for it.
import { readFileSync } from 'node:fs';
import { SyscallError } from './errors.ts';
import { lastErrno, libc } from './ffi.ts';
import type { ForwardRule } from './forward-rules.ts';
import { type Netns, withNetns } from './netns.ts';

const AF_INET = 2;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const IPPROTO_RAW = 255;
const IPPROTO_IP = 0;
// linux/netfilter_ipv4/ip_tables.h
const IPT_SO_GET_INFO = 64;
const IPT_SO_GET_ENTRIES = 65;
const TABLE = 'filter';
const NAME_LENGTH = 32;
/** struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
const INFO_LENGTH = 84;
const AT_HOOK_ENTRY = 36;
const AT_UNDERFLOW = 56;
const AT_SIZE = 80;
/** struct ipt_get_entries: name, size, then the entries, aligned. */
const ENTRIES_AT = 40;
const FORWARD = 2;
/** struct ipt_entry: ipt_ip, then these; the matches follow, then the target. */
const AT_IN = 16;
const AT_IN_MASK = 48;
const AT_OUT = 32;
const AT_OUT_MASK = 64;
const IP_LENGTH = 84;
const AT_TARGET = 88;
const AT_NEXT = 90;
const ENTRY_LENGTH = 112;
/** struct xt_entry_target: size, name[29], revision; a standard target's verdict follows. */
const AT_TARGET_NAME = 2;
const TARGET_NAME_LENGTH = 29;
const AT_VERDICT = 32;
const DROP = -1;
const ACCEPT = -2;

type LegacyForward = { policy: 'accept' | 'drop'; rules: ForwardRule[] };

/** Null when the table is not in use in the namespace. `prefix`: of links' names. */
export function legacyForward(netns: Netns, prefix: string): LegacyForward | null {
  const blob = withNetns(netns, () => (isInUse() ? readTable() : null));
  return blob && parseForward(blob.info, blob.entries, prefix);
}

function isInUse(): boolean {
  try {
    return /^filter$/m.test(readFileSync('/proc/thread-self/net/ip_tables_names', 'utf8'));
  } catch {
    return false; // a kernel without x_tables
  }
}

function readTable(): { info: Uint8Array; entries: Uint8Array } {
  const c = libc();
  const fd = c.socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  if (fd < 0) throw new SyscallError('socket for iptables', lastErrno());
  try {
    const info = named(INFO_LENGTH);
    ask(fd, IPT_SO_GET_INFO, info);
    const size = viewOf(info).getUint32(AT_SIZE, true);
    const answer = named(ENTRIES_AT + size);
    viewOf(answer).setUint32(NAME_LENGTH, size, true);
    ask(fd, IPT_SO_GET_ENTRIES, answer);
    return { info, entries: answer.subarray(ENTRIES_AT) };
  } finally {
    c.close(fd);
  }
}

function named(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(Buffer.from(TABLE));
  return bytes;
}

function ask(fd: number, option: number, bytes: Uint8Array): void {
  const length = new Uint8Array(4);
  viewOf(length).setUint32(0, bytes.length, true);
  if (libc().getsockopt(fd, IPPROTO_IP, option, bytes, length) !== 0)
    throw new SyscallError('getsockopt of iptables filter', lastErrno());
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Pure: the two answers of the kernel as a chain. */
function parseForward(info: Uint8Array, entries: Uint8Array, prefix: string): LegacyForward {
  const at = (offset: number) => viewOf(info).getUint32(offset + 4 * FORWARD, true);
  const end = at(AT_UNDERFLOW);
  const rules: ForwardRule[] = [];
  for (let place = at(AT_HOOK_ENTRY); place < end; ) {
    const next = viewOf(entries).getUint16(place + AT_NEXT, true);
    if (next < ENTRY_LENGTH) throw new RangeError(`an entry of iptables has ${next} bytes`);
    rules.push(ruleOf(entries.subarray(place, place + next), prefix));
    place += next;
  }
  return { policy: verdictOf(entries.subarray(end)) === DROP ? 'drop' : 'accept', rules };
}

function ruleOf(entry: Uint8Array, prefix: string): ForwardRule {
  const hasMatches = viewOf(entry).getUint16(AT_TARGET, true) !== ENTRY_LENGTH;
  const verdict = verdictOf(entry);
  if (hasMatches || verdict === undefined) return 'other';
  const conditions = entry.slice(0, IP_LENGTH);
  if (isEmpty(conditions)) return verdict === DROP ? 'drops-all' : 'accepts-all';
  if (verdict === DROP) return 'other';
  for (const [rule, name, mask] of [
    ['accepts-from', AT_IN, AT_IN_MASK],
    ['accepts-to', AT_OUT, AT_OUT_MASK],
  ] as const) {
    const left = conditions.slice();
    const says = Buffer.from(left.subarray(name, name + prefix.length)).toString() === prefix;
    const length = left.subarray(mask, mask + 16).findIndex((byte) => byte === 0);
    left.fill(0, name, name + 16).fill(0, mask, mask + 16);
    if (says && length === prefix.length && isEmpty(left)) return rule;
  }
  return 'other';
}

const isEmpty = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** ACCEPT and DROP, REJECT as DROP; undefined for a jump and for what decides nothing. */
function verdictOf(entry: Uint8Array): number | undefined {
  const target = viewOf(entry).getUint16(AT_TARGET, true);
  const name = entry.subarray(target + AT_TARGET_NAME, target + AT_TARGET_NAME + TARGET_NAME_LENGTH);
  const text = Buffer.from(name.subarray(0, name.indexOf(0))).toString();
  if (text === 'REJECT') return DROP;
  const verdict = text === '' ? viewOf(entry).getInt32(target + AT_VERDICT, true) : undefined;
  return verdict === DROP || verdict === ACCEPT ? verdict : undefined;
}
