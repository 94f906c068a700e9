import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FollowedFile } from './followed-file.ts';

test('a token that the kubelet renews is read again, and kept while it cannot be read', () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-followed-'));
  try {
    // As a projected volume: the name is a link into a folder that a renamed link exchanges as a whole.
    const put = (generation: number, text: string) => {
      writeFileSync(join(dir, `token-${generation}`), text);
      symlinkSync(`token-${generation}`, join(dir, 'next'));
      renameSync(join(dir, 'next'), join(dir, 'token'));
    };
    put(1, 'one\n');
    let now = 0;
    const file = new FollowedFile(join(dir, 'token'), () => now);
    assert.equal(file.read(), 'one');
    assert.equal(file.hasChanged(), false);
    put(2, 'two\n');
    assert.equal(file.read(), 'one', 'not looked at again so soon');
    now += 10_000;
    assert.equal(file.read(), 'two');
    assert.deepEqual([file.hasChanged(), file.hasChanged()], [true, false]);
    rmSync(join(dir, 'token'));
    now += 10_000;
    assert.equal(file.read(), 'two');
    put(3, '');
    now += 10_000;
    assert.equal(file.read(), 'two', 'an empty file is half a write');
    put(4, 'two');
    now += 10_000;
    assert.equal(file.hasChanged(), false, 'the same text is no news');
    assert.throws(() => new FollowedFile(join(dir, 'nothing')).read(), /ENOENT/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
