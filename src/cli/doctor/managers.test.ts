import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { managerRows } from './checks.ts';

test('doctor says which manager of links runs and lacks our file, and our files satisfy it', () => {
  const root = mkdtempSync(join(tmpdir(), 'pwt-doctor-'));
  const deploy = join(import.meta.dirname, '../../../deploy');
  const put = (from: string, to: string) => cpSync(join(deploy, from), join(root, to));
  assert.deepEqual(managerRows(root), []);
  for (const dir of ['run/NetworkManager', 'run/systemd/netif'])
    mkdirSync(join(root, dir), { recursive: true });
  const states = () => managerRows(root).map((row) => `${row.name} ${row.state}`);
  assert.deepEqual(states(), ['NetworkManager note', 'systemd-networkd note']);
  put('NetworkManager/podway.conf', 'etc/NetworkManager/conf.d/podway.conf');
  put('systemd-networkd/05-podway-pods.network', 'etc/systemd/network/05-podway-pods.network');
  assert.deepEqual(states(), ['NetworkManager ok', 'systemd-networkd ok']);
  rmSync(root, { recursive: true });
});
