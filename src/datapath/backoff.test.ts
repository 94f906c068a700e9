import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BACKOFF_MS, type History, isForgotten, judge } from './backoff.ts';

/** What is done at each of the times: a repair, a pause, or a pause that is told of. */
function play(times: readonly number[]): string[] {
  let history: History | undefined;
  return times.map((now) => {
    const verdict = judge(history, now);
    history = verdict.history;
    return verdict.repair ? 'repair' : verdict.begins ? `tell ${verdict.at}` : `wait ${verdict.at}`;
  });
}

describe('back-off of repairs', () => {
  it('twice at once, the third time in a window later, told once', () => {
    assert.deepEqual(play([0, 100, 200, 300]), ['repair', 'repair', 'tell 10100', 'wait 10100']);
  });

  it('goes on once in a window while the fight lasts, and tells no more', () => {
    const next = 100 + BACKOFF_MS;
    assert.deepEqual(play([0, 100, 200, next, next + 1, next + BACKOFF_MS]), [
      'repair',
      'repair',
      `tell ${next}`,
      'repair',
      `wait ${next + BACKOFF_MS}`,
      'repair',
    ]);
  });

  it('forgets what was quiet for a window', () => {
    assert.deepEqual(play([0, 100, 100 + BACKOFF_MS, 200 + BACKOFF_MS]), [
      'repair',
      'repair',
      'repair',
      'repair',
    ]);
    assert.equal(isForgotten({ times: [0], isFight: true }, BACKOFF_MS), false);
    assert.equal(isForgotten({ times: [0], isFight: true }, 2 * BACKOFF_MS), true);
  });

  it('counts within a window, not in a row', () => {
    assert.deepEqual(play([0, 6_000, 12_000, 18_000]), ['repair', 'repair', 'repair', 'repair']);
  });

  it('a fight is over when nobody has changed the object for a window after its last repair', () => {
    const over = 100 + 3 * BACKOFF_MS;
    assert.deepEqual(play([0, 100, 200, over, over + 1, over + 2]), [
      'repair',
      'repair',
      `tell ${100 + BACKOFF_MS}`,
      'repair',
      'repair',
      `tell ${over + 1 + BACKOFF_MS}`,
    ]);
  });

  it('slow changes are put back each time', () => {
    const times = [0, 1, 2, 3].map((n) => n * BACKOFF_MS);
    assert.deepEqual(play(times), ['repair', 'repair', 'repair', 'repair']);
  });
});
