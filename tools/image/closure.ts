// Which modules a set of modules needs. Pure.
import { join } from 'node:path/posix';

const STATIC = /\b(?:from|import)\s*['"](\.[^'"]+)['"]/g;
const DYNAMIC = /\bimport\(\s*['"](\.[^'"]+)['"]\s*\)/g;

/**
 * `roots` and all that they import, sorted. What is imported at a module's start is always followed; what is imported
 * later only when `isOurs` says so.
 */
export function closureOf(
  roots: readonly string[],
  read: (file: string) => string,
  isOurs: (file: string) => boolean,
): string[] {
  const found = new Set(roots);
  for (const file of found) {
    const text = read(file);
    const target = (match: RegExpMatchArray) => join(file, '..', match[1]!);
    for (const match of text.matchAll(STATIC)) found.add(target(match));
    for (const match of text.matchAll(DYNAMIC)) if (isOurs(target(match))) found.add(target(match));
  }
  return [...found].sort();
}
