import assert from 'node:assert/strict';
import { release } from 'node:os';
import { test } from 'node:test';
import { askForShortTurns, SHORTEST_TURN_NS, turnOf } from './turns.ts';

const [major = 0, minor = 0] = release().split('.').map(Number);
const tellsTurns = major > 6 || (major === 6 && minor >= 12);

test('the thread asks for the shortest turns', { skip: !tellsTurns && 'Linux 6.12 grants them' }, () => {
  const before = turnOf();
  assert.ok(before !== null && before > SHORTEST_TURN_NS, String(before));

  assert.equal(askForShortTurns(), true);

  assert.equal(turnOf(), SHORTEST_TURN_NS);
});
