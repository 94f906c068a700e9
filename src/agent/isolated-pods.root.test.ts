// Isolated pods on a real kernel: what they send and are sent is dropped until their policies are in force, across a
// restart of the agent and whatever others do to the table; a kernel that refuses starts no pod.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { eventually } from '../../test/support/wait.ts';
import { parseIp } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { UDP } from '../policy/model.ts';
import { PacketRange } from '../policy/testing.ts';
import { IsolatedPods } from './isolated-pods.ts';

const POD = { namespace: 'x', name: 'early' };
const [own, other, third] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((ip) => parseIp(ip));
const six = parseIp('fd00::1');
const packet = (src: typeof own, dst: typeof own) => ({ src: src!, dst: dst!, protocol: UDP, port: 80 });
const quiet = () => {};
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet } as never;

it('a pod is isolated until its policies are in force, across a restart', needsRoot, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-isolated-'));
  using range = new PacketRange();
  const told: string[] = [];
  const open = (inForce: Promise<void>) =>
    new IsolatedPods({
      ...{ netns: range.router, file: join(dir, 'isolated.json'), log },
      tell: ({ text }) => told.push(text),
      inForce: (_pod, _ips, signal) =>
        Promise.race([
          inForce,
          new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
        ]),
    });
  const asked = [
    packet(own, other),
    packet(other, own),
    packet(other, third),
    packet(six, parseIp('fd00::2')),
  ];
  const tables = () => range.nft('list tables');
  try {
    const first = open(new Promise(() => {}));
    await first.isolate(POD, [own!, six], 'nobody tells');
    assert.deepEqual(told, ['the pod reaches its node alone for now: nobody tells']);
    assert.deepEqual(range.send(asked), [false, false, true, false]);
    range.nft('delete table inet podway-isolated');
    await eventually('others cannot open it', () => !range.send(asked)[0]);
    await first.close();
    assert.deepEqual(range.send(asked), [false, false, true, false], 'without an agent');
    const known = Promise.withResolvers<void>();
    const second = open(known.promise);
    await second.resume();
    assert.deepEqual(second.names, ['x/early']);
    assert.deepEqual(range.send(asked), [false, false, true, false], 'with the next agent');
    known.resolve();
    await eventually('it is let go', () => second.names.length === 0);
    await eventually('the table goes', () => !tables().includes('podway-isolated'));
    assert.deepEqual(range.send(asked), [true, true, true, true]);
    const third2 = open(new Promise(() => {}));
    await third2.resume();
    assert.deepEqual(third2.names, []);
    await third2.isolate(POD, [own!], 'again');
    third2.release([own!]);
    await eventually('its address is nobody’s', () => range.send(asked)[0]!);
    await third2.close();
    await second.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
