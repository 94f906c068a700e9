// The demo of examples/security-groups.yaml on a real Kubernetes. `npm run test:kubernetes-lab`; on the embedded
// cluster it is the first test of test/e2e/branch-table.test.ts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Check } from '../../src/lab/daemon/protocol.ts';
import { skip as notRoot, ROOT } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { missingKubernetes } from '../support/kubernetes.ts';

const skip =
  notRoot ||
  (process.env['PODWAY_KUBERNETES'] ? false : 'takes a minute (npm run test:kubernetes-lab)') ||
  missingKubernetes();
const file = join(ROOT, 'examples/security-groups.yaml');
const lab = new Lab('kdemo', ['--kubernetes', '-f', file, '--demo', '--set', 'controller=process']);

after(() => (skip ? undefined : lab.down()));

test('the demo of security groups per pod', { skip, timeout: 300_000 }, async () => {
  const { checks } = JSON.parse(await lab.up('-o', 'json')) as { checks: Check[] };
  assert.deepEqual(
    checks.map(({ ok, name, observed }) => ok || `${name}: ${observed}`),
    [true, true, true, true, true, true],
  );
});
