// Kill -9 of a node's agent at each boundary of ADD, DEL and its own start: journal writes, system calls, answers. After
// each kill the views agree, no address is held twice, and the TCP streams of other pods have gone on.
// PODWAY_SOAK=1 takes every boundary; without it a few of each.
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeRecord } from '../../src/base/journal.ts';
import { heldTwice } from '../support/lab.ts';
import { BACK_WITHIN_MS, full, KEEPERS, NODES, skip, storm } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';

/** A stream without progress for this long counts as stopped, even on a busy machine. */
const LONGEST_STALL_MS = 30_000;

const { lab, streams } = storm(`storm-k${process.pid}`, '5s');
/** Where kills fell, as `SCOPE COUNT NAME`. */
const fell: string[] = [];

/** The state is as before the pod: only the keepers hold addresses. */
async function settled(node: string): Promise<void> {
  await eventually(`${node} holds the keepers' addresses alone`, async () => {
    const shown = await lab.show();
    return shown.find((each) => each.node === node)?.totals.held === KEEPERS[node];
  });
}

async function intact(node: string, point: string): Promise<void> {
  const mine = (await lab.agreed()).filter((each) => each.node === node);
  assert.deepEqual(heldTwice(mine), [], `${point}: an address is held twice`);
  await streams.alive();
}

const point = (node: string): string | undefined => {
  const text = lab.killedAt(node);
  if (text) fell.push(text);
  return text;
};

/** One pod made and deleted; the agent dies at boundary `count` of `scope`. False when there is no such boundary. */
async function dieIn(scope: 'ADD' | 'DEL', node: string, count: number): Promise<boolean> {
  const name = `${scope.toLowerCase()}-${node}-${count}`;
  if (scope === 'ADD') lab.armKill(node, scope, count);
  await lab.run(name, node);
  if (scope === 'DEL') lab.armKill(node, scope, count);
  else await intact(node, name);
  await lab.remove([name]);
  await settled(node);
  await intact(node, name);
  if (point(node) !== undefined) return true;
  // Beyond the last boundary, or it falls into what follows the answer: end the arming with the agent.
  lab.disarm(node);
  const before = lab.agentOf(node)?.pid;
  lab.killAgent(node);
  await eventually('the agent is started again', () => {
    const now = lab.agentOf(node)?.pid;
    return now !== undefined && now !== before;
  });
  await lab.agreed();
  return false;
}

/** Boundaries 0, step, 2 step … from `first`, until there are no more. */
async function walk(scope: 'ADD' | 'DEL', node: string, first: number, step: number, most: number) {
  let misses = 0;
  for (let count = first; count < most && misses < 3; count += step) {
    misses = (await dieIn(scope, node, count)) ? 0 : misses + 1;
  }
}

const few = { ADD: [2, 37], DEL: [1, 12] };

for (const scope of ['ADD', 'DEL'] as const) {
  test(`kill -9 at ${full ? 'each boundary' : 'some boundaries'} of ${scope}`, {
    skip,
    timeout: 1_800_000,
  }, async () => {
    if (full) await Promise.all(NODES.map((node, index) => walk(scope, node, index, NODES.length, 200)));
    else
      await Promise.all(
        NODES.map(async (node, index) => {
          assert.ok(
            await dieIn(scope, node, few[scope][index]!),
            `no boundary ${few[scope][index]} of ${scope}`,
          );
        }),
      );
  });
}

test('kill -9 in ADD and again in the start that follows', { skip, timeout: 600_000 }, async () => {
  const points = full ? Array.from({ length: 30 }, (_, index) => index * 7) : [20];
  for (const [round, count] of points.entries()) {
    const node = NODES[round % 2]!;
    const name = `start-${count}`;
    lab.armKill(node, 'ADD', 30 + round);
    const running = lab.run(name, node);
    // Taken at the ADD; the next agent finds the next file.
    await eventually('the agent died in ADD', () => point(node));
    lab.armKill(node, 'START', count);
    lab.killAgent(node);
    // A start has not many more than sixty.
    const isThere = count < 60;
    await eventually('the agent died in its start', () => point(node), isThere ? undefined : 15_000).catch(
      (error: unknown) => {
        if (isThere) throw error;
        lab.disarm(node);
      },
    );
    await running;
    await intact(node, name);
    await lab.remove([name]);
    await settled(node);
  }
});

/** The node has its primary ENI alone again, so that the next pods make it attach others. */
async function atRest(node: string): Promise<void> {
  await eventually(
    `${node} has one ENI`,
    async () => (await lab.show()).find((each) => each.node === node)?.enis.length === 1,
    BACK_WITHIN_MS,
  );
}

/** Boundaries of calls to EC2: intent written, answer here, change told. */
const CLOUD_POINTS = [
  'assign:answered',
  'create:intended',
  'create:answered',
  'create:attached',
  'unassign:intended',
  'unassign:answered',
  'remove:intended',
  'remove:detached',
  'remove:deleted',
];

test('kill -9 around calls to EC2', { skip, timeout: 600_000 }, async () => {
  const names = full ? CLOUD_POINTS : ['create:answered'];
  await Promise.all(
    NODES.map(async (node, index) => {
      for (const [round, name] of names.entries()) {
        if (round % NODES.length !== index) continue;
        const pods = Array.from({ length: 12 }, (_, pod) => `cloud-${round}-${pod}`);
        await atRest(node);
        lab.armKill(node, 'ADD', 0, name);
        await Promise.all(pods.map((pod) => lab.run(pod, node)));
        await intact(node, name);
        await lab.remove(pods);
        // What is idle goes back, which is where the last of them fall.
        await eventually(`the agent died at ${name}`, () => point(node), BACK_WITHIN_MS);
        await settled(node);
        await intact(node, name);
      }
    }),
  );
});

/** Whole lines for one append, which go on from the checksum of the line before. */
function idleRecords(from: number): string {
  let lines = '';
  for (let count = 0, last = from; count < 256; count++) {
    const line = encodeRecord({ k: 'clean', ips: [] }, last);
    lines += line;
    last = Number.parseInt(line, 16);
  }
  return lines;
}
const lastChecksum = (file: string): number =>
  Number.parseInt(readFileSync(file, 'utf8').trimEnd().split('\n').at(-1)!, 16);

test('kill -9 in a compaction of the journal', { skip, timeout: 120_000 }, async () => {
  for (const [index, name] of ['before-write', 'before-rename', 'after-rename'].entries()) {
    const node = NODES[index % NODES.length]!;
    const journal = join(lab.paths.node(node).run, 'journal');
    // Records that say nothing, until a compaction is due at the next start.
    for (let last = lastChecksum(journal); statSync(journal).size < 300 << 10; last = lastChecksum(journal))
      appendFileSync(journal, idleRecords(last));
    lab.armKill(node, 'START', 0, `journal:compact:${name}`);
    lab.killAgent(node);
    await eventually(`the agent died ${name} of the compaction`, () => point(node));
    await eventually('the journal is compact', () => statSync(journal).size < 100 << 10);
    await settled(node);
    await intact(node, name);
  }
});

test('the streams of pods nobody touched went on through all kills', { skip }, async (t) => {
  await streams.alive();
  assert.ok(streams.worstMs() < LONGEST_STALL_MS, `a stream stood still for ${streams.worstMs()} ms`);
  const distinct = new Set(fell);
  t.diagnostic(`${fell.length} kills at ${distinct.size} points; slowest echo ${streams.worstMs()} ms`);
  t.diagnostic([...new Set(fell.map((each) => each.replace(/ \d+ /, ' ')))].sort().join(', '));
  assert.ok(distinct.size >= (full ? 100 : 5), `only ${distinct.size} points`);
});
