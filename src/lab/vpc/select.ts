// Describe in general: by ids, by Filter.N, in pages. Items come sorted by id, and a page's token names the last id
// given, so that what is made or deleted between two pages repeats nothing and hides nothing that stayed.
// Fails with the kind's NotFound, InvalidParameterValue for an unknown filter, InvalidNextToken.
import { Ec2Error, invalidValue, notFound, type ResourceWords } from './errors.ts';
import type { Tags } from './model.ts';

export type FilterValue = string | boolean | number | undefined;
/** Filter name to the values that an item has for it. */
export type Filters<T> = Record<string, (item: T) => FilterValue | FilterValue[]>;

/** Documented filters on what nothing in the lab has: as on EC2 they are valid, and match nothing. */
export const absent = <T>(...names: string[]): Filters<T> =>
  Object.fromEntries(names.map((name) => [name, () => undefined]));

type Filter = { Name?: string | undefined; Values?: string[] | undefined };
export type Selection = {
  ids?: string[] | undefined;
  Filters?: Filter[] | undefined;
  MaxResults?: number | undefined;
  NextToken?: string | undefined;
};

const MAX_FILTER_VALUES = 200;
const MAX_PAGE = 1000;

export type Selectable<T> = {
  items: readonly T[];
  idOf: (item: T) => string;
  tagsOf?: (item: T) => Tags;
  words?: ResourceWords;
  filters: Filters<T>;
  /** EC2 takes at least this many; 5 but for a few actions. */
  minPage?: number;
  /** And at most this many; 1000 but for a few. */
  maxPage?: number;
  /** Documented filters on what EC2 has and the lab knows nothing of: refused by name, as no answer would be right. */
  unknown?: readonly string[];
};

export function select<T>(from: Selectable<T>, by: Selection): { items: T[]; nextToken?: string } {
  let items = [...from.items];
  if (by.ids?.length) {
    const wanted = new Set(by.ids);
    items = items.filter((item) => wanted.delete(from.idOf(item)));
    if (wanted.size > 0 && from.words) throw notFound(from.words, [...wanted]);
  }
  for (const filter of by.Filters ?? []) items = items.filter(matcher(from, filter));
  items.sort((a, b) => (from.idOf(a) < from.idOf(b) ? -1 : 1));
  return page(items, from, by);
}

function page<T>(items: T[], from: Selectable<T>, by: Selection): { items: T[]; nextToken?: string } {
  const { MaxResults: max, NextToken: token } = by;
  const min = from.minPage ?? 5;
  const most = from.maxPage ?? MAX_PAGE;
  if (max !== undefined && (!Number.isInteger(max) || max < min || max > most)) {
    throw invalidValue(
      `Value ( ${max} ) for parameter maxResults is invalid. Expecting a value between ${min} and ${most}.`,
    );
  }
  let rest = items;
  if (token !== undefined) {
    const last = readToken(token);
    rest = items.filter((item) => from.idOf(item) > last);
  }
  const limit = max ?? MAX_PAGE;
  if (rest.length <= limit) return { items: rest };
  const given = rest.slice(0, limit);
  return {
    items: given,
    nextToken: Buffer.from(`after:${from.idOf(given[limit - 1]!)}`).toString('base64url'),
  };
}

function readToken(token: string): string {
  const text = Buffer.from(token, 'base64url').toString();
  if (!text.startsWith('after:'))
    throw new Ec2Error('InvalidNextToken', `The token '${token.slice(0, 100)}' is invalid`);
  return text.slice('after:'.length);
}

function matcher<T>(from: Selectable<T>, filter: Filter): (item: T) => boolean {
  const name = filter.Name ?? '';
  const values = filter.Values ?? [];
  if (values.length > MAX_FILTER_VALUES) {
    throw new Ec2Error(
      'FilterLimitExceeded',
      `The filter '${name}' has ${values.length} values, ${MAX_FILTER_VALUES} are allowed`,
    );
  }
  const patterns = values.map(wildcard);
  const valuesOf = valuesFor(from, name);
  return (item) => {
    const has = valuesOf(item);
    return (Array.isArray(has) ? has : [has]).some(
      (value) => value !== undefined && patterns.some((pattern) => pattern(String(value))),
    );
  };
}

function valuesFor<T>(from: Selectable<T>, name: string): (item: T) => FilterValue | FilterValue[] {
  const { tagsOf } = from;
  if (tagsOf) {
    if (name.startsWith('tag:')) return (item) => tagsOf(item)[name.slice(4)];
    if (name === 'tag-key') return (item) => Object.keys(tagsOf(item));
    if (name === 'tag-value') return (item) => Object.values(tagsOf(item));
  }
  const known = Object.hasOwn(from.filters, name) ? from.filters[name] : undefined;
  if (!known && from.unknown?.includes(name))
    throw new Ec2Error('UnsupportedOperation', `The filter '${name}' has no meaning in this VPC.`);
  if (!known) throw invalidValue(`The filter '${name}' is invalid`);
  return known;
}

/** EC2's patterns: `*` any run, `?` any one character, a backslash takes the next one as it is; case counts. */
export function wildcard(pattern: string): (text: string) => boolean {
  if (!/[*?\\]/.test(pattern)) return (text) => text === pattern;
  const tokens: string[] = [];
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]!;
    if (c === '\\' && i + 1 < pattern.length) tokens.push(`=${pattern[++i]}`);
    else if (c === '*' || c === '?') tokens.push(c);
    else tokens.push(`=${c}`);
  }
  return (text) => glob(tokens, text);
}

// Greedy with one point of return: linear in practice, quadratic at worst, never exponential as a regex could be.
function glob(tokens: readonly string[], text: string): boolean {
  let t = 0;
  let star = -1;
  let mark = 0;
  let i = 0;
  while (i < text.length) {
    const token = tokens[t];
    if (token === '*') {
      star = t++;
      mark = i;
    } else if (token === '?' || token === `=${text[i]}`) {
      t++;
      i++;
    } else if (star >= 0) {
      t = star + 1;
      i = ++mark;
    } else return false;
  }
  while (tokens[t] === '*') t++;
  return t === tokens.length;
}
