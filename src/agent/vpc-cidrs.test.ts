import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatCidr, parseCidr, parseIp } from '../base/ip.ts';
import { VpcCidrs } from './vpc-cidrs.ts';

const never = new AbortController().signal;
const FIRST = '10.0.0.0/16';
const SECOND = '100.64.0.0/16';

function harness() {
  const dir = mkdtempSync(join(tmpdir(), 'podway-vpc-'));
  const said: string[] = [];
  const note = (_: object, text: string) => void said.push(text);
  const it = {
    now: 0,
    listed: [FIRST] as string[] | Error,
    used: ['10.0.0.4'],
    said,
    file: join(dir, 'vpc.json'),
    open: () =>
      new VpcCidrs({
        file: it.file,
        read: async () => {
          if (it.listed instanceof Error) throw it.listed;
          return it.listed.map((text) => parseCidr(text));
        },
        inUse: () => it.used.map((text) => parseIp(text)),
        log: { debug() {}, info: note, warn: note, error() {} },
        now: () => it.now,
      }),
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
  return it;
}
const texts = (cidrs: VpcCidrs) => cidrs.all.map(formatCidr);

test('a CIDR that is added counts at once, and a start without IMDS knows it', async () => {
  using it = harness();
  const cidrs = it.open();
  assert.equal(await cidrs.learn(never), true);
  assert.equal(await cidrs.learn(never), false);
  it.listed = [FIRST, SECOND];
  assert.equal(await cidrs.learn(never), true);
  it.listed = new Error('away');
  assert.equal(await cidrs.learn(never), false);
  assert.deepEqual(texts(it.open()), [FIRST, SECOND]);
});

test('a CIDR that IMDS forgets counts for a minute, and longer while an ENI stands in it', async () => {
  using it = harness();
  it.listed = [FIRST, SECOND];
  const cidrs = it.open();
  await cidrs.learn(never);
  const readAt = async (seconds: number, ...listed: string[]) => {
    it.now = seconds * 1000;
    it.listed = listed;
    await cidrs.learn(never);
    return texts(cidrs);
  };
  assert.deepEqual(await readAt(30, FIRST), [FIRST, SECOND]);
  assert.deepEqual(await readAt(60, FIRST, SECOND), [FIRST, SECOND], 'it was stale');
  assert.deepEqual(await readAt(90, FIRST), [FIRST, SECOND]);
  assert.deepEqual(await readAt(149, FIRST), [FIRST, SECOND]);
  assert.deepEqual(await readAt(150, FIRST), [FIRST]);
  assert.deepEqual(await readAt(180, SECOND), [SECOND, FIRST]);
  assert.deepEqual(await readAt(600, SECOND), [SECOND, FIRST], 'an ENI stands in it');
  assert.deepEqual(await readAt(630), [SECOND, FIRST], 'an empty list says nothing');
  it.used = [];
  assert.deepEqual(await readAt(660, SECOND), [SECOND]);
});

test('a file that cannot be read or written is told, and IMDS decides', async () => {
  using it = harness();
  writeFileSync(it.file, '["10.0.0.0/16');
  const cidrs = it.open();
  assert.deepEqual(texts(cidrs), []);
  assert.match(it.said[0]!, /unreadable/);
  it.file = join(it.file, 'no-directory');
  const other = it.open();
  assert.equal(await other.learn(never), true);
  assert.match(it.said.at(-1)!, /cannot be kept/);
});
