// The building blocks of printer columns: how ages, lists and missing values look in kubectl's tables.
import type { Any, Column } from './kinds.ts';

export type Cell = Column['cell'];

export const nameColumn: Column = {
  name: 'Name',
  type: 'string',
  format: 'name',
  description:
    'Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.',
  priority: 0,
  cell: (object) => object.metadata.name ?? '',
};

export const column = (name: string, cell: Cell, type: Column['type'] = 'string'): Column => ({
  name,
  type,
  priority: 0,
  cell,
});

/** Shown with `-o wide` only. */
export const wide = (name: string, cell: Cell): Column => ({ name, type: 'string', priority: 1, cell });

/** duration.HumanDuration of apimachinery: two units at most, the finer the shorter. */
export function humanDuration(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < -1) return '<invalid>';
  if (s < 0) return '0s';
  if (s < 120) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 10) return s % 60 === 0 ? `${m}m` : `${m}m${s % 60}s`;
  if (m < 180) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 8) return m % 60 === 0 ? `${h}h` : `${h}h${m % 60}m`;
  if (h < 48) return `${h}h`;
  const d = Math.floor(h / 24);
  if (d < 8) return h % 24 === 0 ? `${d}d` : `${d}d${h % 24}h`;
  if (d < 730) return `${d}d`;
  const y = Math.floor(d / 365);
  if (y < 8) return d % 365 === 0 ? `${y}y` : `${y}y${d % 365}d`;
  return `${y}y`;
}

export function age(timestamp: unknown, now: number): string {
  if (typeof timestamp !== 'string' || timestamp === '') return '<unknown>';
  const then = Date.parse(timestamp);
  return Number.isNaN(then) ? '<unknown>' : humanDuration(now - then);
}

export const ageColumn: Column = column('Age', (object, now) => age(object.metadata.creationTimestamp, now));

/** Reads `a.b.c`; undefined when something on the way is missing. */
export function at(object: unknown, path: string): unknown {
  let value: unknown = object;
  for (const key of path.split('.')) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

export const textAt = (object: unknown, path: string, missing = ''): string => {
  const value = at(object, path);
  return value === undefined || value === null || value === '' ? missing : String(value);
};

export const numberAt = (object: unknown, path: string, missing = 0): number => {
  const value = at(object, path);
  return typeof value === 'number' ? value : missing;
};

export function listAt(object: unknown, path: string): readonly Any[] {
  const value = at(object, path);
  return Array.isArray(value) ? (value as Any[]).filter((v) => v !== null && v !== undefined) : [];
}

export const text =
  (path: string, missing = ''): Cell =>
  (object) =>
    textAt(object, path, missing);
export const number =
  (path: string, missing = 0): Cell =>
  (object) =>
    numberAt(object, path, missing);
export const count =
  (path: string): Cell =>
  (object) =>
    listAt(object, path).length;
export const since =
  (path: string, missing = '<unknown>'): Cell =>
  (object, now) => {
    const when = textAt(object, path);
    return when === '' ? missing : age(when, now);
  };

/** `a=b,c=d`, or `<none>`. */
export function labelsText(value: unknown): string {
  if (value === null || typeof value !== 'object') return '<none>';
  const pairs = Object.entries(value).map(([key, v]) => `${key}=${String(v)}`);
  return pairs.length === 0 ? '<none>' : pairs.sort().join(',');
}

/** metav1.FormatLabelSelector. */
export function selectorText(value: unknown): string {
  const parts = Object.entries((at(value, 'matchLabels') as object | undefined) ?? {}).map(
    ([key, v]) => `${key}=${String(v)}`,
  );
  parts.sort();
  for (const e of listAt(value, 'matchExpressions') as unknown as {
    key: string;
    operator: string;
    values?: string[];
  }[]) {
    if (e.operator === 'Exists') parts.push(e.key);
    else if (e.operator === 'DoesNotExist') parts.push(`!${e.key}`);
    else parts.push(`${e.key} ${e.operator === 'In' ? 'in' : 'notin'} (${(e.values ?? []).join(',')})`);
  }
  return parts.length === 0 ? '<none>' : parts.join(',');
}

/** The first `shown` of a list, and how many more there are. */
export function withMore(items: readonly string[], shown: number): string {
  if (items.length === 0) return '<none>';
  const head = items.slice(0, shown).join(',');
  return items.length > shown ? `${head} + ${items.length - shown} more...` : head;
}
