import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { kubeModels } from './kube-models.ts';

test('data/kube-models.txt is what the client of this lock file says', () => {
  const kept = readFileSync(new URL('../data/kube-models.txt', import.meta.url), 'utf8');
  assert.ok(kept === kubeModels(), 'stale: bin/podway-node tools/kube-models.ts writes it anew');
});
