// Unmaps pages of programs that this process has touched and may not touch again. Node's start reads 50 MB of its own
// file, and the rest of a run reads a third of that. Invariant: it unmaps only pages with the file's own bytes, which
// are those of read-only mappings without a changed page. A touch then brings the same bytes back from the page cache,
// by a minor fault.
import { readFileSync } from 'node:fs';
import { koffi } from './ffi.ts';

/** asm-generic/mman-common.h */
const MADV_DONTNEED = 4;

type Range = { readonly start: bigint; readonly length: number };

let madvise: ((start: bigint, length: number, advice: number) => number) | undefined;
let ranges: Range[] | undefined;

/** Mappings of files that cannot be written to and have no page of their own, as /proc/self/smaps tells them. */
export function cleanFileRanges(smaps: string): Range[] {
  const found: Range[] = [];
  let range: Range | null = null;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d*\s+\//.exec(line);
    if (head) {
      const start = BigInt(`0x${head[1]}`);
      range = { start, length: Number(BigInt(`0x${head[2]}`) - start) };
    } else if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) range = null;
    else if (range && /^Anonymous:\s+0 kB/.test(line)) found.push(range);
  }
  return found;
}

/**
 * Takes a millisecond; what is used next then takes half a millisecond longer, once (88 faults for a call on a socket
 * with four netlink requests). The first call also reads which mappings there are (5 ms). No effect where the kernel
 * refuses.
 */
export function unmapUnusedCode(): void {
  madvise ??= koffi().load(null).func('int madvise(uintptr_t, size_t, int)') as unknown as NonNullable<
    typeof madvise
  >;
  ranges ??= cleanFileRanges(readFileSync('/proc/self/smaps', 'latin1'));
  for (const { start, length } of ranges) madvise(start, length, MADV_DONTNEED);
}
