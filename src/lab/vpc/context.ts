// What a meaning of an action sees: a draft of the state, the caller, the time, randomness and the latencies in force.
// A draft copies a table on its first write and never changes an object in place, so that the state before stays whole
// and the rows that changed are known for the store. A meaning that throws leaves nothing behind.
import type { Cidr } from '../../base/ip.ts';
import { notFound, type ResourceWords, resourceWords } from './errors.ts';
import type { VpcState } from './model.ts';

/** A change that comes true later, e.g. an attachment that is `attaching` until `due`. */
export type Transition = {
  /** `<kind>:<object id>`: a later transition of the same kind replaces it. */
  id: string;
  due: number;
  kind:
    | 'interface-available'
    | 'attached'
    | 'detached'
    | 'instance-running'
    | 'instance-stopped'
    | 'instance-terminated'
    | 'nat-gateway-available'
    | 'nat-gateway-deleted';
  objectId: string;
};

export type LabState = VpcState & { transitions: Record<string, Transition> };

export type TableName = Exclude<keyof LabState, 'region' | 'accountId' | 'zones' | 'typeOverrides'>;
export const tableNames: readonly TableName[] = [
  'vpcs',
  'subnets',
  'subnetCidrReservations',
  'routeTables',
  'internetGateways',
  'egressOnlyInternetGateways',
  'natGateways',
  'publicAddresses',
  'securityGroups',
  'networkInterfaces',
  'trunkAssociations',
  'interfacePermissions',
  'instances',
  'transitions',
];
export type Row<T extends TableName> = LabState[T][string];

export class Draft {
  readonly before: LabState;
  state: LabState;
  readonly changed = new Map<TableName, Set<string>>();

  constructor(state: LabState) {
    this.before = state;
    this.state = { ...state };
  }

  put<T extends TableName>(table: T, key: string, row: Row<T>): void {
    (this.#own(table) as Record<string, Row<T>>)[key] = row;
    this.changed.get(table)?.add(key);
  }

  remove(table: TableName, key: string): void {
    delete this.#own(table)[key];
    this.changed.get(table)?.add(key);
  }

  /** Takes over what was changed in a draft of this one's state. */
  absorb(other: Draft): void {
    for (const [table, keys] of other.changed) {
      const rows = other.state[table] as Record<string, Row<typeof table>>;
      for (const key of keys) {
        if (Object.hasOwn(rows, key)) this.put(table, key, rows[key]!);
        else this.remove(table, key);
      }
    }
  }

  #own(table: TableName): Record<string, unknown> {
    if (!this.changed.has(table)) {
      this.changed.set(table, new Set());
      // The key is the table's own, so the copy keeps the table's type.
      (this.state as Record<string, unknown>)[table] = { ...this.state[table] };
    }
    return this.state[table];
  }
}

/** Who asks. `userId` is what EC2 prints as RequesterId. */
export type Caller = { kind: 'admin' | 'role'; arn: string; userId: string; instanceId?: string };

/** Milliseconds from the start of a change to its end. */
export type Latencies = {
  createInterface: number;
  attach: number;
  detach: number;
  run: number;
  stop: number;
  terminate: number;
  createNatGateway: number;
  deleteNatGateway: number;
};
export const noLatency: Latencies = {
  createInterface: 0,
  attach: 0,
  detach: 0,
  run: 0,
  stop: 0,
  terminate: 0,
  createNatGateway: 0,
  deleteNatGateway: 0,
};
/** The order of what AWS takes; attach and detach are what an allocator waits for most. */
export const realisticLatency: Latencies = {
  createInterface: 800,
  attach: 2500,
  detach: 6000,
  run: 8000,
  stop: 15000,
  terminate: 10000,
  createNatGateway: 60000,
  deleteNatGateway: 45000,
};

export type Context = {
  readonly draft: Draft;
  readonly caller: Caller;
  readonly now: number;
  readonly latencies: Latencies;
  readonly publicPool: Cidr;
  /** Of the one role that instances may use, and of its instance profile. */
  readonly roleName: string;
  readonly random: (bytes: number) => Uint8Array;
};

/** A new id in EC2's long form: prefix, then 17 hexadecimal digits of which EC2's first is 0. */
export const newId = (ctx: Pick<Context, 'random'>, prefix: string): string =>
  `${prefix}-0${Buffer.from(ctx.random(8)).toString('hex')}`;

/** Puts off `kind` of `objectId` by `latency`, replacing one of the same kind that is still open. */
export function later(ctx: Context, kind: Transition['kind'], objectId: string, latency: number): void {
  const id = `${kind}:${objectId}`;
  ctx.draft.put('transitions', id, { id, kind, objectId, due: ctx.now + latency });
}

const WORDS = {
  vpcs: resourceWords.vpc,
  subnets: resourceWords.subnet,
  subnetCidrReservations: resourceWords.subnetCidrReservation,
  routeTables: resourceWords.routeTable,
  internetGateways: resourceWords.internetGateway,
  egressOnlyInternetGateways: resourceWords.egressOnlyInternetGateway,
  natGateways: resourceWords.natGateway,
  securityGroups: resourceWords.securityGroup,
  networkInterfaces: resourceWords.networkInterface,
  trunkAssociations: resourceWords.trunkAssociation,
  interfacePermissions: resourceWords.interfacePermission,
  instances: resourceWords.instance,
} as const satisfies Partial<Record<TableName, ResourceWords>>;
export type IdTable = keyof typeof WORDS;
export const wordsOf = (table: IdTable): ResourceWords => WORDS[table];

/** The row with that id, else EC2's NotFound or Malformed for its kind. */
export function need<T extends IdTable>(ctx: Context, table: T, id: string): Row<T> {
  const rows = ctx.draft.state[table] as Record<string, Row<T>>;
  const row = Object.hasOwn(rows, id) ? rows[id] : undefined;
  if (row === undefined) throw notFound(WORDS[table], [id]);
  return row;
}
