// Kill -9 of the lab's daemon, of all agents, and of both at once, at random moments while workers make and delete pods.
// After each, `lab up` goes on with the same lab: all views agree, no address is held twice, streams never broke.
// PODWAY_SOAK=1: 36 rounds; else 3.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Churn } from '../support/churn.ts';
import { heldTwice } from '../support/lab.ts';
import { cloudOf, sameTraces, tracesAtRest } from '../support/leaks.ts';
import { BACK_WITHIN_MS, full, NODES, skip, storm } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const VICTIMS = ['lab', 'agents', 'both'] as const;
const ROUNDS = full ? 36 : 3;
/** The kill falls this long after the workers have begun, at most. */
const LATEST_KILL_MS = 1_500;

const { lab, streams } = storm(`storm-l${process.pid}`, '2s');
const random = seeded(seed);

async function round(number: number, victim: (typeof VICTIMS)[number]): Promise<void> {
  const churn = new Churn({
    lab,
    nodes: NODES,
    workers: 4,
    each: 3,
    random,
    tolerant: true,
    prefix: `r${number}`,
  });
  try {
    // The moment is what this test varies: no condition names it.
    await sleep(random() * LATEST_KILL_MS);
    if (victim !== 'lab') for (const node of NODES) lab.killAgent(node);
    if (victim !== 'agents') {
      lab.killDaemon();
      await lab.up();
    }
    const goal = churn.made + churn.deleted + 4;
    await eventually('the workers go on', async () => {
      await Promise.race([churn.done, Promise.resolve()]);
      return churn.made + churn.deleted >= goal;
    });
    await churn.stop();
  } finally {
    churn.abandon();
  }
  assert.deepEqual(heldTwice(await lab.agreed()), []);
  await streams.alive();
}

test(`${ROUNDS} kills of the lab, its agents, or both during churn`, {
  skip,
  timeout: 1_800_000,
}, async (t) => {
  const cloud = await cloudOf(lab);
  const before = await tracesAtRest(lab, cloud, BACK_WITHIN_MS);
  for (let number = 0; number < ROUNDS; number++) {
    const victim = VICTIMS[number % VICTIMS.length]!;
    await round(number, victim).catch((error: Error) => {
      throw new Error(`seed ${seed}, round ${number} (${victim}): ${error.message}`, { cause: error });
    });
  }
  await sameTraces(lab, cloud, before, BACK_WITHIN_MS);
  t.diagnostic(`seed ${seed}: ${ROUNDS} rounds; slowest echo of the streams: ${streams.worstMs()} ms`);
});
