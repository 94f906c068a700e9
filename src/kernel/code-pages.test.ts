import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { cleanFileRanges, unmapUnusedCode } from './code-pages.ts';

const residentFileBytes = () =>
  Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

test('the process goes on with fewer pages of its files', () => {
  const before = residentFileBytes();

  unmapUnusedCode();

  assert.ok(residentFileBytes() < before / 2, `${residentFileBytes()} of ${before}`);
  assert.deepEqual(JSON.parse(JSON.stringify({ a: ['b', 1] })), { a: ['b', 1] });
});

test('a mapping with changed pages, one that can be written to and memory without a file are left alone', () => {
  const mapping = (head: string, anonymous: number) => `${head}\nRss:  100 kB\nAnonymous:  ${anonymous} kB\n`;
  const smaps = [
    mapping('1000-3000 r-xp 00000000 08:01 42                     /usr/bin/node', 0),
    mapping('3000-4000 r--p 00002000 08:01 42                     /usr/bin/node', 4),
    mapping('4000-5000 rw-p 00003000 08:01 42                     /usr/bin/node', 0),
    mapping('5000-6000 r--p 00000000 00:00 0', 0),
    mapping('6000-7000 r-xp 00000000 00:00 0                      [vdso]', 0),
    mapping('7000-8000 r--s 00000000 08:01 43                     /run/shared', 0),
  ].join('');

  assert.deepEqual(cleanFileRanges(smaps), [{ start: 0x1000n, length: 0x2000 }]);
});
