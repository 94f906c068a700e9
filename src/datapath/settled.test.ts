// When a state is known as synced: whole, and branch by branch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import type { Branch } from './branch.ts';
import { Settled } from './settled.ts';
import { nodeState } from './testing.ts';

const branch = (vlan: number, eniId = `eni-${vlan}`) =>
  ({ vlan, eniId, ips: [parseIp('2600::1')], gate: undefined }) as unknown as Branch;
const state = (...branches: Branch[]) => nodeState({ branches });

test('a state is settled once a sync of it has ended, until it changes', () => {
  const settled = new Settled();
  assert.equal(settled.begin(state(branch(1))), false);
  settled.end(state(branch(1)));
  assert.equal(settled.begin(state(branch(1))), true);
  assert.equal(settled.begin(nodeState({ branches: [branch(1)], eniMtu: 1500 })), false);
  assert.equal(settled.begin(state(branch(1, 'eni-other'))), false);
  assert.equal(settled.begin(state(branch(1), branch(2))), false);
  assert.equal(settled.begin(state()), false);
  settled.clear();
  assert.equal(settled.begin(state(branch(1))), false);
});

test('what comes and goes alone is settled at once, also while a sync of an older state ends', () => {
  const settled = new Settled();
  settled.begin(state(branch(1), branch(2)));
  settled.end(state(branch(1), branch(2)));
  settled.came(branch(3));
  assert.equal(settled.begin(state(branch(1), branch(2), branch(3))), true);
  settled.came(branch(4));
  settled.went(1);
  settled.end(state(branch(1), branch(2), branch(3)));
  assert.equal(settled.begin(state(branch(2), branch(3), branch(4))), true);
  // What a newer state brings meanwhile is not.
  settled.end(state(branch(2), branch(3), branch(4)));
  assert.equal(settled.begin(state(branch(2), branch(3), branch(4), branch(5))), false);
});
