import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ensureKubeModels, FILE } from './kube-models.ts';

test('the fields of the kinds are made once, and again when their sources change or the file is gone', () => {
  const folder = mkdtempSync(join(tmpdir(), 'podway-models-'));
  try {
    const path = join(folder, FILE);
    assert.equal(ensureKubeModels(folder), true);
    const text = readFileSync(path, 'utf8');
    assert.match(text, /^V1Pod\|/m);
    assert.equal(ensureKubeModels(folder), false);
    writeFileSync(join(folder, `.${FILE}.stamp`), 'of an earlier client');
    assert.equal(ensureKubeModels(folder), true);
    rmSync(path);
    assert.equal(ensureKubeModels(folder), true);
    assert.equal(readFileSync(path, 'utf8'), text);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
