// Assigns a mark and a link to each ENI. Pure. Marks must stay the same while packets and connections carry them, also
// across a restart, so they are read from the kernel's rules: an ENI keeps the mark of its rule, and only new ENIs get
// a new mark. Fails with RangeError when there are more ENIs than marks.
import type { Mac } from '../base/mac.ts';
import { type EniSlot, eniTable, isPrimary, MAX_ENI_MARK, slotKey } from './marks.ts';

/** A mark as an `ip rule` of ours records it. */
export type RecordedMark = { readonly table: number; readonly mark: number };

/** Mark of each secondary ENI by slot key; the primary has none, its packets use `main`. */
export function assignMarks(
  enis: readonly EniSlot[],
  recorded: readonly RecordedMark[],
): ReadonlyMap<string, number> {
  const secondary = enis.filter((eni) => !isPrimary(eni));
  const marks = new Map<string, number>();
  const taken = new Set<number>();
  const take = (eni: EniSlot, mark: number): boolean => {
    if (!(mark >= 1 && mark <= MAX_ENI_MARK) || taken.has(mark) || marks.has(slotKey(eni))) return false;
    taken.add(mark);
    marks.set(slotKey(eni), mark);
    return true;
  };
  for (const eni of secondary) {
    const table = eniTable(eni);
    for (const record of recorded) if (record.table === table && take(eni, record.mark)) break;
  }
  for (const eni of secondary) {
    // On the one card that nearly every type has, mark, table and device index read the same.
    if (marks.has(slotKey(eni)) || (eni.networkCard === 0 && take(eni, eni.deviceIndex))) continue;
    let mark = 1;
    while (mark <= MAX_ENI_MARK && !take(eni, mark)) mark++;
    if (mark > MAX_ENI_MARK) {
      throw new RangeError(`no mark left for ENI ${slotKey(eni)}: ${taken.size} of ${MAX_ENI_MARK} in use`);
    }
  }
  return marks;
}

type LinkFace = {
  readonly name: string;
  readonly mac?: Mac | string | null | undefined;
  readonly kind?: string | null | undefined;
};

/** Link kinds that use the MAC of the link below them, so they are never the ENI itself. */
const UPPER_KINDS = new Set([
  'bridge',
  'bond',
  'team',
  'vlan',
  'macvlan',
  'macvtap',
  'ipvlan',
  'vrf',
  'dummy',
  'ifb',
]);

export const isUpper = (kind: string | null | undefined): boolean => UPPER_KINDS.has(kind ?? '');

/** The link of an ENI. Drivers name links as they like: the MAC is what EC2 and the kernel agree on. */
export const findEniLink = <L extends LinkFace>(links: readonly L[], mac: Mac): L | undefined =>
  links.find((link) => link.mac === mac && !isUpper(link.kind));
