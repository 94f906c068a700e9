// Buckets: sizes as published, one per action, refilled in time; what `lab throttle` sets goes before them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bucket } from './bucket.ts';
import { CallLog } from './call-log.ts';
import { publishedDraws } from './published.ts';
import { EVERY, Throttle } from './throttle.ts';

const passed = (throttle: Throttle, action: string, times: number, now: number, input = {}, mode = 'aws') => {
  let count = 0;
  for (let i = 0; i < times; i++) {
    try {
      throttle.check(action, input, mode as 'aws', now);
      count++;
    } catch (error) {
      assert.equal((error as { code: string }).code, 'RequestLimitExceeded');
      assert.equal((error as { status: number }).status, 503);
      assert.equal((error as Error).message, 'Request limit exceeded.');
    }
  }
  return count;
};

test('a bucket gives its burst, then its rate, and holds no more than its burst', () => {
  const bucket = new Bucket({ perSecond: 2, burst: 3 });
  assert.deepEqual(
    [0, 0, 0, 0].map((now) => bucket.take(now)),
    [true, true, true, false],
  );
  assert.equal(bucket.take(499), false);
  assert.equal(bucket.take(500), true);
  assert.deepEqual(
    [60_000, 60_000, 60_000, 60_000].map((now) => bucket.take(now)),
    [true, true, true, false],
  );
});

for (const [action, input, burst, perSecond] of [
  ['CreateNetworkInterface', {}, 100, 5],
  ['AssignPrivateIpAddresses', {}, 100, 5],
  ['UnassignPrivateIpAddresses', {}, 100, 5],
  ['ModifyNetworkInterfaceAttribute', {}, 100, 5],
  ['AttachNetworkInterface', {}, 50, 5],
  ['DetachNetworkInterface', {}, 50, 5],
  ['CreateTags', {}, 100, 10],
  ['CreateSubnetCidrReservation', {}, 5, 1],
  ['RunInstances', { MaxCount: 1 }, 5, 2],
  ['DescribeSubnets', {}, 100, 20],
  ['DescribeNetworkInterfaces', { NetworkInterfaceIds: ['eni-1'] }, 50, 10],
  ['DescribeNetworkInterfaces', { Filters: [{ Name: 'vpc-id', Values: ['vpc-1'] }] }, 100, 20],
  ['DescribeNetworkInterfaces', { MaxResults: 1000 }, 100, 20],
] as const) {
  test(`${action} ${JSON.stringify(input)}: ${burst} at once, then ${perSecond} a second`, () => {
    const throttle = new Throttle(new Map());
    assert.equal(passed(throttle, action, burst + 20, 0, input), burst);
    assert.equal(passed(throttle, action, 50, 1000, input), perSecond);
  });
}

test('one action without tokens leaves the others theirs; nothing is refused while it is off', () => {
  const throttle = new Throttle(new Map());
  assert.equal(passed(throttle, 'AttachNetworkInterface', 60, 0), 50);
  assert.equal(passed(throttle, 'DetachNetworkInterface', 60, 0), 50);
  assert.equal(passed(throttle, 'AttachNetworkInterface', 60, 0, {}, 'none'), 60);
});

test('an action of many instances takes a token for each', () => {
  const throttle = new Throttle(new Map());
  assert.equal(passed(throttle, 'RunInstances', 2, 0, { MaxCount: 600 }), 1);
  assert.deepEqual(
    publishedDraws('TerminateInstances', { InstanceIds: ['i-1', 'i-2'] }).map(({ count }) => count),
    [1, 2],
  );
});

test('a size of an action goes before that of every action, and ends', () => {
  const throttle = new Throttle(new Map());
  throttle.set(EVERY, { perSecond: 0, burst: 2 });
  throttle.set('DescribeVpcs', { perSecond: 0, burst: 4 });
  assert.equal(passed(throttle, 'DescribeVpcs', 9, 0, {}, 'none'), 4);
  assert.equal(passed(throttle, 'DescribeSubnets', 9, 0, {}, 'none'), 2);
  throttle.set('DescribeVpcs', undefined);
  assert.equal(passed(throttle, 'DescribeVpcs', 9, 0, {}, 'none'), 2);
  throttle.set(EVERY, undefined);
  assert.equal(passed(throttle, 'DescribeVpcs', 9, 0, {}, 'none'), 9);
});

test('the log sums calls by action and result, and tells what AWS would have refused', () => {
  const log = new CallLog(0);
  const add = (at: number, action: string, result: string) =>
    log.add({ at, action, caller: 'node-1', result, ms: 1 }, {});
  for (let i = 0; i < 55; i++) add(1000, 'AttachNetworkInterface', i < 50 ? 'ok' : 'RequestLimitExceeded');
  add(5000, 'DescribeSubnets', 'ok');
  const report = log.report();
  assert.deepEqual(report.totals, {
    AttachNetworkInterface: { ok: 50, RequestLimitExceeded: 5 },
    DescribeSubnets: { ok: 1 },
  });
  assert.deepEqual(report.throttledByAws, { AttachNetworkInterface: 5 });
  assert.deepEqual(Object.keys(log.report(2000).totals), ['DescribeSubnets']);
});

test('the log is bounded, and says since when it knows all', () => {
  const log = new CallLog(0);
  for (let at = 0; at < 100_000; at++)
    log.add({ at, action: 'DescribeVpcs', caller: 'a', result: 'ok', ms: 0 }, {});
  const { calls, from } = log.report();
  assert.ok(calls.length >= 20_000 && calls.length < 40_000, String(calls.length));
  assert.ok(from > 0 && from <= calls[0]!.at);
});
