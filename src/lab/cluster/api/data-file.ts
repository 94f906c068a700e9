// Where this folder's data lies: data/ of the checkout or of the installed package, and for what is made from the locked
// packages build/ of the checkout, dist/data/ of the package. Fails by naming the file and what makes it.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

export function dataFile(name: string): string {
  for (let at = import.meta.dirname; ; at = dirname(at)) {
    const found = [join(at, 'data', name), join(at, 'build', name)].find((path) => existsSync(path));
    if (found !== undefined) return found;
    if (at === dirname(at)) throw new Error(`${name} is not there: in a checkout bin/setup makes it`);
  }
}
