// Tunes glibc's allocator. By default each thread gets its own arena, and each arena keeps the memory of its peak. A
// Node process has six threads and little contention, so 7 MB are kept for nothing.
import { koffi } from './ffi.ts';

/** malloc.h */
const M_ARENA_MAX = -8;

type Malloc = { mallopt(parameter: number, value: number): number; trim(pad: number): number };

let loaded: Malloc | undefined;

function malloc(): Malloc {
  if (loaded === undefined) {
    const library = koffi().load(null);
    loaded = {
      mallopt: library.func('int mallopt(int, int)'),
      trim: library.func('int malloc_trim(size_t)'),
    };
  }
  return loaded;
}

/** Threads that allocate for the first time after this share the existing arenas. */
export function shareArenas(): void {
  malloc().mallopt(M_ARENA_MAX, 1);
}

/** Gives the free pages of all arenas back to the kernel, which takes 1 to 3 ms. */
export function trimMalloc(): void {
  malloc().trim(0);
}
