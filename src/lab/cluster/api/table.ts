// The Table and PartialObjectMetadata forms of objects and lists: what kubectl prints, and what metadata clients read.
import type { Any, Column, Served } from './kinds.ts';
import { fromStored } from './kinds.ts';
import type { ListPage } from './lists.ts';
import type { Stored } from './storage.ts';

export type IncludeObject = 'None' | 'Metadata' | 'Object';

const definitions = (columns: readonly Column[]) =>
  columns.map(({ name, type, format, description, priority }) => ({
    name,
    type,
    format: format ?? '',
    description: description ?? '',
    priority,
  }));

export function renderTable(
  served: Served,
  items: readonly Stored[],
  meta: Record<string, unknown>,
  include: IncludeObject,
  now: number,
  withColumns = true,
): Record<string, unknown> {
  const { columns } = served.version;
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: meta,
    columnDefinitions: withColumns ? definitions(columns) : [],
    rows: items.map((stored) => {
      const object = fromStored(served, stored.object as Any);
      const row: Record<string, unknown> = { cells: columns.map((column) => column.cell(object, now)) };
      if (include === 'Object') row['object'] = object;
      else if (include === 'Metadata') row['object'] = partial(object);
      return row;
    }),
  };
}

export const partial = (object: Any): Record<string, unknown> => ({
  kind: 'PartialObjectMetadata',
  apiVersion: 'meta.k8s.io/v1',
  metadata: object.metadata,
});

export const listMeta = (page: ListPage): Record<string, unknown> => ({
  resourceVersion: String(page.version),
  ...(page.continue === undefined ? {} : { continue: page.continue }),
  ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
});

/** The object's JSON in the version that was asked for; the stored text when that is the same. */
export function objectJson(served: Served, stored: Stored): string {
  return stored.object.apiVersion === served.apiVersion
    ? stored.json
    : JSON.stringify(fromStored(served, stored.object as Any));
}

/** A list from the texts of its items: nothing is serialised again. */
export function listJson(served: Served, page: ListPage): string {
  const parts: string[] = [];
  for (const stored of page.items) parts.push(objectJson(served, stored));
  return `{"kind":"${served.kind.listKind}","apiVersion":"${served.apiVersion}","metadata":${JSON.stringify(listMeta(page))},"items":[${parts.join(',')}]}`;
}
