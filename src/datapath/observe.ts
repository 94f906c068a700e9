// Reads our nftables table into values. Reads only, and only our table, by name.
import { type Ip, ipFromBytes } from '../base/ip.ts';
import type { NftElement } from '../kernel/nfnetlink.ts';
import { NftError, type NftObject } from '../kernel/nftables.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import type { PodElement } from './diff.ts';
import { NFT_TABLE } from './marks.ts';
import type { Kernel } from './memory.ts';
import { INDEX_BYTES, PODS_MAP } from './nft.ts';

export type ObservedTable = {
  /** The table without its pods as one text, which stays equal until the table changes. */
  readonly kernel: string;
  readonly chains: readonly string[];
};

/** Null when the table is not there. */
export async function observeTable(kernel: Kernel): Promise<ObservedTable | null> {
  try {
    return readTable(await kernel.nft.list(`table inet ${NFT_TABLE}`));
  } catch (error) {
    if (error instanceof NftError && error.text.includes('No such file or directory')) return null;
    throw error;
  }
}

/** From `nft -j list table`. Handles and the pods are no part of the structure. */
export function readTable(objects: readonly NftObject[]): ObservedTable {
  const chains: string[] = [];
  const kept: unknown[] = [];
  for (const object of objects) {
    if ('metainfo' in object) continue;
    const chain = object['chain'] as { name?: string } | undefined;
    if (chain?.name !== undefined) chains.push(chain.name);
    const map = object['map'] as { name?: string } | undefined;
    kept.push(map?.name === PODS_MAP ? { map: { ...map, elem: [] } } : object);
  }
  return { kernel: JSON.stringify(kept, (key, value) => (key === 'handle' ? undefined : value)), chains };
}

/** False when the table or its map is gone. Uses netlink directly: libnftables first reads all chains. */
export const hasPodsMap = (kernel: Kernel): boolean => kernel.nf.hasSet('inet', NFT_TABLE, PODS_MAP);

/** Elements of the pods' map; null when the map is not there. `links` has the pods'. */
export function listElements(kernel: Kernel, links: readonly Link[]): PodElement[] | null {
  const indexOf = (name: string) => links.find((link) => link.name === name)?.index;
  try {
    return kernel.nf.listElements('inet', NFT_TABLE, PODS_MAP).map((each) => readElement(each, indexOf));
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

export const observeElements = (kernel: Kernel, links: readonly Link[]): PodElement[] =>
  listElements(kernel, links) ?? [];

const IPV4_BYTES = 4;

/** A map of the version before this one has the link's name in its keys. */
const nameIn = (key: Uint8Array): string =>
  Buffer.from(key.subarray(0, key.length - IPV4_BYTES))
    .toString()
    .replace(/\0.*/s, '');

function readElement(element: NftElement, indexOf: (name: string) => number | undefined): PodElement {
  const { key } = element;
  const ip: Ip = ipFromBytes(key.subarray(key.length - IPV4_BYTES));
  const isNamed = key.length !== INDEX_BYTES + IPV4_BYTES;
  const ifindex = isNamed
    ? (indexOf(nameIn(key)) ?? 0)
    : new DataView(key.buffer, key.byteOffset, INDEX_BYTES).getUint32(0, true);
  return { ifindex, ip, chain: element.verdict?.chain ?? '' };
}
