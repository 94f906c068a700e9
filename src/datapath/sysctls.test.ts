// The record of old values on a full disk: it fails by its path, and the kernel's value stays.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { currentNetns } from '../kernel/netns.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { openSysctlRecord } from './sysctls.ts';

test('a record that cannot be written names its path, and nothing is set', () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-sysctls-'));
  using netns = currentNetns();
  const path = join(dir, 'sysctls.json');
  symlinkSync('/dev/full', `${path}.new`);
  const key = 'net/ipv4/ip_default_ttl';
  const before = readSysctl(netns, key);
  const record = openSysctlRecord(netns, path);
  for (let i = 0; i < 2; i++) {
    assert.throws(() => record.ensure([{ key, value: '65' }], () => true), {
      code: 'RUN_DIR_UNWRITABLE',
      message: `${path} cannot be written: ENOSPC (no space left on device)`,
    });
    assert.equal(readSysctl(netns, key), before);
  }
  rmSync(dir, { recursive: true });
});
