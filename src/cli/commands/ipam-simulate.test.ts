import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const root = join(import.meta.dirname, '../../..');
const dir = mkdtempSync(join(tmpdir(), 'podway-simulate-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const podway = (args: string[]) =>
  spawnSync(join(root, 'bin/podway'), ['ipam', ...args], { encoding: 'utf8' });

test('a generated trace is replayed for both allocators, as a table, as JSON and as a plot', () => {
  const trace = join(dir, 'day.csv');
  const plot = join(dir, 'day.svg');
  const made = podway(['trace-generate', 'rolling', '--hours', '1', '--nodes', '2', '--out', trace]);
  assert.equal(made.status, 0, made.stderr);
  const shown = podway(['simulate', '--trace', trace, '--plot', plot]);
  assert.match(shown.stdout, /podway +incumbent\nidle address-minutes +\d+ +\d+\n/);
  assert.match(
    readFileSync(plot, 'utf8'),
    /^<svg [\s\S]*incumbent: \d+ idle address-minutes[\s\S]*<\/svg>\n$/,
  );
  const json = podway([
    'simulate',
    '--trace',
    trace,
    '--env',
    'WARM_IP_TARGET=2',
    '--set',
    'warm=3',
    '-o',
    'json',
  ]);
  const { runs } = JSON.parse(json.stdout) as { runs: Record<string, unknown>[] };
  assert.deepEqual(
    runs.map(({ allocator }) => allocator),
    ['podway', 'incumbent'],
  );
  for (const field of [
    'idleAddressMinutes',
    'peakAddresses',
    'peakEnis',
    'calls',
    'throttled',
    'waitMs',
    'failed',
  ])
    assert.ok(field in runs[0]!, field);
});

for (const [what, args, code, says] of [
  ['a trace that is not there', ['--trace', 'nothing.csv'], 1, /FILE_UNREADABLE: nothing\.csv/],
  ['an unknown setting', ['--trace', 'x', '--set', 'cool=1'], 2, /--set does not know cool/],
  ['a setting out of range', ['--trace', 'x', '--set', 'warm=many'], 2, /--set warm is "many"/],
  ['an unknown type', ['--trace', 'x', '--instance-type', 'm5.huge'], 2, /no instance type "m5\.huge"/],
  [
    'a subnet of no size',
    ['--trace', 'x', '--subnet-size', '100'],
    2,
    /--subnet-size is "100", not a power of two/,
  ],
  ['an unknown allocator', ['--trace', 'x', '--allocator', 'other'], 2, /--allocator is "other"/],
  ['a variable without a value', ['--trace', 'x', '--env', 'WARM'], 2, /--env is "WARM", not KEY=VALUE/],
] as const) {
  test(`simulate refuses ${what}`, () => {
    const { status, stderr } = podway(['simulate', ...args]);
    assert.match(stderr, says);
    assert.equal(status, code);
  });
}

test('simulate names the line of a trace that it cannot read', () => {
  const file = join(dir, 'wrong.csv');
  writeFileSync(file, 'time,node,pod,event\n1,n1,a,stop\n');
  const { status, stderr } = podway(['simulate', '--trace', file]);
  assert.equal(status, 1);
  assert.match(stderr, /INVALID_TRACE: .*wrong\.csv line 2: pod a stops without a start/);
});
