import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isPlainName, netnsName, podPlace } from '../fabric/names.ts';
import { ControlClient } from './client.ts';
import { coalesced } from './coalesce.ts';
import { LabError } from './errors.ts';
import { readJson, writeJson } from './files.ts';
import { serveControl } from './http.ts';
import { takeLock } from './lock.ts';
import { MARK, processesMarked } from './mark.ts';
import { checkLabName, namespacesOf } from './paths.ts';
import { endProcess, identify, isAlive } from './processes.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-daemon-'));
after(() => rmSync(dir, { recursive: true, force: true }));

test('a namespace is of one lab, however alike names of labs and instances are', () => {
  const labs = ['s3a', 's3a-b', 's3b', 's3b-pod', 's3b-pod-0123456789ab'];
  const places = ['vpc', 'b-node-1', 'node-1', 'pod_x', 'x_pod-1', podPlace('0123456789abcdef')];
  const all = labs.flatMap((lab) => places.map((place) => netnsName(lab, place)));
  assert.equal(new Set(all).size, all.length, 'no two are equal');
  const others = ['other', 'podway-s3a-vpc', 'podway_s3a', 'podway_s3a_', 'x_podway_s3a_vpc'];
  for (const lab of labs) {
    assert.deepEqual(
      namespacesOf(lab, [...all, ...others]),
      places.map((place) => netnsName(lab, place)),
    );
  }
  for (const place of [podPlace('0123456789abcdef'), 'vpc', 'internet'])
    assert.equal(isPlainName(place), false);
});

test('a lock on a file that was removed meanwhile is no lock', () => {
  const file = join(dir, 'going.sqlite');
  const first = takeLock(file);
  assert.ok(first);
  rmSync(file);
  const second = takeLock(file);
  assert.ok(second, 'the new file is a new lock');
  first.release();
  second.release();
  assert.equal(takeLock(join(dir, 'no folder', 'lock.sqlite')), undefined);
});

test('processes are found by the mark that they were started with', () => {
  const marked = (mark: string) =>
    spawn('sleep', ['60'], { env: { PATH: process.env['PATH'], [MARK]: mark }, stdio: 'ignore' });
  const [one, other] = [marked('a/1'), marked('a/12')];
  after(() => {
    one.kill('SIGKILL');
    other.kill('SIGKILL');
  });
  const found = processesMarked('a/1').map((each) => each.pid);
  assert.deepEqual(found, [one.pid]);
  assert.deepEqual(processesMarked(undefined), []);
});

test('names of labs', () => {
  for (const good of ['a', 'default', 'lab-2', 'x'.repeat(20)]) assert.equal(checkLabName(good), good);
  for (const bad of ['', '-a', 'a-', 'A', '../x', 'a b', 'x'.repeat(21)])
    assert.throws(() => checkLabName(bad), LabError);
});

test('the lock is held by one, and free again after release', () => {
  const file = join(dir, 'lock.sqlite');
  const first = takeLock(file);
  assert.ok(first);
  assert.equal(takeLock(file), undefined);
  first.release();
  const second = takeLock(file);
  assert.ok(second);
  second.release();
});

test('a state file is read whole or not at all', () => {
  const file = join(dir, 'state.json');
  writeJson(file, { a: 1 });
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readJson(file), { a: 1 });
  writeFileSync(file, '{"a":');
  assert.equal(readJson(file), undefined);
  assert.equal(readJson(join(dir, 'absent')), undefined);
});

test('a process is known by pid and start time, and ends even when it ignores SIGTERM', async () => {
  const child = spawn('sh', ['-c', 'trap "" TERM; echo up; while :; do sleep 1; done'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const id = identify(child.pid!)!;
  assert.equal(isAlive(id), true);
  assert.equal(isAlive({ ...id, startTime: '1' }), false);
  await endProcess({ ...id, startTime: '1' }, 0);
  assert.equal(isAlive(id), true, 'another process of that pid is left alone');
  await endProcess(id, 50);
  assert.equal(isAlive(id), false);
});

test('coalesced: one run at a time, callers in between share the next', async () => {
  let runs = 0;
  let running = 0;
  const go = coalesced(async () => {
    runs += 1;
    running += 1;
    assert.equal(running, 1);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    if (runs === 1) throw new Error('the first fails');
  });
  const results = await Promise.allSettled([go(), go(), go()]);
  assert.deepEqual(
    results.map((each) => each.status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  assert.equal(runs, 2);
  await go();
  assert.equal(runs, 3);
});

test('control: answers, streams, errors with their code, and a lab that is not there', async () => {
  const path = join(dir, 'control.sock');
  const server = await serveControl(path, [
    {
      method: 'GET',
      pattern: '/v1/echo/:word',
      answer: (call) => ({ word: call.path[2], query: call.query.get('q') }),
    },
    {
      method: 'POST',
      pattern: '/v1/fail',
      answer: () => {
        throw new LabError('NOT_TODAY', 'it cannot be', 'try tomorrow', { exit: 2 });
      },
    },
    {
      method: 'POST',
      pattern: '/v1/stream',
      stream: true,
      answer: (call, emit) => {
        emit({ kind: 'progress', text: 'half' });
        return call.body;
      },
    },
    {
      method: 'POST',
      pattern: '/v1/late',
      stream: true,
      answer: (_, emit) => {
        emit({ kind: 'progress', text: 'half' });
        throw new LabError('LATE', 'too late', 'be early');
      },
    },
  ]);
  after(() => server.close());
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const client = new ControlClient('x', path);
  assert.deepEqual(await client.call('GET', '/v1/echo/a%2Fb?q=1'), { word: 'a/b', query: '1' });
  const code =
    (expected: string, exit = 1) =>
    (error: LabError) =>
      error.code === expected && error.exit === exit;
  await assert.rejects(client.call('POST', '/v1/fail', {}), code('NOT_TODAY', 2));
  await assert.rejects(client.call('GET', '/v1/nothing'), code('NO_ROUTE'));
  await assert.rejects(client.call('POST', '/v1/fail', 'x'.repeat(2 << 20)), (error: LabError) =>
    ['TOO_LARGE', 'LAB_LOST'].includes(error.code),
  );
  const seen: string[] = [];
  assert.deepEqual(await client.follow('POST', '/v1/stream', { a: 1 }, (line) => seen.push(line.kind)), {
    a: 1,
  });
  await assert.rejects(
    client.follow('POST', '/v1/late', {}, (line) => seen.push(line.kind)),
    code('LATE'),
  );
  assert.deepEqual(seen, ['progress', 'progress']);
  await assert.rejects(
    new ControlClient('y', join(dir, 'absent.sock')).call('GET', '/v1/ping'),
    code('LAB_NOT_UP'),
  );
});
