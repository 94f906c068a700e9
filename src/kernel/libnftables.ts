// libnftables through koffi: runs scripts in the calling thread's namespace. Its users are nftables.ts, on a pool thread
// for the process's own namespace and in a worker for others, and `podway doctor`. A context is bound to the namespace
// that it was made in, and runs one script at a time.
// A failed run leaves nothing applied and gives the library's own text.
import { koffi } from './ffi.ts';

/** nftables/libnftables.h */
const NFT_CTX_DEFAULT = 0;
const NFT_CTX_OUTPUT_HANDLE = 1 << 3;
const NFT_CTX_OUTPUT_JSON = 1 << 4;

type Pointer = bigint;

type Library = {
  create(flags: number): Pointer | null;
  free(context: Pointer): void;
  setFlags(context: Pointer, flags: number): void;
  bufferOutput(context: Pointer): number;
  bufferError(context: Pointer): number;
  output(context: Pointer): string | null;
  error(context: Pointer): string | null;
  run: {
    (context: Pointer, script: string): number;
    async(context: Pointer, script: string, done: (error: unknown, result: number) => void): void;
  };
};

let loaded: Library | undefined;

/** Throws when the machine has no libnftables.so.1. */
export function libnftables(): Library {
  if (loaded === undefined) {
    const library = koffi().load('libnftables.so.1');
    loaded = {
      create: library.func('void *nft_ctx_new(uint32_t)'),
      free: library.func('void nft_ctx_free(void *)'),
      setFlags: library.func('void nft_ctx_output_set_flags(void *, unsigned int)'),
      bufferOutput: library.func('int nft_ctx_buffer_output(void *)'),
      bufferError: library.func('int nft_ctx_buffer_error(void *)'),
      output: library.func('const char *nft_ctx_get_output_buffer(void *)'),
      error: library.func('const char *nft_ctx_get_error_buffer(void *)'),
      run: library.func('int nft_run_cmd_from_buffer(void *, const char *)'),
    };
  }
  return loaded;
}

export type NftResult = { ok: boolean; output: string; error: string };

export class NftContext {
  readonly #pointer: Pointer;

  constructor() {
    const library = libnftables();
    const pointer = library.create(NFT_CTX_DEFAULT);
    if (pointer === null)
      throw new Error('libnftables gives no context (out of memory, or no nf_tables in the kernel)');
    library.bufferOutput(pointer);
    library.bufferError(pointer);
    this.#pointer = pointer;
  }

  /** The thread must be in the context's namespace: the library resolves link names there. */
  run(script: string, json: boolean): NftResult {
    const library = libnftables();
    library.setFlags(this.#pointer, json ? NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE : 0);
    const ok = library.run(this.#pointer, script) === 0;
    // Reading a buffer empties it for the next run.
    return { ok, output: library.output(this.#pointer) ?? '', error: library.error(this.#pointer) ?? '' };
  }

  /** The same on a pool thread, which is in the process's own namespace: only for contexts made there. */
  runAsync(script: string, json: boolean): Promise<NftResult> {
    const library = libnftables();
    library.setFlags(this.#pointer, json ? NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE : 0);
    return new Promise((resolve, reject) => {
      library.run.async(this.#pointer, script, (error, code) => {
        if (error) reject(error);
        else {
          const output = library.output(this.#pointer) ?? '';
          resolve({ ok: code === 0, output, error: library.error(this.#pointer) ?? '' });
        }
      });
    });
  }

  free(): void {
    libnftables().free(this.#pointer);
  }
}
