import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { tryLockDirectory } from '../kernel/lock.ts';
import { RunDirectory } from './run-dir.ts';

function room() {
  const top = mkdtempSync(join(tmpdir(), 'podway-run-'));
  const runDir = join(top, 'run');
  mkdirSync(runDir);
  const seat = { lock: tryLockDirectory(runDir)! };
  const told: string[] = [];
  const errors: string[] = [];
  const at = {
    ...{ runDir, seat, told, errors },
    lost: [] as string[],
    refuses: null as PodwayError | null,
    hasJournal: true,
    hasRoom: true,
    handedOver: 0,
    [Symbol.dispose]() {
      seat.lock.release();
      rmSync(top, { recursive: true });
    },
  };
  const log = { debug() {}, info() {}, warn() {}, error: (_: unknown, text?: string) => errors.push(text!) };
  const keeper = new RunDirectory({
    ...{ runDir, seat, log: log as never },
    events: { pod() {}, node: (_type, reason, text) => told.push(`${reason}: ${text}`) },
    sockets: {
      lost: () => at.lost,
      async reopen(path) {
        if (at.refuses) throw at.refuses;
        at.lost = at.lost.filter((one) => one !== path);
      },
    },
    pool: {
      get hasJournal() {
        return at.hasJournal;
      },
      rewriteJournal() {
        at.hasJournal ||= at.hasRoom;
      },
    },
    handOver: () => at.handedOver++,
  });
  return Object.assign(at, { keeper });
}

test('a socket that is missed at two looks is opened again, and told once', async () => {
  using at = room();
  at.lost = [join(at.runDir, 'agent.sock')];
  await at.keeper.look();
  assert.equal(at.lost.length, 1, 'an agent that takes over changes it for a moment');
  for (let look = 0; look < 3; look++) await at.keeper.look();
  assert.deepEqual(at.lost, []);
  assert.deepEqual(at.told, [`RunDirectoryRestored: made again what was gone from ${at.runDir}: agent.sock`]);
});

test('a journal that is gone is told once, however long it cannot be written', async () => {
  using at = room();
  await at.keeper.look();
  at.hasJournal = false;
  at.hasRoom = false;
  await at.keeper.look();
  assert.equal(at.told.length, 0);
  for (let look = 0; look < 3; look++) await at.keeper.look();
  at.hasRoom = true;
  for (let look = 0; look < 3; look++) await at.keeper.look();
  assert.equal(at.told.length, 1);
  assert.match(at.told[0]!, /: journal$/);
});

test('a directory that is gone, or is another one, is made and locked again', async () => {
  using at = room();
  for (const change of [() => rmdirSync(at.runDir), () => renameSync(at.runDir, `${at.runDir}.old`)]) {
    change();
    at.lost = [join(at.runDir, 'agent.sock')];
    await at.keeper.look();
    await at.keeper.look();
    assert.ok(at.seat.lock.isOf(at.runDir));
    assert.equal(tryLockDirectory(at.runDir), null);
    assert.deepEqual(at.lost, []);
  }
  assert.match(at.told[0]!, /: directory, journal, agent.sock$/);
});

test('where another agent has the directory, this one hands over and touches nothing', async () => {
  using at = room();
  rmdirSync(at.runDir);
  mkdirSync(at.runDir);
  const other = tryLockDirectory(at.runDir)!;
  at.lost = [join(at.runDir, 'agent.sock')];
  await at.keeper.look();
  assert.equal(at.handedOver, 0);
  await at.keeper.look();
  assert.equal(at.handedOver, 1);
  assert.equal(at.lost.length, 1);
  other.release();
});

test('what cannot be made is said once, and tried again', async () => {
  using at = room();
  at.lost = [join(at.runDir, 'agent.sock')];
  at.refuses = new PodwayError('RUN_DIR_UNWRITABLE', 'no room');
  for (let look = 0; look < 5; look++) await at.keeper.look();
  assert.deepEqual(at.errors, ['no room']);
  at.refuses = null;
  await at.keeper.look();
  assert.deepEqual(at.lost, []);
});

test('a directory that cannot be made is named, with the reason', async () => {
  using at = room();
  rmdirSync(at.runDir);
  writeFileSync(at.runDir, '');
  for (let look = 0; look < 3; look++) await at.keeper.look();
  assert.deepEqual(at.errors, [`${at.runDir} cannot be written: EEXIST (file already exists)`]);
});

test('a directory that was removed and is still found ends the agent', async () => {
  using at = room();
  const fd = openSync(at.runDir, 'r');
  rmdirSync(at.runDir);
  const keeper = new RunDirectory({
    ...{ runDir: `/proc/self/fd/${fd}`, seat: at.seat, log: {} as never, handOver() {} },
    events: { pod() {}, node() {} },
    sockets: { lost: () => [], reopen: async () => {} },
    pool: { hasJournal: true, rewriteJournal() {} },
  });
  await assert.rejects(
    keeper.look(),
    (error) => error instanceof PodwayError && error.code === 'RUN_DIR_UNWRITABLE',
  );
  closeSync(fd);
});
