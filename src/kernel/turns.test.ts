import assert from 'node:assert/strict';
import { release } from 'node:os';
import { test } from 'node:test';
import { askForShortTurns, SHORTEST_TURN_NS } from './turns.ts';

const [major = 0, minor = 0] = release().split('.').map(Number);
const tellsTurns = major > 6 || (major === 6 && minor >= 12);

test('the thread asks for the shortest turns', { skip: !tellsTurns && 'Linux 6.12 grants them' }, () => {
  const turns = askForShortTurns();
  assert.ok(turns !== null && turns.before > SHORTEST_TURN_NS, String(turns?.before));
  assert.equal(turns.now, SHORTEST_TURN_NS);

  assert.equal(askForShortTurns()?.before, SHORTEST_TURN_NS);
});
