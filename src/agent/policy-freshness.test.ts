// A node that hears nothing of pods for longer than addresses rest says so, once, and says when it hears again.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { NodeCondition } from './node-condition.ts';
import { PolicyFreshness } from './policy-freshness.ts';

function node(cooldownMs: number) {
  let now = 1_000_000;
  const said: NodeCondition[] = [];
  const told: string[] = [];
  const ends = new AbortController();
  const steps: (() => void)[] = [];
  const clock = {
    now: () => now,
    sleep: () => new Promise<void>((resolve) => steps.push(resolve)),
  };
  const freshness = new PolicyFreshness(
    {
      cooldownMs: () => cooldownMs,
      say: (condition) => said.push(condition),
      onSilent: (text) => told.push(text),
    },
    clock as never,
  );
  void freshness.keep(ends.signal);
  const pass = async (ms: number) => {
    for (const end = now + ms; now < end; ) {
      now += 1_000;
      for (const step of steps.splice(0)) step();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { freshness, said, told, pass, end: () => ends.abort() };
}
const words = (said: readonly NodeCondition[]) => said.map(({ status, reason }) => `${status} ${reason}`);

it('says nothing before it has heard anything', async () => {
  const { freshness, said, pass, end } = node(30_000);
  await pass(120_000);
  assert.deepEqual(said, []);
  assert.equal(freshness.isCurrent, true);
  end();
});

it('a silence that is longer than the cooldown is said, and its end', async () => {
  const { freshness, said, told, pass, end } = node(30_000);
  freshness.heard();
  await pass(29_000);
  assert.deepEqual([words(said), freshness.isCurrent], [['True Hearing'], true]);
  await pass(2_000);
  assert.deepEqual([words(said), freshness.isCurrent], [['True Hearing', 'False WatchSilent'], false]);
  await pass(60_000);
  assert.equal(said.length, 2, 'once');
  assert.equal(told.length, 1);
  assert.match(told[0]!, /longer than addresses rest \(30 s\)/);
  freshness.heard();
  assert.deepEqual(words(said).at(-1), 'True Hearing');
  end();
});

it('a watch is begun anew well within the cooldown, and no oftener than a server bears', () => {
  assert.equal(node(30_000).freshness.idleMs, 15_000);
  assert.equal(node(0).freshness.idleMs, 2_500);
});
