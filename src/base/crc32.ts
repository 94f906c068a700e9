// CRC-32 as zlib, gzip and Ethernet have it (polynomial 0xedb88320, reflected; RFC 1952 section 8). Of our own because the
// journal alone would load node:zlib, which costs the agent 0.8 MiB; records are short.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The checksum of a text's UTF-8 bytes, going on from `last`: an unsigned 32-bit number. */
export function crc32(text: string, last = 0): number {
  let value = ~last;
  for (const byte of Buffer.from(text)) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff]!;
  return ~value >>> 0;
}
