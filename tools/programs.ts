// Compiles the C programs of the checkout when their sources are newer. Prints one line per program.
import { join } from 'node:path';
import { buildProgram, programs } from '../src/base/programs.ts';

const root = join(import.meta.dirname, '..');
const quiet = process.argv.includes('--quiet');
for (const name of Object.keys(programs) as (keyof typeof programs)[]) {
  const built = await buildProgram(name, { srcRoot: root, outDir: join(root, 'build') });
  if (!quiet) console.log(`setup: ${name}: ${built.compiled ? 'compiled' : 'up to date'}`);
}
