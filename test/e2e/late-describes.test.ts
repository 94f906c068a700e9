// EC2 whose describes are seconds late: new nodes meet describes from before their own ENIs were attached.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestLab } from '../support/lab.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';

const lab = new TestLab(`e2e-late-${process.pid}`, {
  nodes: 2,
  set: ['ec2Consistency=3s', 'ec2Latency=realistic'],
});

before(async () => {
  if (!skip) await lab.up();
});
after(async () => {
  if (!skip) await lab.down();
});

test('new nodes get ready, serve pods, and agree with EC2', { skip, timeout: 240_000 }, async () => {
  for (const [index, { node }] of (await lab.show()).entries()) {
    const pod = await lab.run(`late-${index}`, node);
    assert.equal(pod.phase, 'Running', JSON.stringify(pod.message));
  }
  await eventually('the views agree', async () => (await lab.check()).ok);
});
