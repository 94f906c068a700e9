import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { VirtualClock } from '../ipam/testkit.ts';
import { tellNetwork } from './network-condition.ts';

test('a trouble counts when it has lasted, its end at once; nothing is said twice', async () => {
  const clock = new VirtualClock();
  const stop = new AbortController();
  const said: string[] = [];
  let trouble: PodwayError | null = new PodwayError('AGENT_STARTING', 'no identity yet');
  const telling = tellNetwork(
    () => trouble,
    ({ status, reason }) => void said.push(`${status} ${reason}`),
    stop.signal,
    clock,
  );
  await clock.advance(9_000);
  assert.deepEqual(said, [], 'a restart is shorter');
  await clock.advance(3_000);
  assert.deepEqual(said, ['True AgentStarting']);
  trouble = null;
  await clock.advance(2_000);
  assert.deepEqual(said.slice(1), ['False PodwayServes']);
  trouble = new PodwayError('DATAPATH_CHANGED', 'for a moment');
  await clock.advance(5_000);
  trouble = null;
  await clock.advance(60_000);
  assert.equal(said.length, 2);
  trouble = new PodwayError('STATUS_UNAVAILABLE', 'no pod can start');
  await clock.advance(60_000);
  assert.deepEqual(said.slice(2), ['True StatusUnavailable']);
  stop.abort();
  await telling;
});
