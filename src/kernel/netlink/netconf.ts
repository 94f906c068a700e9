// Notifications of a link's IPv4 and IPv6 settings (RTM_NEWNETCONF, struct netconfmsg). The kernel sends them only for some
// settings; others (arp_ignore, src_valid_mark, …) change without one.
import { Attributes } from './attribute.ts';
import type { Message } from './message.ts';

export const RTM_NEWNETCONF = 80;

const AF_INET = 2;
const AF_INET6 = 10;
const NETCONFA_IFINDEX = 1;
const NETCONFA_FORWARDING = 2;
const NETCONFA_RP_FILTER = 3;
/** struct netconfmsg is one byte, padded. */
const HEADER = 4;

export type Netconf = {
  family: 4 | 6;
  /** Index of the link; -1: `all`, -2: `default`. */
  index: number;
  /** Absent when the message does not contain it. */
  forwarding?: number;
  rpFilter?: number;
};

/** Null for other families. */
export function decodeNetconf(message: Message): Netconf | null {
  const family = message.bytes[message.start];
  if (family !== AF_INET && family !== AF_INET6) return null;
  const attributes = new Attributes(message.bytes, message.start + HEADER, message.end);
  const forwarding = attributes.i32(NETCONFA_FORWARDING);
  const rpFilter = attributes.i32(NETCONFA_RP_FILTER);
  return {
    family: family === AF_INET ? 4 : 6,
    index: attributes.i32(NETCONFA_IFINDEX) ?? 0,
    ...(forwarding === undefined ? {} : { forwarding }),
    ...(rpFilter === undefined ? {} : { rpFilter }),
  };
}
