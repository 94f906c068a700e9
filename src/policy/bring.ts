// Brings the kernel's table to a wanted one: by changes where that is known what is there, else by one transaction.
import { hasStructure } from './diff.ts';
import { MOST_CHANGES, type PolicyKernel } from './kernel.ts';
import type { Table } from './table.ts';

/** True when something was changed. A failure leaves the table in doubt: the next call rebuilds it. */
export async function bring(kernel: PolicyKernel, table: Table): Promise<boolean> {
  const changes = kernel.changesTo(table);
  if (!changes || changes.elements.length > MOST_CHANGES) {
    await kernel.rebuild(table);
    return true;
  }
  try {
    await kernel.addStructure(changes);
    kernel.setElements(changes.elements);
    await kernel.dropStructure(changes);
  } catch (error) {
    kernel.doubt();
    throw error;
  }
  return changes.elements.length > 0 || hasStructure(changes.added) || hasStructure(changes.removed);
}
