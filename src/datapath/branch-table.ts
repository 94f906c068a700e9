// The nft table `inet podway-branch` of a sync: its structure by libnftables, off the main thread, compared with what
// the kernel listed when it was made last; the pods' elements by own netlink. Loaded with branch-sync.ts.
import { NetlinkError } from '../kernel/rtnetlink.ts';
import { branchesOf, renderBranchScript, renderBranchTable } from './branch.ts';
import {
  BRANCH_SETS,
  type BranchElement,
  branchElementOp,
  branchElements,
  withoutElements,
} from './branch-elements.ts';
import { BRANCH_TABLE } from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { tableListing } from './observe.ts';
import type { Pass } from './pass.ts';
import type { NodeDatapath } from './types.ts';

const TABLE = `the nft table inet ${BRANCH_TABLE}`;

/**
 * `node`: the state of the sync. Pods may have come and gone since it began, so the elements are those of the memory's,
 * read anew after each await; a newer state without any branch is the next sync's, which then finds that there was one.
 */
export async function syncBranchTable(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  pass: Pass,
): Promise<void> {
  const wanted = (): string | null => {
    if (branchesOf(memory.node ?? node).length === 0) return null;
    return renderBranchTable(memory.node ?? node, indexesOf(kernel));
  };
  if (branchesOf(node).length === 0) {
    const isThere = kernel.nf.hasSet('inet', BRANCH_TABLE, 'links');
    if (isThere) await kernel.nft.run(renderBranchScript(null));
    if (isThere) pass.done(`remove ${TABLE}`);
    memory.branchTable = null;
    memory.zoned.clear();
    return;
  }
  const text = wanted();
  if (text === null) return;
  const was = memory.branchTable;
  const structure = withoutElements(text);
  const isSame = was?.text === structure;
  const isRight = isSame && was.kernel !== null && was.kernel === (await listing(kernel));
  if (!isRight) {
    if (isSame && !pass.may(TABLE, `make ${TABLE}`)) {
      syncWhatIsLeft(kernel, memory, pass);
      return;
    }
    const now = wanted();
    if (now === null) return;
    // Until the end of a whole sync: what comes alone now could be in the old table only.
    memory.ways = new Set();
    await kernel.nft.run(renderBranchScript(now));
    memory.branchTable = { text: withoutElements(now), kernel: await listing(kernel) };
    pass.done(`make ${TABLE}`);
  }
  syncBranchElements(kernel, memory, pass);
}

const listing = (kernel: Kernel) => tableListing(kernel, BRANCH_TABLE, BRANCH_SETS);

const indexesOf = (kernel: Kernel) => new Map(kernel.rt.links().map((link) => [link.name, link.index]));

type Found = Omit<BranchElement, 'text'>;
const keyOf = ({ set, key }: Found): string => `${set} ${Buffer.from(key).toString('hex')}`;
const isSameData = (one: Uint8Array | undefined, other: Uint8Array | undefined): boolean =>
  Buffer.compare(one ?? new Uint8Array(0), other ?? new Uint8Array(0)) === 0;

/** Others changed the table, and it stays so for now: pods that came since get their elements all the same. */
function syncWhatIsLeft(kernel: Kernel, memory: Memory, pass: Pass): void {
  try {
    syncBranchElements(kernel, memory, pass);
  } catch (error) {
    if (!(error instanceof NetlinkError && error.code === 'ENOENT')) throw error;
  }
}

/** Synchronous from the listing on: no hot path comes between. */
function syncBranchElements(kernel: Kernel, memory: Memory, pass: Pass): void {
  const indexes = indexesOf(kernel);
  const wanted = new Map<string, BranchElement & { isNew: boolean }>();
  const zoned = new Map<number, number>();
  for (const branch of branchesOf(memory.node ?? {})) {
    const index = indexes.get(branch.hostIfname);
    if (index === undefined) continue;
    zoned.set(branch.vlan, index);
    const isNew = memory.zoned.get(branch.vlan) !== index;
    for (const element of branchElements(branch, index)) wanted.set(keyOf(element), { ...element, isNew });
  }
  const ops: ReturnType<typeof branchElementOp>[] = [];
  const done: string[] = [];
  const change = (what: string, does: () => void, isNew: boolean) => {
    if (!isNew && !pass.may(`${what} in ${TABLE}`, `put ${what} of ${TABLE} right`)) return;
    does();
    done.push(`put ${what} of ${TABLE} right`);
  };
  for (const set of BRANCH_SETS)
    for (const { key, data } of kernel.nf.listElements('inet', BRANCH_TABLE, set)) {
      const found: Found = { set, key, ...(data === null ? {} : { data }) };
      const want = wanted.get(keyOf(found));
      if (want !== undefined && isSameData(want.data, found.data)) {
        wanted.delete(keyOf(found));
        continue;
      }
      if (want === undefined)
        change(`an element of ${set}`, () => ops.push(branchElementOp('del', found)), false);
      else {
        wanted.delete(keyOf(found));
        const both = [branchElementOp('del', found), branchElementOp('add', want)];
        change(`${want.text} in ${set}`, () => ops.push(...both), want.isNew);
      }
    }
  for (const one of wanted.values())
    change(`${one.text} in ${one.set}`, () => ops.push(branchElementOp('add', one)), one.isNew);
  kernel.nf.elements(ops);
  memory.zoned = zoned;
  for (const text of done) pass.done(text);
}
