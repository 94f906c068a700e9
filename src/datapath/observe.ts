// What nftables holds of ours, as values. Reads only, and only our table, by name.
import { type Ip, ipFromBytes } from '../base/ip.ts';
import type { NftElement } from '../kernel/nfnetlink.ts';
import { NftError, type NftObject } from '../kernel/nftables.ts';
import type { PodElement } from './diff.ts';
import { NFT_TABLE } from './marks.ts';
import type { Kernel } from './memory.ts';
import { IFNAMSIZ, PODS_MAP } from './nft.ts';

export type ObservedTable = {
  /** The table without its pods, as one text that is equal as long as nobody changes it. */
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

/** False when the table, or its map, is gone. By own netlink: libnftables reads all chains of the namespace first. */
export const hasPodsMap = (kernel: Kernel): boolean => kernel.nf.hasSet('inet', NFT_TABLE, PODS_MAP);

/** Elements of the pods' map; null when the map is not there. */
export function listElements(kernel: Kernel): PodElement[] | null {
  try {
    return kernel.nf.listElements('inet', NFT_TABLE, PODS_MAP).map(readElement);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

export const observeElements = (kernel: Kernel): PodElement[] => listElements(kernel) ?? [];

function readElement(element: NftElement): PodElement {
  const name = element.key.subarray(0, IFNAMSIZ);
  const end = name.indexOf(0);
  const ip: Ip = ipFromBytes(element.key.subarray(IFNAMSIZ));
  return {
    hostIfname: Buffer.from(name.subarray(0, end < 0 ? IFNAMSIZ : end)).toString(),
    ip,
    chain: element.verdict?.chain ?? '',
  };
}
