import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makerOf } from './sweep.ts';

test('a sweep knows what tests made by the process id in its name, and nothing else', () => {
  const made = {
    lab: ['e2e-ec2-4711', 'pwt-a-4711', 'storm-k4711', 'fuzz-4711'],
    namespace: [
      'pwt-kernel-4711',
      'pwt-kernel-ct-4711',
      'pwt-datapath-4711-3-node',
      'pwt-repl-4711-old1',
      'e2e-why-4711-by-hand',
      'podway_pwtfabric4711x14_a',
    ],
  } as const;
  for (const kind of ['lab', 'namespace'] as const) {
    for (const name of made[kind]) assert.equal(makerOf(kind, name), 4711, name);
  }
  for (const name of ['default', 'demo-2', 'e2e-', 'storm-4711-mine'])
    assert.equal(makerOf('lab', name), undefined);
  for (const name of ['podway_default_node-2', 'podway_pwt-lab-a_node-2', 'pwt-node-2', 'cni-4711']) {
    assert.equal(makerOf('namespace', name), undefined, name);
  }
});
