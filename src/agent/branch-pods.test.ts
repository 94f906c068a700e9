// Which pods have branches, and how ADD waits for the annotation.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { formatIp } from '../base/ip.ts';
import type { Pod } from '../kube/index.ts';
import { BranchPods, type BranchWish, branchWish, POD_ENI, readBranch, trunkKnown } from './branch-pods.ts';

const written = {
  eniId: 'eni-07',
  ifAddress: '02:AB:00:00:00:07',
  privateIp: '10.0.9.33',
  vlanId: 7,
  subnetCidr: '10.0.9.0/24',
  associationID: 'trunk-assoc-07',
};
const text = (more: object = {}) => JSON.stringify([{ ...written, ...more }]);
const pod = (annotations?: Record<string, string>, requests?: Record<string, string>) =>
  ({
    metadata: { name: 'a', ...(annotations ? { annotations } : {}) },
    spec: { containers: [{ name: 'c' }, { name: 'd', ...(requests ? { resources: { requests } } : {}) }] },
  }) as Pod;

describe('branches of pods', () => {
  test('a pod wishes for one by its resource or has it by its annotation', () => {
    assert.equal(branchWish(pod()), 'plain');
    assert.equal(branchWish(pod({ other: 'x' }, { cpu: '1' })), 'plain');
    assert.deepEqual(branchWish(pod(undefined, { [POD_ENI]: '1' })), { annotation: null });
    assert.deepEqual(branchWish(pod({ [POD_ENI]: 'x' })), { annotation: 'x' });
    const chosen = pod({ [POD_ENI]: 'x', 'podway.dev/security-groups': 'standard' });
    assert.deepEqual(branchWish(chosen), { annotation: 'x', mode: 'standard' });
    assert.equal(branchWish(pod({ 'podway.dev/security-groups': 'standard' })), 'plain');
  });

  test('the annotation is read in both spellings; a bad one is refused by what is wrong with it', () => {
    const { ref, ips } = readBranch('d/a', text());
    assert.deepEqual(ref, {
      id: 'eni-07',
      mac: '02:ab:00:00:00:07',
      vlan: 7,
      subnetCidr: '10.0.9.0/24',
      associationId: 'trunk-assoc-07',
    });
    assert.deepEqual(ips.map(formatIp), ['10.0.9.33']);
    assert.equal(readBranch('d/a', text({ vlanId: undefined, vlanID: 9 })).ref.vlan, 9);
    assert.deepEqual(readBranch('d/a', text({ ipv6Addr: '2600::7' })).ips.map(formatIp), [
      '10.0.9.33',
      '2600::7',
    ]);
    const rows: [string, RegExp][] = [
      ['{', /of d\/a cannot be read/],
      ['[]', /lacks eniId/],
      [text({ vlanId: 0 }), /VLAN id 0, not 1 to 4094/],
      [text({ vlanId: 4095 }), /VLAN id 4095/],
      [text({ privateIp: '' }), /has no address/],
      [text({ privateIp: '10.0.9.999' }), /cannot be read/],
      [text({ subnetCidr: 'x' }), /cannot be read/],
      [text({ ifAddress: 'x' }), /cannot be read/],
    ];
    for (const [annotation, why] of rows)
      assert.throws(
        () => readBranch('d/a', annotation),
        (error: { code?: string; message: string }) =>
          error.code === 'INVALID_CONFIG' && why.test(error.message),
        annotation,
      );
  });

  test('ADD waits for the annotation, without asking; a plain pod does not wait', async () => {
    const told: string[] = [];
    const pods = new BranchPods((name) => told.push(name));
    const { signal } = new AbortController();
    const first = pods.of('d/a', signal);
    await turn();
    const wishes: [string, BranchWish][] = [
      ['d/a', { annotation: null }],
      ['d/b', 'plain'],
    ];
    pods.note(new Map(wishes));
    assert.equal(await pods.of('d/b', signal), null);
    pods.note(new Map([['d/a', { annotation: text() }]]));
    assert.equal((await first)?.ref.vlan, 7);
    assert.deepEqual(told, ['d/a']);
  });

  test('a pod has the mode of its annotation, else that of the settings; another word is refused by name', async () => {
    const told: unknown[] = [];
    const pods = new BranchPods((_name, { ref }) => told.push(ref.mode), 'standard');
    const { signal } = new AbortController();
    const wishes: [string, BranchWish][] = [
      ['d/a', { annotation: text() }],
      ['d/b', { annotation: text({ vlanId: 8 }), mode: 'strict' }],
      ['d/c', { annotation: text({ vlanId: 9 }), mode: 'loose' }],
    ];
    pods.note(new Map(wishes));
    assert.equal((await pods.of('d/a', signal))?.ref.mode, 'standard');
    assert.equal((await pods.of('d/b', signal))?.ref.mode, 'strict');
    const why = /podway\.dev\/security-groups of d\/c is "loose", not strict or standard/;
    await assert.rejects(pods.of('d/c', signal), { code: 'INVALID_CONFIG', message: why });
    assert.deepEqual(told, ['standard', 'strict']);
  });

  test('a pod may ask for a branch before the trunk is known; ADD then asks EC2 until it is', async () => {
    const pods = new BranchPods();
    assert.equal(pods.wished, false);
    pods.note(
      new Map<string, BranchWish>([
        ['d/b', 'plain'],
        ['d/a', { annotation: null }],
      ]),
    );
    assert.equal(pods.wished, true);
    let asked = 0;
    const pool = {
      trunk: null as object | null,
      async reconcileNow() {
        asked += 1;
        if (asked === 2) pool.trunk = {};
      },
    };
    await trunkKnown(pool, 'd/a', new AbortController().signal);
    assert.equal(asked, 2);
  });

  test('ADD fails in time when nobody gives a branch, when nobody knows the pod, and when its caller goes away', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pods = new BranchPods();
    const code = (expected: string, message: RegExp) => (error: { code?: string; message: string }) =>
      error.code === expected && message.test(error.message);
    const stop = new AbortController();
    const unknown = assert.rejects(pods.of('d/x', stop.signal), code('BRANCH_PENDING', /has not told/));
    t.mock.timers.tick(2_000);
    await unknown;
    pods.note(new Map([['d/a', { annotation: null }]]));
    const waiting = pods.of('d/a', stop.signal);
    await turn();
    t.mock.timers.tick(30_000);
    await assert.rejects(waiting, code('BRANCH_PENDING', /within 30 s/));
    const gone = pods.of('d/a', stop.signal);
    await turn();
    stop.abort(new Error('gone'));
    await assert.rejects(gone, /gone/);
  });
});
