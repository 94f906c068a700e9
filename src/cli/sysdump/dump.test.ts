import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { LabError } from '../../lab/daemon/errors.ts';
import { openPlace, placeKind } from '../cluster/place.ts';
import { DUMP_VERSION, Dump, type Manifest } from './dump.ts';
import { DumpWriter } from './writer.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-dump-test-'));
after(() => rmSync(dir, { recursive: true }));
let made = 0;

function dumpOf(manifest: Partial<Manifest>, files: Record<string, unknown>): string {
  const file = join(dir, `${made++}.tgz`);
  const out = new DumpWriter(file, []);
  for (const [name, value] of Object.entries(files)) out.json(name, value);
  const place = { kind: 'cluster', name: 'https://api' } as const;
  out.finish({ version: DUMP_VERSION, podway: '1', madeAt: '', place, nodes: [], ...manifest });
  return file;
}

const gone = { code: 'EXEC_FAILED', message: 'b: it did not end', next: 'look' };
const cluster = dumpOf(
  { nodes: [{ name: 'a' }, { name: 'b', error: gone }] },
  {
    'nodes/a/node.json': { node: 'a', cause: null },
    'nodes/a/ipam.json': { node: 'a', enis: [] },
    'nodes/a/check.json': { differences: [{ kind: 'not-held', object: 'pod x/y' }] },
    'nodes/a/explain.json': { subject: 'a', node: 'a' },
    'nodes/a/pods.json': { 'x/y': { subject: 'x/y', node: 'a' } },
    'nodes/a/doctor.json': [{ name: 'kernel', state: 'ok', detail: '6.18', next: '' }],
    'api/pods.v1.json': {
      items: [
        { metadata: { namespace: 'x', name: 'y' }, spec: { nodeName: 'a', containers: [] } },
        { metadata: { namespace: 'x', name: 'z' }, spec: { containers: [] } },
      ],
    },
  },
);
const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: LabError) => error.code,
  );

test('a dump of a cluster answers as its agents did, and names those that did not', async () => {
  assert.equal(placeKind({ from: cluster }), 'cluster');
  const place = await openPlace({ from: cluster });
  const { values, failed } = await place.ipam();
  assert.deepEqual(values, [{ node: 'a', enis: [] }]);
  assert.deepEqual(
    failed.map(({ code }) => code),
    ['EXEC_FAILED'],
  );
  assert.deepEqual((await place.check()).differences, [{ kind: 'not-held', object: 'a: pod x/y' }]);
  assert.equal((await place.nodes()).values.length, 1);
  assert.deepEqual((await place.doctor()).values[0]!.node, 'a');
  assert.equal((await place.explain('a', 'default')).subject, 'a');
  assert.equal((await place.explain('y', 'x')).subject, 'x/y');
  assert.equal(await codeOf(place.explain('z', 'x')), 'UNSCHEDULABLE');
  assert.equal(await codeOf(place.explain('nobody', 'x')), 'NO_SUCH_POD');
  assert.equal(await codeOf(place.explain('b', 'x')), 'EXEC_FAILED');
});

test('a dump of one node answers as its agent', async () => {
  const file = dumpOf(
    { place: { kind: 'local', name: 'a' }, nodes: [{ name: 'a' }] },
    { 'nodes/a/ipam.json': { node: 'a', enis: [] } },
  );
  const place = await openPlace({ from: file });
  assert.deepEqual((await place.ipam()).values, [{ node: 'a', enis: [] }]);
  assert.equal(await codeOf(place.check()), 'NOT_IN_DUMP');
});

test('another version of the form is refused, and so is an archive without a manifest', () => {
  const later = dumpOf({ version: DUMP_VERSION + 1 }, {});
  assert.throws(() => Dump.open(later), { code: 'BAD_DUMP', message: /form 2/ });
  const empty = join(dir, 'empty.tgz');
  writeFileSync(empty, '');
  assert.throws(() => Dump.open(empty), { code: 'BAD_DUMP' });
  assert.throws(() => Dump.open(join(dir, 'none.tgz')), { code: 'BAD_DUMP', message: /ENOENT/ });
});

test('a text keeps its newest end, and the manifest says that it was cut', () => {
  const file = join(dir, 'long.tgz');
  const out = new DumpWriter(file, []);
  out.text('log.txt', `${'old '.repeat(1 << 19)}newest`);
  const place = { kind: 'cluster', name: 'x' } as const;
  out.finish({ version: DUMP_VERSION, podway: '1', madeAt: '', place, nodes: [] });
  const dump = Dump.open(file);
  assert.deepEqual(dump.manifest.cut, ['log.txt']);
  assert.equal(dump.text('log.txt')!.length, 1 << 20);
  assert.ok(dump.text('log.txt')!.endsWith('newest'));
});
