// Rulesets as text, for libnftables: tables, chains and their parts, as `nft list` prints them. Pure, and without
// knowledge of what a table is for. nft makes the chains of a table before their rules, so chains may name each other
// in any order.

export type NftChain = {
  readonly name: string;
  /** Type, hook, priority and policy of a base chain. */
  readonly hook?: string | undefined;
  readonly rules: readonly string[];
};

/** As nft prints marks. */
export const hex = (value: number): string => `0x${value.toString(16)}`;

/** A verdict map without a name; each pair is `KEY : VERDICT`. */
export const vmap = (pairs: readonly string[]): string => `vmap { ${pairs.join(', ')} }`;

export const chainText = ({ name, hook, rules }: NftChain): string =>
  [`  chain ${name} {`, ...(hook ? [hook, ...rules] : rules).map((line) => `    ${line}`), '  }'].join('\n');

/** What a set or map has from its beginning; nft refuses an empty list. */
export const elementsText = (list: readonly string[]): string =>
  list.length === 0 ? '' : ` elements = { ${list.join(', ')} };`;

/** `table` is family and name; `parts` are chains, sets and maps, each without a table's name. Adds to what is there. */
export const tableText = (table: string, parts: readonly string[]): string =>
  `table ${table} {\n${parts.join('\n')}\n}\n`;

/** Deletes the table, whether or not it is there. */
export const withoutTable = (table: string): string => `add table ${table}\ndelete table ${table}\n`;
