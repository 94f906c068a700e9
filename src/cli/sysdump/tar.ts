// The tar format (POSIX.1-1988 ustar) as far as a dump needs it: plain files of text with names of at most 100 and 155
// bytes. Reading is strict: a checksum that is wrong or a file that is cut throws an Error with the offset.
const BLOCK = 512;
const NAME = 100;
const PREFIX = 155;

export type TarEntry = { name: string; body: Buffer };

/** ustar splits a long name at a slash. */
function split(name: string): [prefix: string, name: string] {
  if (Buffer.byteLength(name) <= NAME) return ['', name];
  for (let at = name.indexOf('/'); at >= 0; at = name.indexOf('/', at + 1)) {
    const [head, tail] = [name.slice(0, at), name.slice(at + 1)];
    if (Buffer.byteLength(head) <= PREFIX && Buffer.byteLength(tail) <= NAME && tail !== '')
      return [head, tail];
  }
  throw new Error(`"${name}" is too long for a tar archive`);
}

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

/** Header and padded body. `mtime`: seconds. */
export function tarEntry({ name, body }: TarEntry, mtime: number): Buffer {
  const [prefix, base] = split(name);
  const out = Buffer.alloc(BLOCK + Math.ceil(body.length / BLOCK) * BLOCK);
  out.write(base, 0);
  out.write(octal(0o600, 8), 100);
  out.write(octal(0, 8), 108);
  out.write(octal(0, 8), 116);
  out.write(octal(body.length, 12), 124);
  out.write(octal(mtime, 12), 136);
  out.fill(' ', 148, 156);
  out.write('0', 156);
  out.write('ustar\0', 257);
  out.write('00', 263);
  out.write(prefix, 345);
  out.write(octal(checksum(out), 7), 148);
  body.copy(out, BLOCK);
  return out;
}

/** Two empty blocks. */
export const TAR_END = Buffer.alloc(2 * BLOCK);

function checksum(block: Buffer): number {
  let sum = 0;
  for (let at = 0; at < BLOCK; at++) sum += at >= 148 && at < 156 ? 32 : block[at]!;
  return sum;
}

const textAt = (block: Buffer, at: number, length: number): string => {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
};

export function readTar(archive: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  for (let at = 0; at + BLOCK <= archive.length; ) {
    const header = archive.subarray(at, at + BLOCK);
    if (header.every((byte) => byte === 0)) return entries;
    if (Number.parseInt(textAt(header, 148, 8), 8) !== checksum(header))
      throw new Error(`no tar header at byte ${at}`);
    const prefix = textAt(header, 345, PREFIX);
    const name = textAt(header, 0, NAME);
    const size = Number.parseInt(textAt(header, 124, 12), 8);
    const body = archive.subarray(at + BLOCK, at + BLOCK + size);
    if (!(size >= 0) || body.length < size) throw new Error(`${name} is cut at byte ${archive.length}`);
    if (textAt(header, 156, 1) === '0' || header[156] === 0)
      entries.push({ name: prefix === '' ? name : `${prefix}/${name}`, body });
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw new Error(`it is cut at byte ${archive.length}`);
}
