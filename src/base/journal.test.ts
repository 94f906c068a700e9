import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { encodeRecord, Journal, JournalError } from './journal.ts';

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'podway-journal-'));
  path = join(dir, 'journal');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const reopen = () => {
  const journal = Journal.open<{ n: number }>(path);
  journal.close();
  return journal.replay;
};

test('appended records come back in order, and the file is private', () => {
  const journal = Journal.open<{ n: number }>(path);
  journal.appendSync({ n: 1 }, { n: 2 });
  journal.appendSync({ n: 3 });
  journal.close();
  assert.deepEqual(reopen().records, [{ n: 1 }, { n: 2 }, { n: 3 }]);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('appends in flight share one write, and a sync append keeps their order', async () => {
  const boundaries: string[] = [];
  const journal = Journal.open<{ n: number }>(path, { onBoundary: (name) => boundaries.push(name) });
  await Promise.all([1, 2, 3].map((n) => journal.append({ n })));
  assert.equal(boundaries.filter((name) => name === 'journal:before-write').length, 1);
  const earlier = journal.append({ n: 4 });
  journal.appendSync({ n: 5 });
  await earlier;
  journal.close();
  assert.deepEqual(
    reopen().records.map((r) => r.n),
    [1, 2, 3, 4, 5],
  );
});

test('a file cut at any byte gives back every record that was whole, and can be appended to', () => {
  const journal = Journal.open<{ n: number; text: string }>(path);
  const records = [
    { n: 1, text: 'ä\n' },
    { n: 2, text: '' },
    { n: 3, text: 'x'.repeat(40) },
  ];
  const ends: number[] = [];
  for (const record of records) {
    journal.appendSync(record);
    ends.push(journal.size);
  }
  journal.close();
  const whole = readFileSync(path);
  for (let cut = 0; cut <= whole.length; cut++) {
    writeFileSync(path, whole.subarray(0, cut));
    const again = Journal.open<{ n: number; text: string }>(path);
    const expected = records.filter((_, i) => ends[i]! <= cut);
    assert.deepEqual(again.replay.records, expected, `cut at ${cut}`);
    const isWhole = [whole.indexOf(0x0a) + 1, ...ends].includes(cut);
    assert.equal(again.replay.found, cut === 0 ? 'empty' : isWhole ? 'whole' : 'cut', `cut at ${cut}`);
    again.appendSync({ n: 9, text: 'later' });
    again.close();
    const after = reopen();
    assert.deepEqual(after.records, [...expected, { n: 9, text: 'later' }]);
    // What was cut is told at each open until a compaction, by which the caller says that it has seen to it.
    assert.equal(after.found, cut === 0 || isWhole ? 'whole' : 'damaged', `cut at ${cut}, then written`);
  }
});

test('the first line says which version wrote the file and where; each way to differ has its word', () => {
  const found = (content: string | null, origin: Record<string, string> = { boot: 'b', netns: '7' }) => {
    rmSync(path, { force: true });
    if (content !== null) writeFileSync(path, content);
    const journal = Journal.open<{ n: number }>(path, { origin });
    journal.close();
    return [journal.replay.found, journal.replay.records.length];
  };
  const header = encodeRecord({ journal: 2, boot: 'b', netns: '7' });
  const after = (line: string, n: number) => encodeRecord({ n }, Number.parseInt(line, 16));
  const one = after(header, 1);
  const two = after(one, 2);
  assert.deepEqual(found(null), ['missing', 0]);
  assert.deepEqual(found(''), ['empty', 0]);
  assert.deepEqual(found(header + one + two), ['whole', 2]);
  assert.deepEqual(found(header + one, { boot: 'b', netns: '8' }), ['foreign', 1]);
  assert.deepEqual(found(header + one, { boot: 'c', netns: '7' }), ['foreign', 1]);
  assert.deepEqual(found(encodeRecord({ n: 1 }) + encodeRecord({ n: 2 })), ['earlier', 2]);
  const later = encodeRecord({ journal: 3, boot: 'b' });
  assert.deepEqual(found(later + after(later, 1)), ['version', 0]);
  assert.deepEqual(found(`${header}${one}garbage\n`), ['damaged', 1]);
  assert.deepEqual(found(header.replace('"b"', '"c"') + one + two), ['damaged', 2]);
  assert.deepEqual(found(`${header}${one}0000`), ['cut', 1]);
  // Taken away whole: the line behind it does not go on from the one before.
  assert.deepEqual(found(header + two + after(two, 3)), ['damaged', 1]);
  assert.deepEqual(found(one + two), ['damaged', 1]);
});

test('a new file and a compacted one begin with their origin', () => {
  const origin = { boot: 'b' };
  const journal = Journal.open<{ n: number }>(path, { origin });
  journal.appendSync({ n: 1 });
  const first = () => readFileSync(path, 'utf8').split('\n')[0]!.slice(9);
  assert.equal(first(), '{"journal":2,"boot":"b"}');
  journal.compact([{ n: 1 }]);
  assert.equal(first(), '{"journal":2,"boot":"b"}');
  journal.close();
});

test('a directory that is not there fails each append by path and cause, until it is', () => {
  path = join(dir, 'later', 'journal');
  const journal = Journal.open<{ n: number }>(path);
  assert.throws(() => journal.appendSync({ n: 1 }), {
    name: 'JournalError',
    message: `${path} cannot be written: ENOENT (no such file or directory)`,
  });
  assert.throws(() => journal.compact([{ n: 1 }]), JournalError);
  mkdirSync(join(dir, 'later'));
  journal.appendSync({ n: 2 });
  journal.close();
  assert.deepEqual([reopen().found, reopen().records], ['whole', [{ n: 2 }]]);
});

test('a damaged middle is reported, kept aside, and the rest replayed', () => {
  const journal = Journal.open<{ n: number }>(path);
  for (let n = 0; n < 5; n++) journal.appendSync({ n });
  journal.close();
  const bytes = readFileSync(path);
  bytes[bytes.indexOf('"n":2') + 4] = 0x39;
  writeFileSync(path, bytes);
  const replay = reopen();
  assert.deepEqual(
    replay.records.map((r) => r.n),
    [0, 1, 3, 4],
  );
  assert.deepEqual([replay.found, replay.damaged], ['damaged', 1]);
  assert.deepEqual(replay.lost, [
    bytes
      .toString()
      .split('\n')
      .find((line) => line.includes('"n":9')),
  ]);
  assert.deepEqual(readFileSync(replay.keptAside!), bytes);
});

test('compaction keeps just what is live; a kill at any of its boundaries loses nothing', () => {
  for (const killAt of [
    'journal:compact:before-write',
    'journal:compact:before-rename',
    'journal:compact:after-rename',
    'never',
  ]) {
    rmSync(path, { force: true });
    const journal = Journal.open<{ n: number }>(path, {
      onBoundary: (name) => {
        if (name === killAt) throw new Error('killed');
      },
    });
    for (let n = 0; n < 10; n++) journal.appendSync({ n });
    try {
      journal.compact([{ n: 9 }]);
      journal.appendSync({ n: 10 });
    } catch (error) {
      assert.ok(error instanceof Error);
    }
    const records = reopen().records.map((r) => r.n);
    const old = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    const expected = { 'journal:compact:after-rename': [9], never: [9, 10] }[killAt] ?? old;
    assert.deepEqual(records, expected, killAt);
  }
});

test('a write that fails leaves the earlier records and the file usable', () => {
  let fail = false;
  const journal = Journal.open<{ n: number }>(path, {
    onBoundary: (name) => {
      if (fail && name === 'journal:mid-write') throw new Error('no space left');
    },
  });
  journal.appendSync({ n: 1 });
  fail = true;
  assert.throws(() => journal.appendSync({ n: 2 }), JournalError);
  fail = false;
  journal.appendSync({ n: 3 });
  journal.close();
  assert.deepEqual(
    reopen().records.map((r) => r.n),
    [1, 3],
  );
});

test('whatever is appended comes back, with compactions between', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.jsonValue(), fc.constant('compact')), { maxLength: 30 }), (steps) => {
      rmSync(path, { force: true });
      const journal = Journal.open<unknown>(path);
      let live: unknown[] = [];
      for (const step of steps) {
        if (step === 'compact') {
          live = live.slice(-2);
          journal.compact(live);
        } else {
          journal.appendSync(step);
          live.push(step);
        }
      }
      journal.close();
      assert.deepEqual(reopen().records, JSON.parse(JSON.stringify(live)));
    }),
    { numRuns: 60 },
  );
});
