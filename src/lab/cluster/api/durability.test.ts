import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pods } from '../../../kube/index.ts';
import { openKubeApi } from './index.ts';

const program = (dir: string) => `
import { openKubeApi } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
import { writeSync } from 'node:fs';
const { pods } = await import(${JSON.stringify(join(import.meta.dirname, '../../../kube/index.ts'))});
const { store } = await openKubeApi({ dir: ${JSON.stringify(dir)}, names: ['127.0.0.1'] });
const from = store.list(pods).length;
writeSync(1, 'ready\\n');
for (let i = from; ; i++) {
  const name = 'p-' + process.pid + '-' + i;
  store.create(pods, { metadata: { name, namespace: 'default' }, spec: { containers: [{ name: 'a', image: 'b' }] } });
  const { metadata } = store.patch(pods, name, 'default', { metadata: { labels: { i: String(i) } } });
  writeSync(1, 'has ' + name + ' ' + metadata.resourceVersion + '\\n');
  if (i % 3 === 0) {
    store.delete(pods, name, 'default');
    writeSync(1, 'not ' + name + ' ' + store.resourceVersion + '\\n');
  }
}
`;

test('kill -9 loses nothing that was answered, and versions never go back', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-kube-kill-'));
  const file = join(dir, 'writer.ts');
  writeFileSync(file, program(dir));
  const told = new Map<string, boolean>();
  let highest = 0;
  try {
    for (let round = 0; round < 6; round++) {
      const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      await new Promise<void>((resolve) => {
        child.stdout.on('data', (chunk: Buffer) => {
          text += chunk.toString();
          // At some point of the writing, a different one each round.
          if (text.length > 3000 * (round + 1)) child.kill('SIGKILL');
        });
        child.on('close', () => resolve());
      });
      for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n')) {
        const [what, name, version] = line.split(' ') as [string, string, string];
        if (what !== 'has' && what !== 'not') continue;
        told.set(name, what === 'has');
        assert.ok(Number(version) > highest, `${version} after ${highest}`);
        highest = Number(version);
      }
      const api = await openKubeApi({ dir, names: ['127.0.0.1'] });
      assert.ok(Number(api.store.resourceVersion) >= highest);
      const labels = new Map(api.store.list(pods).map((p) => [p.metadata.name, p.metadata.labels?.['i']]));
      const last = [...told.keys()].at(-1);
      // The last one may have been deleted before the writer could say so: from here on it is what the store says.
      if (last !== undefined && told.get(last)) told.set(last, labels.has(last));
      for (const [name, has] of told) assert.equal(labels.has(name), has, name);
      highest = Math.max(highest, Number(api.store.resourceVersion));
      await api.close();
    }
    assert.ok(told.size > 100, `${told.size} pods were written`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('two processes cannot have one store', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-kube-two-'));
  const first = await openKubeApi({ dir, names: ['127.0.0.1'] });
  try {
    await assert.rejects(openKubeApi({ dir, names: ['127.0.0.1'] }), /locked/);
  } finally {
    await first.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
