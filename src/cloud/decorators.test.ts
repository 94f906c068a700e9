import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withBudget, withMetrics } from './decorators.ts';
import { FakeCloud } from './fake.ts';
import { CloudError, type EniId } from './port.ts';

test('every call is told with its result', async () => {
  const told: string[] = [];
  const cloud = withMetrics(new FakeCloud(), ({ action, result }) => told.push(`${action} ${result}`));
  await cloud.describeSubnets(['subnet-0a']);
  await assert.rejects(cloud.deleteNetworkInterface('eni-0' as EniId), CloudError);
  assert.deepEqual(told, ['describeSubnets ok', 'deleteNetworkInterface InvalidNetworkInterfaceID.NotFound']);
});

test('a budget lets a burst through, spaces what follows, and refuses what would wait too long', async () => {
  let now = 0;
  const waits: number[] = [];
  const clock = {
    now: () => now,
    sleep: async (ms: number) => {
      waits.push(ms);
    },
  };
  const cloud = withBudget(new FakeCloud(), clock, (action) =>
    action === 'describeSubnets' ? { perSecond: 2, burst: 2, longestWaitMs: 1_000 } : null,
  );
  const call = () => cloud.describeSubnets(['subnet-0a']);
  for (let i = 0; i < 4; i++) await call();
  assert.deepEqual(waits, [500, 1_000]);
  await assert.rejects(call(), { code: 'CLOUD_THROTTLED', ec2Code: 'Budget' });
  now = 10_000;
  await call();
  assert.equal(waits.length, 2);
  await cloud.describeInstance('i-0');
});
