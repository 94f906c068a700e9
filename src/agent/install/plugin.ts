// What the package has: its compiled plugin, and its version.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Above src/agent/install in a checkout, above dist/src/agent/install in the package. */
const ROOT = resolve(import.meta.dirname, import.meta.filename.endsWith('.js') ? '../../../..' : '../../..');

export const packagedPlugin = (): string => join(ROOT, 'build', 'podway-cni');

let known: string | undefined;

/** `unknown` where package.json is missing. */
export function packageVersion(): string {
  try {
    known ??= (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    known = 'unknown';
  }
  return known;
}
