// Renders a node's program as the table `inet podway-policy`. Pure, except that it takes numbers from `Numbers`.
//
// The table judges a packet at prerouting, after destination NAT (-100) and after `inet podway` has dropped false
// sources (-90). A packet of a connection that stands is judged already. For a packet that begins a connection the
// class of the sender decides on egress, then the class of the receiver on ingress. A pod without a class lets
// everything pass.
//
// There are two base chains, `egress` and `ingress`. The kernel follows each path through a table before it takes a
// change, and one base chain would have as many paths as classes times classes. `egress` marks a packet that may leave
// its sender (SENT), and `ingress` turns that mark into JUDGED. The rules for the pods' routes ask for JUDGED. So a
// packet that meets the table in the middle of its replacement, and passes a chain without rules, finds no route.
//
// A packet's priority holds the number of its class while it is judged. The kernel clears the priority of what comes
// from a pod, because it crosses namespaces, and forwarding sets it from the type of service.
import type { Ip } from '../base/ip.ts';
import { JUDGED, OWN_ARRIVED, POLICY_MASK } from '../base/packet-marks.ts';
import type { FlowLog } from '../base/policy-words.ts';
import { chainText, hex, tableText, withoutTable } from '../kernel/nft-text.ts';
import { type ClassTable, classTable, identityEntries } from './class-table.ts';
import { CUT_PACKETS, endParts } from './end-chains.ts';
import type { Numbers } from './numbers.ts';
import type { Identity, PolicyClass, Program } from './program.ts';
import { type DataMap, type Key, type KeyType, POLICY_TABLE, partsText, TABLE, type Table } from './table.ts';

/** In POLICY_MASK: it may leave its sender. */
const SENT = 0x200;
/** The connection mark of what policy has cut, in the same field. */
export const CUT = 0x200;

const keep = (mask: number): string => hex(~mask >>> 0);

const setMark = (value: number): string => `meta mark set meta mark & ${keep(POLICY_MASK)} | ${hex(value)}`;

/** Parts that each table has. */
const fixedParts = (flowLog: FlowLog): readonly string[] => [
  ...endParts(flowLog),
  chainText({ name: 'sent', rules: ['meta priority set 1', 'meta priority vmap @still'] }),
  chainText({ name: 'mark_sent', rules: [setMark(SENT), 'accept'] }),
  chainText({
    name: 'judged',
    rules: [
      `meta mark & ${hex(POLICY_MASK)} != ${hex(SENT)} accept`,
      'meta priority set 2',
      'meta priority vmap @still',
    ],
  }),
  chainText({ name: 'mark_judged', rules: [setMark(JUDGED), 'accept'] }),
  chainText({
    name: 'tracked',
    rules: [`ct mark & ${hex(CUT)} != 0 counter name ${CUT_PACKETS} drop`, setMark(JUDGED), 'accept'],
  }),
  chainText({
    name: 'egress',
    hook: 'type filter hook prerouting priority -81; policy accept;',
    rules: [
      'ct state vmap { established : goto tracked, related : goto tracked }',
      `meta mark set meta mark & ${keep(POLICY_MASK)}`,
      'meta priority set 0',
      'meta priority set ip saddr map @from4',
      'meta priority set ip6 saddr map @from6',
      'meta priority vmap @egress_classes',
      'goto sent',
    ],
  }),
  chainText({
    name: 'ingress',
    hook: 'type filter hook prerouting priority -80; policy accept;',
    rules: [
      `meta mark & ${hex(POLICY_MASK)} == ${hex(JUDGED)} accept`,
      `meta mark & ${hex(OWN_ARRIVED)} == ${hex(OWN_ARRIVED)} goto judged`,
      'meta priority set 0',
      'meta priority set ip daddr map @to4',
      'meta priority set ip6 daddr map @to6',
      'meta priority vmap @ingress_classes',
      'goto judged',
    ],
  }),
];

type Entries = ReturnType<typeof identityEntries>;

/** One class, with what each identity means to it. */
class RenderedClass {
  readonly #table: ClassTable;
  readonly #numbers: Numbers;
  /** Of the identities that mean something. */
  readonly #known = new Map<string, Entries[]>();
  #parts: Table | null = null;

  constructor(one: PolicyClass, numbers: Numbers) {
    this.#table = classTable(one, numbers);
    this.#numbers = numbers;
  }

  change(came: Iterable<Identity>, gone: Iterable<string>): void {
    const { runs } = this.#table;
    if (runs.length === 0) return;
    for (const key of gone) if (this.#known.delete(key)) this.#parts = null;
    for (const identity of came) {
      const its = runs
        .map((run) => identityEntries(run, identity, this.#numbers))
        .filter(({ entries }) => entries.length > 0);
      if (its.length === 0) continue;
      this.#known.set(identity.key, its);
      this.#parts = null;
    }
  }

  /** The same objects as long as nothing has changed. */
  get parts(): Table {
    this.#parts ??= this.#make();
    return this.#parts;
  }

  #make(): Table {
    const { chains, statics, verdicts, runs } = this.#table;
    const all = new Map(chains);
    const dispatch = new Map([...verdicts].map(([name, its]) => [name, new Map(its)]));
    const maps = new Map<string, { type: KeyType; elements: Map<Key, number> }>();
    for (const run of runs) {
      maps.set(run.map, { type: 'pair', elements: new Map() });
      if (run.mapOfAll !== null) maps.set(run.mapOfAll, { type: 'number', elements: new Map() });
    }
    for (const its of this.#known.values())
      for (const { entries, chains: more, verdicts: added } of its) {
        put(all, more);
        for (const [name, rulings] of added) {
          const known = dispatch.get(name);
          if (known) put(known, rulings);
          else dispatch.set(name, new Map(rulings));
        }
        for (const { map, key, number } of entries) maps.get(map)!.elements.set(key, number);
      }
    return { chains: all, statics, verdicts: dispatch, maps };
  }
}

function put<K, V>(to: Map<K, V>, from: ReadonlyMap<K, V>): void {
  for (const [key, value] of from) to.set(key, value);
}

/** Renders programs of one node; remembers what classes and identities mean, since neither changes. */
export class Renderer {
  readonly #numbers: Numbers;
  readonly #classes = new Map<string, RenderedClass>();
  #identities: ReadonlyMap<string, Identity> = new Map();

  constructor(numbers: Numbers) {
    this.#numbers = numbers;
  }

  render(program: Program): Table {
    const numbers = this.#numbers;
    const { classes, identities } = program;
    const came = [...identities.values()].filter(({ key }) => !this.#identities.has(key));
    const gone = [...this.#identities.keys()].filter((key) => !identities.has(key));
    // The compiler goes on with its own.
    this.#identities = new Map(identities);
    const chains = new Map<string, readonly string[]>();
    const statics = new Map<string, string>();
    const dispatch = {
      egress: new Map<number, string>(),
      ingress: new Map<number, string>(),
    };
    const verdicts = new Map<string, ReadonlyMap<number, string>>([
      ['egress_classes', dispatch.egress],
      ['ingress_classes', dispatch.ingress],
      // The last lookup of each judgement. When the table is replaced under a packet's feet, the old one's rules go on
      // for it and find nothing in the old one's maps: then this one is empty, too, and the packet has no mark.
      [
        'still',
        new Map([
          [1, 'goto mark_sent'],
          [2, 'goto mark_judged'],
        ]),
      ],
    ]);
    const maps = new Map<string, DataMap>(addressMaps(program, numbers));
    for (const name of this.#classes.keys()) if (!classes.has(name)) this.#classes.delete(name);
    for (const one of classes.values()) {
      let rendered = this.#classes.get(one.name);
      if (rendered) rendered.change(came, gone);
      else {
        rendered = new RenderedClass(one, numbers);
        this.#classes.set(one.name, rendered);
        rendered.change(identities.values(), []);
      }
      const { parts } = rendered;
      put(chains, parts.chains);
      put(statics, parts.statics);
      put(verdicts, parts.verdicts);
      put(maps, parts.maps);
      dispatch[one.direction].set(numbers.of('class', one.name), `goto ${one.name}`);
    }
    numbers.keepOnly('class', classes);
    numbers.keepOnly('identity', identities);
    return { chains, statics, verdicts, maps };
  }
}

/** Class and identity of each address. */
function addressMaps({ from, to, peers }: Program, numbers: Numbers): [string, DataMap][] {
  const split = (
    name: string,
    kind: 'class' | 'identity',
    all: ReadonlyMap<Ip, string>,
  ): [string, DataMap][] => {
    const four = new Map<Key, number>();
    const six = new Map<Key, number>();
    for (const [ip, key] of all) (typeof ip === 'number' ? four : six).set(ip, numbers.of(kind, key));
    return [
      [`${name}4`, { type: 'ip4', elements: four }],
      [`${name}6`, { type: 'ip6', elements: six }],
    ];
  };
  return [...split('from', 'class', from), ...split('to', 'class', to), ...split('peers', 'identity', peers)];
}

/** The table from nothing, in one transaction: it replaces whatever has its name. */
export const rebuildText = (table: Table, flowLog: FlowLog = 'off'): string =>
  `${withoutTable(TABLE)}${tableText(TABLE, partsText(table, fixedParts(flowLog)))}`;

export const removeText = withoutTable(TABLE);
export { POLICY_TABLE };
