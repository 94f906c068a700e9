// Where the generated data of this folder lies: data/ of the checkout or of the installed package.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

export function dataFile(name: string): string {
  for (let at = import.meta.dirname; ; at = dirname(at)) {
    const path = join(at, 'data', name);
    if (existsSync(path)) return path;
    if (at === dirname(at)) throw new Error(`data/${name} is missing from the package`);
  }
}
