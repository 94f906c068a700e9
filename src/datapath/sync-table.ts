// The nft table of a sync: its structure by libnftables, off the main thread, and the pods' elements by own netlink.
// libnftables reads every chain of the namespace for each command (7.7 ms beside 10,000 foreign ones), so commands are
// counted: one at rest, two when the table is gone, three when it differs, four when chains must go.
import { NftError } from '../kernel/nftables.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { has6 } from './desired.ts';
import { diffElements } from './diff.ts';
import { NFT_TABLE } from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { podsMap, renderRebuild, renderTable, renderUpdate, sourceChain } from './nft.ts';
import { hasPodsMap, observeElements, observeTable } from './observe.ts';
import type { Pass } from './pass.ts';
import { strayJudge } from './stray.ts';
import type { NodeDatapath } from './types.ts';
import { elementAdd, elementDel } from './wire.ts';

const TABLE = `the nft table inet ${NFT_TABLE}`;

/** The text that the table should be made from. */
export const tableText = (memory: Memory, node: NodeDatapath, eniLinks: ReadonlyMap<string, Link>): string =>
  renderTable({
    node,
    marks: memory.marks,
    linkNames: new Map([...eniLinks].map(([key, link]) => [key, link.name])),
  });

/** `told` decides about changes by others; a table with a new text is always made. */
export async function syncTable(kernel: Kernel, memory: Memory, text: string, pass: Pass): Promise<void> {
  const wanted = chainsOf(text);
  const may = (what: string) => memory.table?.text !== text || pass.may(TABLE, what);
  if (!hasPodsMap(kernel)) {
    if (!may('make the nft table')) return;
    await kernel.nft.run(renderRebuild(text));
    pass.done('make the nft table');
    syncElements(kernel, memory, wanted, pass);
    await remember(kernel, memory, text);
    await removeStrays(kernel, memory, pass);
    return;
  }
  const observed = await observeTable(kernel);
  const changedByOthers = memory.table?.text === text;
  const stale = (observed?.chains ?? []).filter((name) => !wanted.has(name));
  const isRight = observed !== null && memory.table?.text === text && memory.table.kernel === observed.kernel;
  if (!isRight) {
    if (!may('update the nft table')) return;
    // A chain that an element names can go only after the element.
    const named = new Set(observeElements(kernel, [], [4, 6]).map((element) => element.chain));
    const leaving = stale.filter((name) => !named.has(name));
    try {
      await kernel.nft.run(renderUpdate(text, leaving));
      pass.done('update the nft table');
    } catch (error) {
      if (!(error instanceof NftError)) throw error;
      await kernel.nft.run(renderRebuild(text));
      pass.done('make the nft table anew');
    }
  }
  syncElements(kernel, memory, wanted, pass);
  if (isRight) return;
  await remember(kernel, memory, text);
  if (changedByOthers) await removeStrays(kernel, memory, pass);
}

/** After the table or a part of it was missing. One walk of all connections, off the main thread. */
async function removeStrays(kernel: Kernel, memory: Memory, pass: Pass): Promise<void> {
  const { node, pods } = memory;
  if (!node || pods.size === 0) return;
  const held = new Set([...pods.values()].flatMap(({ ips }) => ips));
  const removed = await kernel.nf.conntrackRemove(strayJudge(node, held));
  if (removed > 0) pass.done(`forget ${removed} connections that began without the nft table`);
}

/** The families whose map of pods the table has. */
const mapsOf = ({ node }: Memory): (4 | 6)[] => (node && has6(node) ? [4, 6] : [4]);

/** Keeps the kernel's listing of the table just made, and removes unwanted chains, and the map of IPv6 with the last prefix. */
async function remember(kernel: Kernel, memory: Memory, text: string): Promise<void> {
  const wanted = chainsOf(text);
  let after = await observeTable(kernel);
  const left = (after?.chains ?? [])
    .filter((name) => !wanted.has(name))
    .map((name) => `delete chain inet ${NFT_TABLE} ${name}\n`);
  const six = podsMap(6);
  if (!text.includes(` ${six} `) && kernel.nf.hasSet('inet', NFT_TABLE, six))
    left.unshift(`flush map inet ${NFT_TABLE} ${six}\ndelete map inet ${NFT_TABLE} ${six}\n`);
  if (left.length > 0) {
    await kernel.nft.run(left.join(''));
    after = await observeTable(kernel);
  }
  memory.table = after ? { text, kernel: after.kernel } : undefined;
}

export const chainsOf = (text: string): Set<string> =>
  new Set([...text.matchAll(/^ {2}chain (\S+) \{/gm)].map((match) => match[1]!));

/** The pods' elements as the memory has them now. Synchronous from the listing on: no hot path comes between. */
export function syncElements(
  kernel: Kernel,
  memory: Memory,
  wantedChains: ReadonlySet<string>,
  pass: Pass,
): void {
  pass.enter('elements');
  const links = kernel.rt.links();
  const indexes = new Map(links.map((link) => [link.name, link.index]));
  const names = new Map(links.map((link) => [link.index, link.name]));
  const desired = [...memory.pods.values()].flatMap(({ hostIfname, ips, eni, mode }) => {
    const ifindex = indexes.get(hostIfname);
    if (eni === null || ifindex === undefined) return [];
    return ips
      .map((ip) => ({ ifindex, ip, chain: sourceChain(ip, eni, mode) }))
      .filter(({ chain }) => wantedChains.has(chain));
  });
  const { remove, add } = diffElements(observeElements(kernel, links, mapsOf(memory)), desired);
  const nameOf = ({ ifindex }: { ifindex: number }) => names.get(ifindex) ?? `link ${ifindex}`;
  const may = (verb: string) => (element: { ifindex: number }) =>
    pass.may(`${nameOf(element)} in the nft map`, `${verb} ${nameOf(element)} in the nft map`);
  const gone = remove.filter(may('remove'));
  const come = add.filter(may('add'));
  kernel.nf.elements([
    ...gone.map(({ ifindex, ip }) => elementDel(ifindex, ip)),
    ...come.map(({ ifindex, ip, chain }) => elementAdd(ifindex, ip, chain)),
  ]);
  for (const element of gone) pass.done(`remove ${nameOf(element)} from the nft map`);
  for (const element of come) pass.done(`add ${nameOf(element)} to the nft map`);
}
