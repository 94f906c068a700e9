// Notifications of a link's IPv4 settings (RTM_NEWNETCONF, struct netconfmsg). The kernel sends them only for some
// settings; others (arp_ignore, src_valid_mark, …) change without one.
import { Attributes } from './attribute.ts';
import type { Message } from './message.ts';

export const RTM_NEWNETCONF = 80;

const AF_INET = 2;
const NETCONFA_IFINDEX = 1;
const NETCONFA_FORWARDING = 2;
const NETCONFA_RP_FILTER = 3;
/** struct netconfmsg is one byte, padded. */
const HEADER = 4;

export type Netconf = {
  /** Index of the link; -1: `all`, -2: `default`. */
  index: number;
  /** Absent when the message does not contain it. */
  forwarding?: number;
  rpFilter?: number;
};

/** Null for families other than IPv4. */
export function decodeNetconf(message: Message): Netconf | null {
  if (message.bytes[message.start] !== AF_INET) return null;
  const attributes = new Attributes(message.bytes, message.start + HEADER, message.end);
  const forwarding = attributes.i32(NETCONFA_FORWARDING);
  const rpFilter = attributes.i32(NETCONFA_RP_FILTER);
  return {
    index: attributes.i32(NETCONFA_IFINDEX) ?? 0,
    ...(forwarding === undefined ? {} : { forwarding }),
    ...(rpFilter === undefined ? {} : { rpFilter }),
  };
}
