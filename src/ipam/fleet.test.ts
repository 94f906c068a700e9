import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fleet } from './testing-fleet.ts';

const MINUTE = 60_000;

test('1,000 nodes: under 5 EC2 calls a second at rest, under 20 when all restart within 5 minutes', async () => {
  const size = 1_000;
  using fleet = new Fleet(size);
  await fleet.start(5 * MINUTE);
  await fleet.addPods(10);
  await fleet.clock.advance(5 * MINUTE);
  const rest = await fleet.count(() => fleet.clock.advance(6 * MINUTE));
  assert.ok(rest.perSecond > 1, `${rest.perSecond} calls a second: nobody looks`);
  assert.ok(rest.perSecond < 5, `${rest.perSecond} calls a second at rest`);
  assert.deepEqual(Object.keys(rest.byAction), ['DescribeNetworkInterfaces']);
  const restart = await fleet.count(() => fleet.start(5 * MINUTE));
  assert.ok(restart.perSecond < 20, `${restart.perSecond} calls a second while all restart`);
  assert.ok(restart.peak < 20, `${restart.peak} calls a second in the busiest ten`);
  assert.equal(fleet.held(), 10 * size);
});
