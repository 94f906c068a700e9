// Lists, whole or in pages. A page's successor continues in the snapshot that the first page was cut from, so that
// all pages together are the state at one resourceVersion; snapshots are references to frozen objects and bounded.
import { randomBytes } from 'node:crypto';
import { badRequest, expired, futureVersion } from './errors.ts';
import type { Selection } from './selection.ts';
import type { Collection, Stored } from './storage.ts';

/** Snapshots kept for unfinished lists; older ones answer 410. */
export const MAX_SNAPSHOTS = 64;
const SNAPSHOT_MS = 5 * 60_000;

export type ListOptions = {
  limit?: number | undefined;
  continue?: string | undefined;
  resourceVersion?: string | undefined;
  resourceVersionMatch?: string | undefined;
};

export type ListPage = {
  readonly items: readonly Stored[];
  readonly version: number;
  readonly continue?: string;
  readonly remaining?: number;
};

type Snapshot = { readonly items: readonly Stored[]; readonly version: number; readonly until: number };

export class Lists {
  private readonly snapshots = new Map<string, Snapshot>();

  list(
    collection: Collection,
    current: number,
    selection: Selection,
    options: ListOptions,
    now: number,
  ): ListPage {
    const limit = options.limit ?? 0;
    if (options.continue) {
      if (options.resourceVersion && options.resourceVersion !== '0') {
        throw badRequest('specifying resource version is not allowed when using continue');
      }
      const { id, at } = decodeToken(options.continue);
      const snapshot = this.snapshots.get(id);
      if (snapshot === undefined || snapshot.until < now) {
        throw expired(
          'The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.',
        );
      }
      return this.page(snapshot.items, snapshot.version, at, limit, selection, now, id);
    }
    checkListVersion(options, current);
    const all = collection.sorted();
    const items = selection.everything && selection.namespace === '' ? all : all.filter(selection.matches);
    return this.page(items, current, 0, limit, selection, now);
  }

  private page(
    items: readonly Stored[],
    version: number,
    at: number,
    limit: number,
    selection: Selection,
    now: number,
    id?: string,
  ): ListPage {
    if (limit <= 0 || at + limit >= items.length) {
      if (id !== undefined && limit > 0) this.snapshots.delete(id);
      return { items: at === 0 ? items : items.slice(at), version };
    }
    const key = id ?? this.keep({ items, version, until: now + SNAPSHOT_MS }, now);
    const end = at + limit;
    return {
      items: items.slice(at, end),
      version,
      continue: Buffer.from(JSON.stringify({ v: 1, id: key, at: end })).toString('base64url'),
      ...(selection.everything ? { remaining: items.length - end } : {}),
    };
  }

  private keep(snapshot: Snapshot, now: number): string {
    for (const [id, { until }] of this.snapshots) {
      if (until >= now && this.snapshots.size < MAX_SNAPSHOTS) break;
      this.snapshots.delete(id);
    }
    const id = randomBytes(9).toString('base64url');
    this.snapshots.set(id, snapshot);
    return id;
  }
}

function decodeToken(token: string): { id: string; at: number } {
  try {
    const { id, at } = JSON.parse(Buffer.from(token, 'base64url').toString()) as { id: unknown; at: unknown };
    if (typeof id === 'string' && typeof at === 'number' && Number.isSafeInteger(at) && at >= 0)
      return { id, at };
  } catch {
    // Falls through to the one answer for anything that is no token of ours.
  }
  throw badRequest('continue key is not valid');
}

export function parseVersion(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text))
    throw badRequest(`Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`);
  return Number(text);
}

function checkListVersion(options: ListOptions, current: number): void {
  const match = options.resourceVersionMatch;
  if (match && match !== 'Exact' && match !== 'NotOlderThan') {
    throw badRequest(
      `resourceVersionMatch: Unsupported value: "${match}": supported values: "Exact", "NotOlderThan"`,
    );
  }
  if (!options.resourceVersion) {
    if (match) throw badRequest('resourceVersionMatch is forbidden unless resourceVersion is provided');
    return;
  }
  const asked = parseVersion(options.resourceVersion);
  if (asked > current) throw futureVersion(asked, current);
  if (match === 'Exact') {
    if (asked === 0) throw badRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
    if (asked !== current) throw expired(`The resourceVersion for the provided list is too old.`);
  }
}
