import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as zlib } from 'node:zlib';
import fc from 'fast-check';
import { crc32 } from './crc32.ts';

test('the checksum is the one of RFC 1952, as zlib computes it', () => {
  assert.equal(crc32('123456789'), 0xcbf43926);
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.nat(0xffffffff), (text, last) => {
      assert.equal(crc32(text, last), zlib(text, last));
    }),
  );
});
