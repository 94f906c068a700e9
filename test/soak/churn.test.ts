// Pods made and deleted at random by 8 workers over 2 nodes: afterwards nothing is left of them in the journal, the
// kernel, the cloud, the API or on disk. Cooldown is 0 s here, so that addresses are used again at once.
// PODWAY_SOAK=1: 1,000 pods, once more with agents killed meanwhile; else 48.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Churn, spread } from '../support/churn.ts';
import { heldTwice } from '../support/lab.ts';
import { cloudOf, sameTraces, tracesAtRest } from '../support/leaks.ts';
import { BACK_WITHIN_MS, full, NODES, skip, storm } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const PODS = full ? 1_000 : 48;
const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const LOOK_EVERY_MS = 100;

const { lab, streams } = storm(`storm-c${process.pid}`, '2s');

/** Returns the seconds that it took and what was last to go. */
async function nothingLeft(before: string[]): Promise<string> {
  const began = performance.now();
  const last = await sameTraces(lab, await cloudOf(lab), before, BACK_WITHIN_MS);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  assert.deepEqual(heldTwice(await lab.agreed()), []);
  await streams.alive();
  return `all as before ${seconds} s after the last pod; last to go: ${last.join('; ')}`;
}

/** Looks at what is held, all the time, until the work is done. */
async function watchHeld(work: Promise<void>): Promise<number> {
  let looks = 0;
  let over = false;
  const ended = work.finally(() => {
    over = true;
  });
  ended.catch(() => {});
  while (!over) {
    const shown = await lab.show().catch(() => []);
    assert.deepEqual(heldTwice(shown), [], 'an address is held twice');
    looks++;
    await Promise.race([ended.catch(() => {}), sleep(LOOK_EVERY_MS)]);
  }
  await ended;
  return looks;
}

test(`${PODS} pods by 8 workers leave nothing behind`, { skip, timeout: 1_800_000 }, async (t) => {
  const before = await tracesAtRest(lab, await cloudOf(lab), BACK_WITHIN_MS);
  const began = performance.now();
  const churn = new Churn({ lab, nodes: NODES, workers: 8, each: 5, total: PODS, random: seeded(seed) });
  const looks = await watchHeld(churn.done);
  const seconds = (performance.now() - began) / 1000;
  t.diagnostic(
    `seed ${seed}: ${churn.made} made, ${churn.deleted} deleted in ${seconds.toFixed(1)} s ` +
      `(${((churn.made + churn.deleted) / seconds).toFixed(1)} a second), ${looks} looks`,
  );
  t.diagnostic(`run: ${spread(churn.runMs)}; delete: ${spread(churn.deleteMs)}`);
  assert.equal(churn.made, PODS);
  assert.equal(churn.deleted, PODS);
  t.diagnostic(await nothingLeft(before));
  t.diagnostic(`slowest echo of the streams: ${streams.worstMs()} ms`);
});

test('with agents killed at random meanwhile', { skip, timeout: 1_800_000 }, async (t) => {
  const before = await tracesAtRest(lab, await cloudOf(lab), BACK_WITHIN_MS);
  const random = seeded(seed + 1);
  const total = full ? 300 : 24;
  const churn = new Churn({ lab, nodes: NODES, workers: 8, each: 5, total, random, prefix: 'killed' });
  let over = false;
  const kills = (async () => {
    let count = 0;
    while (!over) {
      const node = NODES[Math.floor(random() * NODES.length)]!;
      const from = lab.agentOf(node)?.pid;
      const target = churn.made + churn.deleted + 1 + Math.floor(random() * 8);
      await eventually('some pods later', () => over || churn.made + churn.deleted >= target, 120_000);
      if (over) break;
      lab.killAgent(node);
      count++;
      // A crash loop is another matter: its restarts come ever later, as they should.
      await eventually('the agent serves again', async () => {
        if (over) return true;
        return (lab.agentOf(node)?.pid ?? from) !== from && (await lab.show()).length > 0;
      });
    }
    return count;
  })();
  try {
    await churn.done;
  } finally {
    over = true;
  }
  const ended = performance.now();
  t.diagnostic(`${churn.made} pods made and deleted through ${await kills} kills of agents`);
  await nothingLeft(before);
  t.diagnostic(`all as before ${((performance.now() - ended) / 1000).toFixed(1)} s after the last pod`);
});
