// Loaded ahead of each test file by `npm test`: properties (fast-check) begin with the seed that PODWAY_SEED names.
import { readFileSync } from 'node:fs';

const seed = Number(process.env['PODWAY_SEED']);
const file = process.argv[1];
if (
  Number.isInteger(seed) &&
  file?.endsWith('.test.ts') &&
  readFileSync(file, 'utf8').includes("'fast-check'")
) {
  const { default: fc } = await import('fast-check');
  fc.configureGlobal({ seed });
}
