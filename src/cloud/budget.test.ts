import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../base/clock.ts';
import { withBudget } from './budget.ts';
import type { EniId } from './port.ts';
import { FakeCloud } from './testing.ts';

/** Time moves when nobody runs any more. */
function steppedClock(): Clock & { pass(ms: number): Promise<void> } {
  let now = 0;
  const sleepers: { at: number; wake: () => void }[] = [];
  const settle = async () => {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    now: () => now,
    sleep: (ms) => new Promise((wake) => sleepers.push({ at: now + ms, wake })),
    async pass(ms) {
      for (const end = now + ms; now < end; now += 50) {
        for (const one of sleepers.splice(0)) {
          if (one.at <= now) one.wake();
          else sleepers.push(one);
        }
        await settle();
      }
    },
  };
}

const eni = 'eni-00000000000000001' as EniId;
const burst = 40;

function cloudWith(waiting: () => boolean) {
  const clock = steppedClock();
  const fake = new FakeCloud({ ipv4PerEni: 1_000 });
  const done: string[] = [];
  const cloud = withBudget(fake, clock, waiting);
  const note = (name: string, call: Promise<unknown>) =>
    call.then(
      () => done.push(name),
      (error) => done.push(error.ec2Code),
    );
  const assign = (name = 'assign') => note(name, cloud.assignPrivateIps(eni, 1));
  const clean = () => note('clean', cloud.unassign(eni, { ips: [], prefixes: [] }));
  return { clock, cloud, done, assign, clean };
}

test('a burst goes through at once, what follows at the rate; reads have tokens of their own', async () => {
  const { clock, cloud, done, assign } = cloudWith(() => true);
  for (let i = 0; i < burst + 10; i++) void assign();
  await clock.pass(50);
  assert.equal(done.length, burst);
  await cloud.describeSubnets(['subnet-0a']);
  await clock.pass(1_000);
  assert.ok(done.length >= burst + 4 && done.length <= burst + 6, `${done.length} calls`);
  await clock.pass(2_000);
  assert.equal(done.length, burst + 10);
});

test('the warm pool leaves a quarter of the bucket to pods, clean-up leaves half', async () => {
  let waiting = false;
  const { clock, done, assign, clean } = cloudWith(() => waiting);
  for (let i = 0; i < burst; i++) void clean();
  await clock.pass(50);
  assert.equal(done.length, burst / 2);
  for (let i = 0; i < burst; i++) void assign();
  await clock.pass(50);
  assert.equal(done.filter((one) => one === 'assign').length, burst / 4);
  waiting = true;
  await clock.pass(200);
  assert.ok(done.filter((one) => one === 'assign').length >= burst / 2, 'a pod came: the warm calls are its');
});

test('a pod passes the clean-up that came before it', async () => {
  let waiting = true;
  const { clock, done, assign, clean } = cloudWith(() => waiting);
  for (let i = 0; i < burst; i++) void assign('first');
  await clock.pass(50);
  for (let i = 0; i < 5; i++) void clean();
  await clock.pass(100);
  void assign('pod');
  await clock.pass(500);
  assert.equal(done.filter((one) => one === 'clean').length, 0);
  assert.ok(done.includes('pod'));
  waiting = false;
  await clock.pass(10_000);
  assert.equal(done.filter((one) => one === 'clean').length, 5);
});

test('a call that finds no token within 30 s fails as throttled, before it is sent', async () => {
  const { clock, done, assign, clean } = cloudWith(() => true);
  for (let i = 0; i < burst + 140; i++) void assign();
  await clock.pass(50);
  void clean();
  await clock.pass(29_000);
  assert.ok(!done.includes('Budget'));
  await clock.pass(2_000);
  assert.ok(done.includes('Budget'));
});

test('what the controller grants bounds the node, for as long as it says, and never more than its own share', async () => {
  const { clock, cloud, done, assign } = cloudWith(() => true);
  cloud.grant({ reads: 5, changes: 1 }, 10_000);
  for (let i = 0; i < burst; i++) void assign();
  await clock.pass(100);
  assert.equal(done.length, 4, 'four seconds of the grant at once');
  assert.ok(cloud.rates().changes >= 5, 'what waits is asked for');
  await clock.pass(5_000);
  assert.ok(done.length >= 8 && done.length <= 9, `${done.length} calls`);
  await clock.pass(12_000);
  assert.equal(done.length, burst, 'the grant has ended by itself');
  cloud.grant({ reads: 50, changes: 50 }, 10_000);
  for (let i = 0; i < burst; i++) void assign();
  await clock.pass(1_000);
  assert.ok(done.length < 2 * burst, 'its own share is the most');
});

test('on a grant of less than a call a second pods still come first', async () => {
  let waiting = false;
  const { clock, cloud, done, assign, clean } = cloudWith(() => waiting);
  cloud.grant({ reads: 1, changes: 0.5 }, 60_000);
  for (let i = 0; i < 3; i++) void assign();
  await clock.pass(100);
  void clean();
  void assign('pod');
  waiting = true;
  await clock.pass(30_000);
  assert.deepEqual(done, ['assign', 'assign', 'assign', 'pod', 'clean']);
});
