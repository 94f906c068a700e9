import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { defaultGoals, type Goals } from '../policy.ts';
import { expectedFree, expectedRoom, type Forecast, nextSlot, observe, type Usage } from './forecast.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const usage = (held: number, available: number, over: Partial<Usage> = {}): Usage => ({
  held,
  available,
  cooling: 0,
  waiting: 0,
  ...over,
});

/** A pool that follows the forecast at once: it asks for what it misses and gives back what it need not keep. */
class Follower {
  forecast: Forecast | null = null;
  now = 0;
  held = 0;
  free = 0;
  calls = 0;
  readonly goals: Goals;
  readonly perEni: number;

  constructor(goals: Goals = defaultGoals, perEni = 9) {
    this.goals = goals;
    this.perEni = perEni;
    this.look();
  }

  look(bound = 0): number {
    const now = usage(this.held, this.free);
    this.forecast = observe(this.forecast, now, this.now);
    const wanted = expectedFree(this.forecast, now, {
      ...{ bound, goals: this.goals, perEni: this.perEni, now: this.now },
    });
    if (wanted !== this.free) this.calls++;
    this.free = wanted;
    return wanted;
  }

  pods(change: number): void {
    this.held += change;
    this.free -= change;
    this.look();
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; this.look())
      this.now = Math.min(end, nextSlot(this.forecast!));
  }
}

test('a node keeps as many addresses as one ENI takes, used ones counted, and more of them free while it is new', () => {
  const pool = new Follower();
  assert.equal(pool.free, 9);
  pool.pods(7);
  assert.equal(pool.free, 7);
  pool.pass(5 * HOUR);
  assert.equal(pool.free, 2);
  pool.pods(-6);
  pool.pass(5 * HOUR);
  assert.equal(pool.free, 8);
});

test('with a lower idle share a node at rest keeps less than an ENI takes', () => {
  const pool = new Follower({ ...defaultGoals, maxIdlePercent: 30 });
  pool.pass(4 * HOUR);
  assert.equal(pool.free, 2);
});

test('ENIs have slots for more than one takes, and for more than was used in the last twelve hours', () => {
  const pool = new Follower();
  const room = () => expectedRoom(pool.forecast!, usage(pool.held, 0), pool.perEni);
  assert.equal(room(), 10);
  pool.pods(12);
  pool.pods(-10);
  assert.equal(room(), 14);
  pool.pass(11 * HOUR);
  assert.equal(room(), 14);
  pool.pass(2 * HOUR);
  assert.equal(room(), 10);
});

test('pods that come and go within what was used lately cost no call', () => {
  const pool = new Follower();
  pool.pods(8);
  pool.pass(HOUR);
  const { calls } = pool;
  for (let i = 0; i < 20; i++) {
    pool.pods(-1);
    pool.now += 5 * MINUTE;
    pool.pods(1);
  }
  assert.equal(pool.calls, calls);
});

test('what was used is kept for nearly three hours, then given back: of a large fall the half', () => {
  const pool = new Follower();
  pool.pods(20);
  pool.pods(-8);
  pool.pass(2 * HOUR);
  assert.ok(pool.free >= 5 && pool.free <= 8, `${pool.free}`);
  pool.pass(2 * HOUR);
  assert.ok(pool.free <= 4, `${pool.free}`);
});

test('pods that come at once hour after hour are expected, from where the use was before', () => {
  const pool = new Follower();
  pool.pods(4);
  for (let hour = 0; hour < 7; hour++) {
    pool.pods(6);
    pool.now += 5 * MINUTE;
    pool.pods(-6);
    pool.pass(HOUR - 5 * MINUTE);
  }
  const rest = expectedFree({ ...pool.forecast!, peaks: [4] }, usage(4, 0), {
    ...{ bound: 0, goals: { ...defaultGoals, maxIdlePercent: 1_000 }, perEni: 9, now: pool.now },
  });
  assert.ok(rest >= 6, `${rest}`);
  const during = expectedFree({ ...pool.forecast!, peaks: [10] }, usage(10, 0), {
    ...{ bound: 0, goals: { ...defaultGoals, maxIdlePercent: 1_000 }, perEni: 9, now: pool.now },
  });
  assert.ok(during <= 3, `${during}`);
});

test('bound pods have their addresses before they ask', () => {
  const pool = new Follower();
  pool.pass(4 * HOUR);
  assert.ok(pool.look(7) >= 8);
});

test('a restart gives nothing back in haste: the first look counts as use', () => {
  const forecast = observe(null, usage(3, 9), 0);
  const kept = expectedFree(forecast, usage(3, 9), { bound: 0, goals: defaultGoals, perEni: 9, now: 0 });
  assert.equal(kept, 9);
});

test('cooling addresses are used, never available', () => {
  const forecast = observe(null, usage(0, 4), 0);
  const cooling = observe(forecast, usage(0, 0, { cooling: 4 }), 1_000);
  const context = { bound: 0, goals: defaultGoals, perEni: 9, now: 4 * HOUR };
  assert.ok(expectedFree(cooling, usage(0, 0, { cooling: 4 }), context) >= 1);
});

test('never below the goals, never beyond the idle share, and a second look asks for no more', () => {
  const goals = fc.record({
    podsPerMinute: fc.nat(120),
    maxIdlePercent: fc.nat(300),
    minIdle: fc.nat(20),
  });
  const step = fc.record({
    held: fc.nat(60),
    cooling: fc.nat(20),
    waiting: fc.nat(5),
    available: fc.nat(60),
    ms: fc.nat(HOUR),
  });
  fc.assert(
    fc.property(
      goals,
      fc.array(step, { minLength: 1, maxLength: 30 }),
      fc.nat(50),
      (goals, steps, perEni) => {
        let forecast: Forecast | null = null;
        let now = 1_700_000_000_000;
        let most = 0;
        for (const { ms, ...one } of steps) {
          now += ms;
          const at = now;
          forecast = observe(forecast, one, at);
          most = Math.max(most, one.held + one.cooling + one.waiting + one.available, perEni);
          const look = (available: number) =>
            expectedFree(forecast!, { ...one, available }, { bound: 0, goals, perEni, now: at });
          const wanted = look(one.available);
          const asked = Math.max(goals.minIdle, Math.ceil(goals.podsPerMinute / 6));
          assert.ok(wanted >= asked, `${wanted} < ${asked}`);
          assert.ok(wanted <= Math.max(asked, Math.floor((goals.maxIdlePercent * most) / 100)));
          assert.equal(look(wanted + one.waiting), wanted);
          assert.ok(forecast.peaks.length <= 21 && forecast.rises.length <= 12 && forecast.lows.length <= 2);
        }
      },
    ),
  );
});
