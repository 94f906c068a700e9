// Reads our nftables table into values. Reads only, and only our table, by name.
import { type Family, type Ip, ipFromBytes } from '../base/ip.ts';
import type { NftElement } from '../kernel/nfnetlink.ts';
import { NftError, type NftObject } from '../kernel/nftables.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { ASKED_SETS } from './branch-gate.ts';
import type { PodElement } from './diff.ts';
import { BRANCH_TABLE, NFT_TABLE } from './marks.ts';
import type { Kernel } from './memory.ts';
import { INDEX_BYTES, PODS_MAPS, podsMap } from './nft.ts';

export type ObservedTable = {
  /** The table without its pods as one text, which stays equal until the table changes. */
  readonly kernel: string;
  readonly chains: readonly string[];
};

/** What the table `inet NAME` has; null when it is not there. */
async function listTable(kernel: Kernel, name: string): Promise<NftObject[] | null> {
  try {
    return await kernel.nft.list(`table inet ${name}`);
  } catch (error) {
    if (error instanceof NftError && error.text.includes('No such file or directory')) return null;
    throw error;
  }
}

/** Null when the table is not there. */
export async function observeTable(kernel: Kernel): Promise<ObservedTable | null> {
  const objects = await listTable(kernel, NFT_TABLE);
  return objects && readTable(objects);
}

/**
 * The table `inet NAME`, elements included but those of `pods`, as one text that stays equal until somebody changes
 * it; null: it is not there.
 */
export async function tableListing(
  kernel: Kernel,
  name: string,
  pods: readonly string[] = [],
): Promise<string | null> {
  const objects = await listTable(kernel, name);
  if (objects === null) return null;
  // What packets put into a set is nobody's change.
  const still = ({ set, map }: NftObject) => {
    const { elem: _, ...rest } = (set ?? map ?? {}) as { flags?: unknown; elem?: unknown; name?: string };
    // nft 1.0.6 does not name the flag `dynamic`.
    const isStill = [rest.flags].flat().includes('timeout') || pods.includes(rest.name ?? '');
    return isStill ? rest : undefined;
  };
  return JSON.stringify(
    objects.filter((object) => !('metainfo' in object)).map((object) => still(object) ?? object),
    // The kernel lists elements in an order that may change by itself.
    (key, value) =>
      key === 'handle'
        ? undefined
        : key === 'elem' && Array.isArray(value)
          ? value.map((one) => JSON.stringify(one)).sort()
          : value,
  );
}

/** Addresses in the sets of pods that something arrived for. */
export const listAsked = (kernel: Kernel): Ip[] =>
  ASKED_SETS.flatMap((set) => {
    try {
      return kernel.nf.listElements('inet', BRANCH_TABLE, set).map(({ key }) => ipFromBytes(key));
    } catch (error) {
      if ((error as { code?: string }).code === 'ENOENT') return [];
      throw error;
    }
  });

/** From `nft -j list table`. Handles and the pods are no part of the structure. */
export function readTable(objects: readonly NftObject[]): ObservedTable {
  const chains: string[] = [];
  const kept: unknown[] = [];
  for (const object of objects) {
    if ('metainfo' in object) continue;
    const chain = object['chain'] as { name?: string } | undefined;
    if (chain?.name !== undefined) chains.push(chain.name);
    const map = object['map'] as { name?: string } | undefined;
    kept.push(PODS_MAPS.includes(map?.name ?? '') ? { map: { ...map, elem: [] } } : object);
  }
  return { kernel: JSON.stringify(kept, (key, value) => (key === 'handle' ? undefined : value)), chains };
}

/** False when the table or its map is gone. Uses netlink directly: libnftables first reads all chains. */
export const hasPodsMap = (kernel: Kernel): boolean => kernel.nf.hasSet('inet', NFT_TABLE, podsMap(4));

/** Elements of the family's map of pods; null when the map is not there. `links` has the pods'. */
export function listElements(kernel: Kernel, links: readonly Link[], family: Family): PodElement[] | null {
  const indexOf = (name: string) => links.find((link) => link.name === name)?.index;
  try {
    return kernel.nf
      .listElements('inet', NFT_TABLE, podsMap(family))
      .map((each) => readElement(each, family, indexOf));
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

/** The elements of both families' maps, where they are there. */
export const observeElements = (
  kernel: Kernel,
  links: readonly Link[],
  families: readonly Family[],
): PodElement[] => families.flatMap((family) => listElements(kernel, links, family) ?? []);

const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;

/** A map of an earlier version has the link's name in its keys. */
const nameOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString().replace(/\0.*/s, '');

function readElement(
  element: NftElement,
  family: Family,
  indexOf: (name: string) => number | undefined,
): PodElement {
  const { key } = element;
  const before = key.length - ADDRESS_BYTES[family];
  const ip = ipFromBytes(key.subarray(before));
  const ifindex =
    before !== INDEX_BYTES
      ? (indexOf(nameOf(key.subarray(0, before))) ?? 0)
      : new DataView(key.buffer, key.byteOffset, INDEX_BYTES).getUint32(0, true);
  return { ifindex, ip, chain: element.verdict?.chain ?? '' };
}
