import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { readTar, TAR_END, tarEntry } from './tar.ts';

const part = fc.stringMatching(/^[a-z0-9._-]{1,60}$/).filter((text) => text !== '.' && text !== '..');
const entry = fc.record(
  {
    name: fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/')),
    body: fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
  },
  { noNullPrototype: true },
);

test('what is written is read, and a cut archive is refused', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 5 }), fc.nat(), (entries, cut) => {
      const archive = Buffer.concat([...entries.map((one) => tarEntry(one, 1)), TAR_END]);
      assert.deepEqual(readTar(archive), entries);
      const end = archive.length - TAR_END.length;
      assert.throws(() => readTar(archive.subarray(0, cut % (end + 1))));
    }),
  );
});

test('the tar program reads it', () => {
  const name = `nodes/${'n'.repeat(63)}/${'f'.repeat(80)}.json`;
  const archive = Buffer.concat([tarEntry({ name, body: Buffer.from('{}') }, 1), TAR_END]);
  const { stdout, status } = spawnSync('tar', ['-tf', '-'], { input: archive, encoding: 'utf8' });
  assert.deepEqual([status, stdout], [0, `${name}\n`]);
});

test('a damaged header and a name that is too long are refused', () => {
  const archive = Buffer.concat([tarEntry({ name: 'a', body: Buffer.from('x') }, 1), TAR_END]);
  archive[0] = 0x62;
  assert.throws(() => readTar(archive), /no tar header at byte 0/);
  assert.throws(() => tarEntry({ name: 'x'.repeat(300), body: Buffer.alloc(0) }, 1), /too long/);
});
