import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { koffi } from './ffi.ts';
import { trimMalloc } from './malloc.ts';

/** Below the size (128 KiB) from which glibc maps an allocation by itself. */
const PIECE_BYTES = 16 << 10;
const PIECES = 2_000;

const residentBytes = () =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

test('freed memory below a piece in use goes back to the kernel', () => {
  const library = koffi().load(null);
  const malloc = library.func('void *malloc(size_t)');
  const fill = library.func('void *memset(void *, int, size_t)');
  const free = library.func('void free(void *)');
  const pieces = Array.from({ length: PIECES }, () => malloc(PIECE_BYTES));
  for (const piece of pieces) fill(piece, 1, PIECE_BYTES);
  const last = pieces.pop();
  for (const piece of pieces) free(piece);
  const before = residentBytes();

  trimMalloc();

  assert.ok(before - residentBytes() > (PIECES * PIECE_BYTES) / 2);
  free(last);
});
