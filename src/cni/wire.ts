// What the plugin and the agent say to each other on the unix socket: one request, one answer, then the end.
// Request: "PODWAY-CNI/1\n", "env NAME LENGTH\nBYTES\n" per variable, "stdin LENGTH\nBYTES\n", "end\n".
// Answer: "PODWAY-CNI/1 EXIT\n" and the plugin's stdout. Every length is bounded; what breaks the form is a WireError.

export type CniCall = { readonly env: ReadonlyMap<string, string>; readonly stdin: Buffer };

/** Bytes of stdin; the plugin has the same bound. */
export const MAX_STDIN = 4 << 20;
/** Bytes of one variable: the kernel's MAX_ARG_STRLEN. */
export const MAX_VARIABLE = 128 << 10;
/** Variables of one request; the plugin knows seven. */
const MAX_VARIABLES = 16;
/** Bytes of a line without its payload. */
const MAX_LINE = 128;
const MAX_ANSWER = 4 << 20;

const MAGIC = 'PODWAY-CNI/1';
const NEWLINE = 0x0a;

export class WireError extends Error {
  override name = 'WireError';
}

/** Takes a request in pieces of any size. */
export class RequestDecoder {
  #pieces: Buffer[] = [];
  #held = 0;
  /** Bytes that must be there before another look is worth it. */
  #wanted = 1;
  #step: 'magic' | 'header' | 'done' = 'magic';
  #env = new Map<string, string>();
  #stdin: Buffer | null = null;

  /** The request once it is whole, null before that. Throws WireError; the decoder is of no use afterwards. */
  push(piece: Uint8Array): CniCall | null {
    if (this.#step === 'done') throw new WireError('bytes after the end of the request');
    this.#pieces.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    this.#held += piece.byteLength;
    if (this.#held < this.#wanted) return null;
    const bytes = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    let at = 0;
    for (;;) {
      const next = this.#read(bytes, at);
      if (this.#isDone()) {
        if (next !== bytes.length) throw new WireError('bytes after the end of the request');
        return { env: this.#env, stdin: this.#stdin ?? Buffer.alloc(0) };
      }
      if (next < 0) break;
      at = next;
    }
    const rest = bytes.subarray(at);
    this.#pieces = rest.length > 0 ? [rest] : [];
    this.#held = rest.length;
    return null;
  }

  #isDone(): boolean {
    return this.#step === 'done';
  }

  /** Reads one line with its payload; answers the offset behind it, or -1 (and what is wanted) when more must come. */
  #read(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(NEWLINE, at);
    if (end < 0 || end - at > MAX_LINE) {
      if (end >= 0 || bytes.length - at > MAX_LINE)
        throw new WireError(`a line is longer than ${MAX_LINE} bytes`);
      this.#wanted = bytes.length - at + 1;
      return -1;
    }
    const line = bytes.toString('latin1', at, end);
    if (this.#step === 'magic') {
      if (line !== MAGIC) throw new WireError(`the request does not begin with ${MAGIC}`);
      this.#step = 'header';
      return end + 1;
    }
    if (line === 'end') {
      if (!this.#stdin) throw new WireError('the request has no stdin');
      this.#step = 'done';
      return end + 1;
    }
    const match = /^(?:env ([A-Z][A-Z0-9_]{0,63})|stdin) (0|[1-9][0-9]{0,8})$/.exec(line);
    if (!match || this.#stdin)
      throw new WireError(`the request has an unexpected line ${JSON.stringify(line.slice(0, 40))}`);
    const length = Number(match[2]);
    if (length > (match[1] ? MAX_VARIABLE : MAX_STDIN))
      throw new WireError(`${match[1] ?? 'stdin'} has ${length} bytes, too many`);
    const after = end + 1 + length;
    if (bytes.length <= after) {
      this.#wanted = after + 1 - at;
      return -1;
    }
    if (bytes[after] !== NEWLINE) throw new WireError(`${match[1] ?? 'stdin'} is not as long as it says`);
    const payload = bytes.subarray(end + 1, after);
    if (!match[1]) {
      this.#stdin = payload;
    } else {
      if (this.#env.has(match[1])) throw new WireError(`${match[1]} is there twice`);
      if (this.#env.size >= MAX_VARIABLES) throw new WireError(`more than ${MAX_VARIABLES} variables`);
      this.#env.set(match[1], payload.toString('utf8'));
    }
    return after + 1;
  }
}

export function encodeRequest(env: Iterable<readonly [string, string]>, stdin: Uint8Array | string): Buffer {
  const parts: Buffer[] = [Buffer.from(`${MAGIC}\n`)];
  for (const [name, value] of env) {
    const bytes = Buffer.from(value);
    parts.push(Buffer.from(`env ${name} ${bytes.length}\n`), bytes, Buffer.from('\n'));
  }
  const body = typeof stdin === 'string' ? Buffer.from(stdin) : stdin;
  parts.push(Buffer.from(`stdin ${body.length}\n`), Buffer.from(body), Buffer.from('\nend\n'));
  return Buffer.concat(parts);
}

export function encodeAnswer(exit: 0 | 1, stdout: string): Buffer {
  return Buffer.from(`${MAGIC} ${exit}\n${stdout}`);
}

/** Reads a whole answer (all bytes until the end of the stream). */
export function decodeAnswer(bytes: Buffer): { exit: 0 | 1; stdout: string } {
  const head = bytes.toString('latin1', 0, MAGIC.length + 3);
  if (bytes.length > MAX_ANSWER || (head !== `${MAGIC} 0\n` && head !== `${MAGIC} 1\n`)) {
    throw new WireError('the answer is not in the protocol');
  }
  return { exit: head.at(-2) === '0' ? 0 : 1, stdout: bytes.toString('utf8', head.length) };
}
