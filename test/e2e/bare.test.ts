// Instances without an agent, as other CNIs are tried on: `lab up` returns when they run, also with EC2's own latency, and
// what a lab that is not whole says of itself.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip, told } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('bare', ['-f', join(ROOT, 'examples/bare-nodes.yaml'), '--set', 'ec2Latency=realistic']);

after(async () => {
  if (!skip) await lab.down();
});

test('lab up waits until bare instances run; a lab that is not whole says so', { skip }, async () => {
  const up = lab.up();
  up.catch(() => {});
  await eventually('status tells of the building', async () =>
    /is building; EC2/.test(await lab.ok('lab', 'status')),
  );
  const { pid } = JSON.parse(readFileSync(labPaths(lab.name).pid, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  await assert.rejects(up, /LAB_LOST/);
  const left = await lab.podway('lab', 'status');
  assert.equal(left.code, 1);
  assert.match(
    left.stderr,
    /^podway: LAB_NOT_UP: .*what it made is left \(podway lab up .*podway lab down .*\)\n$/,
  );

  await lab.up();
  const { state, instances } = await lab.status();
  assert.equal(state, 'up');
  assert.deepEqual(
    instances.map((each) => [each.name, each.state]),
    [
      ['bare-1', 'running'],
      ['bare-2', 'running'],
    ],
  );
  for (const { name, ips } of instances) {
    const ran = await lab.podway(
      'lab',
      'exec',
      name,
      '--',
      'sh',
      '-c',
      'ip -br -4 addr show eth0; sysctl -n net.ipv4.ip_forward',
    );
    assert.match(
      ran.stdout,
      new RegExp(`^eth0@\\S+ +UP +${ips[0]}/20 *\\n0\\n$`),
      told(['lab', 'exec'], ran),
    );
  }
});
