// What every netfilter message begins with (struct nfgenmsg: family u8, version u8, resource id u16 in network order).
import type { ByteWriter } from './bytes.ts';
import { beginMessage } from './message.ts';

export const NFGEN_LENGTH = 4;
export const SUBSYSTEM_CONNTRACK = 1;
export const SUBSYSTEM_NFTABLES = 10;

/** Families of nftables (NFPROTO_*). */
export const NFT_FAMILIES = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;
export type NftFamily = keyof typeof NFT_FAMILIES;

export function beginNetfilter(
  w: ByteWriter,
  subsystem: number,
  type: number,
  flags: number,
  family: number,
  resource = 0,
): number {
  const message = beginMessage(w, (subsystem << 8) | type, flags);
  const at = w.take(NFGEN_LENGTH);
  w.bytes[at] = family;
  w.view.setUint16(at + 2, resource, false);
  return message;
}
