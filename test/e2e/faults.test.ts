// `lab fault`, `lab throttle` and `lab calls` as a user has them: what they do to a node, over a kill -9 of the lab's process,
// and what they refuse.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DescribeVpcsCommand, type EC2Client } from '@aws-sdk/client-ec2';
import type { CallsView, ThrottleView } from '../../src/lab/daemon/protocol.ts';
import type { FaultView } from '../../src/lab/vpc/faults/index.ts';
import { TestLab } from '../support/lab.ts';
import { skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

const lab = new Lab('faults', ['--nodes', '1', '--set', 'cooldown=0s', '--set', 'warm=2']);
let sdk: EC2Client;

const results = async (times: number): Promise<string> => {
  let text = '';
  for (let i = 0; i < times; i++) {
    text += await sdk.send(new DescribeVpcsCommand({})).then(
      () => '.',
      (error: Error) =>
        error.name === 'Unavailable' ? 'x' : error.name === 'RequestLimitExceeded' ? 't' : '?',
    );
  }
  return text;
};
const add = (...args: string[]) => lab.json<FaultView>('lab', 'fault', 'add', ...args);
const list = () => lab.json<FaultView[]>('lab', 'fault', 'list');

before(async () => {
  if (skip) return;
  await lab.up();
  sdk = await lab.ec2();
});
after(() => (skip ? undefined : downAll([lab])));

test('the same seed hits the same requests, also when the lab is killed between them', { skip }, async () => {
  const fault = ['--action', 'DescribeVpcs', '--error', 'Unavailable', '--rate', '0.4', '--seed', '11'];
  await add(...fault);
  const whole = await results(24);
  assert.match(whole, /^(?=.*x)(?=.*\.)[x.]+$/);
  await lab.ok('lab', 'fault', 'clear');
  const again = await add(...fault);
  const first = await results(12);
  const handle = new TestLab(lab.name);
  handle.killDaemon();
  await lab.up();
  const [kept] = await list();
  assert.deepEqual([kept?.id, kept?.seen], [again.id, 12]);
  assert.equal(first + (await results(12)), whole);
  await lab.ok('lab', 'fault', 'clear', again.id);
  assert.equal(await results(5), '.....');
  assert.deepEqual(await list(), []);
});

test('a pod starts although answers are lost; the calls tell of it', { skip }, async () => {
  await add('--action', 'CreateNetworkInterface', '--drop-answer', '--count', '1', '--node', 'node-1');
  await add('--action', 'AssignPrivateIpAddresses', '--drop-answer', '--count', '1');
  const names = Array.from({ length: 11 }, (_, i) => `p${i}`);
  const pods = await Promise.all(names.map((name) => lab.run(name)));
  assert.ok(pods.every((pod) => pod.phase === 'Running'));
  const { calls, totals } = await lab.json<CallsView>('lab', 'calls', '--since', '5m');
  assert.equal(totals['CreateNetworkInterface']!['lost'], 1);
  assert.equal(totals['AssignPrivateIpAddresses']!['lost'], 1);
  const lost = calls.find((call) => call.action === 'CreateNetworkInterface' && call.result === 'lost')!;
  assert.equal(lost.caller, 'node-1');
  assert.ok(Date.parse(lost.at) > 0 && lost.ms >= 0);
  await lab.ok('lab', 'fault', 'clear');
  await lab.agreed();
  assert.match(await lab.ok('lab', 'calls'), /node-1 +CreateNetworkInterface/);
  await lab.delete(...names);
});

test('a bucket throttles, is shown, and is reset', { skip }, async () => {
  const set = await lab.json<ThrottleView>(
    ...['lab', 'throttle', '--action', 'DescribeVpcs', '--rate', '0.001', '--burst', '3'],
  );
  assert.deepEqual(set, {
    setting: 'none',
    sizes: [{ action: 'DescribeVpcs', perSecond: 0.001, burst: 3 }],
  });
  assert.equal(await results(5), '...tt');
  assert.match(await lab.ok('lab', 'throttle'), /DescribeVpcs +0.001 +3/);
  await lab.ok('lab', 'throttle', '--reset');
  assert.equal(await results(3), '...');
});

for (const [what, args, because] of [
  ['no effect', ['fault', 'add', '--action', '*'], /one of --error/],
  ['two effects', ['fault', 'add', '--action', '*', '--empty', '--delay', '1s'], /asked for 2/],
  ['an action that there is not', ['fault', 'add', '--action', 'Nothing', '--drop-answer'], /"Nothing"/],
  ['a rate above 1', ['fault', 'add', '--action', '*', '--drop-answer', '--rate', '2'], /rate is 2/],
  ['a count of none', ['fault', 'add', '--action', '*', '--drop-answer', '--count', '0'], /--count is "0"/],
  ['a delay that is none', ['fault', 'add', '--action', '*', '--delay', 'soon'], /"soon"/],
  ['a node that there is not', ['fault', 'add', '--action', '*', '--drop-answer', '--node', 'n7'], /n7/],
  ['a fault that there is not', ['fault', 'clear', 'f-999'], /no fault f-999/],
  ['a rate without a burst', ['throttle', '--rate', '3'], /a rate and a burst/],
  [
    'a bucket of an action that there is not',
    ['throttle', '--action', 'X', '--rate', '1', '--burst', '1'],
    /"X"/,
  ],
  ['a time that is none', ['calls', '--since', 'ever'], /"ever"/],
] as const) {
  test(`refused, by name: ${what}`, { skip }, async () => {
    const ran = await lab.podway('lab', ...args);
    assert.equal(ran.code, 2, ran.stderr);
    assert.match(ran.stderr, because);
    assert.match(ran.stderr, /^podway: [A-Z_]+: .*\(.*\)\n$/);
  });
}
