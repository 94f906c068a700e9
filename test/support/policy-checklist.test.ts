// Every case of the checklist (Kubernetes' E01 to E51, the generated C01 to C30, ClusterNetworkPolicy's K01 to K30, our X01
// to X35) stands in a test, or here with the reason why it does not.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');
const MOST = { E: 51, C: 30, K: 30, X: 35 } as const;

/** Told under another name, or not shown. */
const ELSEWHERE: Record<string, string> = {
  X14: 'test/e2e/policy-life.test.ts: agents that are killed; test/soak/policy-changes.test.ts',
  X16: 'bench/policy-update.ts: 1,000 policies, 10,000 pods',
  X25: 'src/policy/full-table.root.test.ts: a full table of tracked connections',
  X31: 'the flow log: test of the flow log',
};

test('every case of the checklist is in a test, or has a reason', () => {
  const text = globSync('test/{support,e2e,kubernetes}/policy*.ts', { cwd: root })
    .filter((file) => !file.endsWith('policy-checklist.test.ts'))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
  // Two that are made of an index.
  const made = new Set(['K19', 'K20', 'K21', 'K22', 'K23', 'K24', 'K25', 'K26', 'K27', 'K28']);
  const missing: string[] = [];
  for (const [letter, most] of Object.entries(MOST))
    for (let number = 1; number <= most; number++) {
      const id = `${letter}${String(number).padStart(2, '0')}`;
      if (!text.includes(id) && !made.has(id) && !(id in ELSEWHERE)) missing.push(id);
    }
  assert.deepEqual(missing, []);
});
