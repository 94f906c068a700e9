// Ways to lose what a node's agent keeps on disk, while it runs and writes: each says what it did.
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeRecord } from '../../src/base/journal.ts';

type Random = () => number;
const NEWLINE = 10;
const below = (random: Random, bound: number): number => Math.floor(random() * bound);
const noise = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => below(random, 256)));

function altered(bytes: Buffer, random: Random, count: number): Buffer {
  for (let i = 0; i < count && bytes.length > 0; i++) {
    const change = 1 + below(random, 255);
    // A letter of a checksum means the same in both cases.
    bytes[below(random, bytes.length)]! ^= change === 0x20 ? 0x21 : change;
  }
  return bytes;
}

/** Replaces the header by one of another origin; the checksums behind it go on from the new one. */
function foreign(text: string): string {
  const [, ...lines] = text.trimEnd().split('\n');
  let all = encodeRecord({ journal: 2, boot: 'another', netns: '1' });
  for (let last = all; lines.length > 0; ) {
    last = encodeRecord(JSON.parse(lines.shift()!.slice(9)), Number.parseInt(last, 16));
    all += last;
  }
  return all;
}

/** Where a file of so many bytes is cut: never behind a whole line, which nobody could miss. */
function inLine(bytes: Buffer, random: Random): number {
  const at = below(random, bytes.length);
  return bytes[at - 1] === NEWLINE ? at - 1 : at;
}

/** By name; each gets the journal's path. All are found out by whoever reads the file. */
export const JOURNAL_DAMAGES: Record<string, (path: string, random: Random) => void> = {
  missing: (path) => rmSync(path),
  emptied: (path) => truncateSync(path),
  cut: (path, random) => truncateSync(path, inLine(readFileSync(path), random)),
  'one record altered': (path, random) => writeFileSync(path, altered(readFileSync(path), random, 1)),
  'bytes altered': (path, random) =>
    writeFileSync(path, altered(readFileSync(path), random, 2 + below(random, 40))),
  'a line taken away': (path, random) => {
    const lines = readFileSync(path, 'utf8').split('\n');
    // Behind the last record is nothing by which it could be missed.
    lines.splice(below(random, lines.length - 2), 1);
    writeFileSync(path, lines.join('\n'));
  },
  'random bytes': (path, random) => writeFileSync(path, noise(random, 1 + below(random, 5_000))),
  'an unknown version': (path) => writeFileSync(path, encodeRecord({ journal: 99 })),
  'another namespace or boot': (path) => {
    const text = readFileSync(path, 'utf8');
    try {
      writeFileSync(path, foreign(text));
    } catch (error) {
      // Damaged before and not yet written anew: it has no lines to go on from.
      if (!(error instanceof SyntaxError)) throw error;
    }
  },
};

/** What only the pods' links can tell of. */
const UNTOLD: Record<string, (path: string, random: Random) => void> = {
  'the last record taken away': (path) => {
    const lines = readFileSync(path, 'utf8').split('\n');
    lines.splice(-2, 1);
    writeFileSync(path, lines.join('\n'));
  },
};

/** Other files of the agent, damaged beside the journal now and then. */
const OTHERS = ['vpc.json', 'sysctls.json'];

/** One random damage to the files of a run directory. */
export function damageAtRandom(run: string, random: Random): string {
  const all = { ...JOURNAL_DAMAGES, ...UNTOLD };
  const names = Object.keys(all);
  const name = names[below(random, names.length)]!;
  all[name]!(join(run, 'journal'), random);
  if (random() >= 0.2) return name;
  const other = OTHERS[below(random, OTHERS.length)]!;
  writeFileSync(join(run, other), noise(random, below(random, 60)));
  return `${name}, ${other}`;
}
