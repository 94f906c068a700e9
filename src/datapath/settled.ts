// The state that was synced last, pods aside, so that a change of the kernel with the same state is known as drift.
// Branches are compared one by one: they also come and go without a sync of the node.
import type { Branch } from './branch.ts';
import type { NodeDatapath } from './types.ts';

const textOf = (value: unknown): string =>
  JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? `${part}` : part));

const shapeOf = ({ pods: _, branches: __, ...node }: NodeDatapath): string => textOf(node);

export class Settled {
  #shape: string | undefined;
  /** By VLAN id. */
  readonly #branches = new Map<number, string>();
  /** What came or went since the present sync has read its state. */
  readonly #moved = new Set<number>();

  /** A sync begins. True when it has nothing new to do. */
  begin(node: NodeDatapath): boolean {
    this.#moved.clear();
    const { branches = [] } = node;
    return (
      this.#shape === shapeOf(node) &&
      branches.length === this.#branches.size &&
      branches.every((branch) => this.#branches.get(branch.vlan) === textOf(branch))
    );
  }

  /** The sync that began with this state has compared everything. */
  end(node: NodeDatapath): void {
    this.#shape = shapeOf(node);
    const synced = new Map((node.branches ?? []).map((branch) => [branch.vlan, branch]));
    for (const vlan of [...this.#branches.keys(), ...synced.keys()]) {
      const branch = synced.get(vlan);
      if (this.#moved.has(vlan)) continue;
      if (branch) this.#branches.set(vlan, textOf(branch));
      else this.#branches.delete(vlan);
    }
  }

  /** A branch that was made without a sync. */
  came(branch: Branch): void {
    this.#moved.add(branch.vlan);
    this.#branches.set(branch.vlan, textOf(branch));
  }

  went(vlan: number): void {
    this.#moved.add(vlan);
    this.#branches.delete(vlan);
  }

  /** Nothing is synced any more. */
  clear(): void {
    this.#shape = undefined;
    this.#branches.clear();
  }
}
