import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { trackedConnections } from './tracked.ts';

test('reads count, limit and drops of all CPUs; null where nothing is tracked', () => {
  const proc = mkdtempSync(join(tmpdir(), 'podway-proc-'));
  try {
    assert.equal(trackedConnections(proc), null);
    for (const dir of ['sys/net/netfilter', 'net/stat']) mkdirSync(join(proc, dir), { recursive: true });
    writeFileSync(join(proc, 'sys/net/netfilter/nf_conntrack_count'), '17\n');
    writeFileSync(join(proc, 'sys/net/netfilter/nf_conntrack_max'), '262144\n');
    const line = (drop: string) => `00000011  00000000 0000000a ${drop} 00000001`;
    writeFileSync(
      join(proc, 'net/stat/nf_conntrack'),
      ['entries  clashres found drop early_drop', line('0000000f'), line('00000001'), ''].join('\n'),
    );
    assert.deepEqual(trackedConnections(proc), { count: 17, limit: 262_144, dropped: 16 });
  } finally {
    rmSync(proc, { recursive: true });
  }
});
