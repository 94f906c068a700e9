// Brings the kernel's table to a wanted one: by changes where that is known what is there, else by one transaction.
import { hasStructure } from './diff.ts';
import { MOST_CHANGES, type PolicyKernel } from './kernel.ts';
import type { Table } from './table.ts';

/** `drop` removes what the change and those before it have left behind; the next change's takes its place. */
export type Brought = { readonly isChanged: boolean; readonly drop: (() => Promise<void>) | null };

/** A failure, of `drop` too, leaves the table in doubt: the next call rebuilds it. */
export async function bring(kernel: PolicyKernel, table: Table): Promise<Brought> {
  const changes = kernel.changesTo(table);
  if (!changes || changes.elements.length > MOST_CHANGES) {
    await kernel.rebuild(table);
    return { isChanged: true, drop: null };
  }
  const orDoubt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      kernel.doubt();
      throw error;
    }
  };
  await orDoubt(async () => {
    await kernel.addStructure(changes);
    kernel.setElements(changes.elements);
    kernel.agree(table);
  });
  const isLess = hasStructure(changes.removed);
  return {
    isChanged: changes.elements.length > 0 || hasStructure(changes.added) || isLess,
    drop: isLess ? () => orDoubt(() => kernel.dropStructure(changes)) : null,
  };
}
