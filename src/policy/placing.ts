// What one pod's change is to the maps of addresses: elements, where the classes and identities that it needs are in the
// kernel. Pure, but for the numbers, which it reads, and the compiler's memory.
import type { Ip } from '../base/ip.ts';
import { addressesOf, isSubject } from './compile.ts';
import type { Compiler } from './compiler.ts';
import type { ElementChange } from './diff.ts';
import type { Direction, PodView } from './model.ts';
import type { Numbers } from './numbers.ts';
import type { Program } from './program.ts';
import type { Key, Table } from './table.ts';

const MAPS = ['peers', 'from', 'to'] as const;
type Place = (typeof MAPS)[number];

/** A change of what an address is, with the name behind the number. */
export type Placing = ElementChange & {
  readonly of: Place;
  readonly ip: Ip;
  readonly name: string | undefined;
};

/** The program in force; its maps of addresses follow the kernel's. */
export type MutableProgram = Program & Record<Place, Map<Ip, string>>;

export type Ground = {
  readonly node: string;
  readonly compiler: Compiler;
  readonly program: Program;
  readonly applied: Table;
  readonly numbers: Numbers;
  readonly held: ReadonlyMap<string, readonly Ip[]>;
  /** True when the address is that pod's, as far as is known. */
  readonly isOwner: (key: string, ip: Ip) => boolean;
};

/** Null: it takes more than elements. */
export function placingsOf(
  at: Ground,
  key: string,
  before: PodView | undefined,
  after: PodView | undefined,
): Placing[] | null {
  const { node, compiler, program, applied, numbers, held, isOwner } = at;
  const wanted = { from: new Map<Ip, string>(), to: new Map<Ip, string>(), peers: new Map<Ip, string>() };
  if (after && !after.hostNetwork) {
    const ips = addressesOf(key, after, held);
    if (isSubject(after, node)) {
      const classes = compiler.classesOf(after);
      for (const direction of ['egress', 'ingress'] satisfies Direction[]) {
        const one = classes[direction];
        // Chains that a change left behind are still there; their class has no number.
        if (one && !(applied.chains.has(one.name) && numbers.has('class', one.name))) return null;
        if (one) for (const ip of ips) wanted[direction === 'egress' ? 'from' : 'to'].set(ip, one.name);
      }
    }
    const identity = after.ended ? null : compiler.identityOf(after);
    if (identity && !(program.identities.has(identity.key) && numbers.has('identity', identity.key)))
      return null;
    if (identity) for (const ip of ips) if (isOwner(key, ip)) wanted.peers.set(ip, identity.key);
  }
  const changes: Placing[] = [];
  const old = new Set(before ? [...before.ips, ...addressesOf(key, before, held)] : []);
  for (const map of MAPS) {
    const now = program[map];
    for (const [ip, name] of wanted[map]) changes.push(...placing(numbers, map, ip, now.get(ip), name));
    for (const ip of old) {
      if (wanted[map].has(ip) || !isOwner(key, ip)) continue;
      changes.push(...placing(numbers, map, ip, now.get(ip), undefined));
    }
  }
  return changes;
}

/** The addresses are nobody's. */
export const clearings = (program: Program | undefined, numbers: Numbers, ips: readonly Ip[]): Placing[] =>
  MAPS.toReversed().flatMap((map) =>
    ips.flatMap((ip) => placing(numbers, map, ip, program?.[map].get(ip), undefined)),
  );

function placing(
  numbers: Numbers,
  map: Place,
  ip: Ip,
  before: string | undefined,
  after: string | undefined,
): Placing[] {
  if (before === after) return [];
  const kind = map === 'peers' ? 'identity' : 'class';
  const number = (name: string | undefined) => (name === undefined ? null : numbers.of(kind, name));
  const isFour = typeof ip === 'number';
  return [
    {
      of: map,
      ip,
      name: after,
      map: `${map}${isFour ? 4 : 6}`,
      type: isFour ? 'ip4' : 'ip6',
      key: ip as Key,
      before: number(before),
      after: number(after),
    },
  ];
}
