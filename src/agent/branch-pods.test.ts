// Which pods have branches, and how ADD waits for the annotation.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { formatIp } from '../base/ip.ts';
import type { Pod } from '../kube/index.ts';
import { POD_ENI } from '../kube/vpc-resources.ts';
import { BranchPods, type BranchWish, branchWish, type Guard, readBranch } from './branch-pods.ts';

const written = {
  eniId: 'eni-07',
  ifAddress: '02:AB:00:00:00:07',
  privateIp: '10.0.9.33',
  vlanId: 7,
  subnetCidr: '10.0.9.0/24',
  associationID: 'trunk-assoc-07',
};
/** No namespace has policies. */
const noPolicies: Guard = {
  isWhole: true,
  concerns: () => false,
  check: async () => {},
  trouble: async () => null,
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
    const { spec, metadata } = pod();
    const initContainers = [{ name: 'i', resources: { limits: { [POD_ENI]: '1' } } }];
    assert.deepEqual(branchWish({ metadata, spec: { ...spec, initContainers } }), { annotation: null });
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
      ['{', /^d\/a: the annotation vpc\.amazonaws\.com\/pod-eni is no JSON/],
      ['[]', /is not a list of at least one interface/],
      [text({ vlanId: 0 }), /vlanId is 0, not a number from 1 to 4094/],
      [text({ vlanId: 4095 }), /vlanId is 4095/],
      [text({ privateIp: '' }), /has neither privateIp nor ipv6Addr/],
      [text({ eniId: undefined }), /eniId is missing/],
      [text({ privateIp: '10.0.9.999' }), /privateIp: "10\.0\.9\.999"/],
      [text({ subnetCidr: 'x' }), /subnetCidr: /],
      [text({ subnetCidr: '' }), /neither subnetCidr nor subnetV6Cidr/],
      [text({ ifAddress: 'x' }), /ifAddress: "x" is not a MAC address/],
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
    const pods = new BranchPods({ onTold: (name) => told.push(name) });
    pods.noteGuard(noPolicies);
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
    const onTold = (_name: string, { ref }: { ref: { mode?: string } }) => void told.push(ref.mode);
    const pods = new BranchPods({ onTold, mode: 'standard' });
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

  test('what the controller says ends the wait sooner, in its words; a branch that comes meanwhile counts', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pods = new BranchPods();
    const { signal } = new AbortController();
    const cause = 'BRANCH_LIMIT: the trunk of n has 9 of 9 branches';
    pods.note(new Map([['d/a', { annotation: null, cause }]]));
    const refused = pods.of('d/a', signal);
    const came = pods.of('d/a', signal);
    const refusal = assert.rejects(refused, {
      code: 'BRANCH_LIMIT',
      message: 'the trunk of n has 9 of 9 branches',
    });
    await turn();
    t.mock.timers.tick(5_000);
    await refusal;
    await assert.rejects(came, { code: 'BRANCH_LIMIT' });
    const later = pods.of('d/a', signal);
    await turn();
    pods.note(new Map([['d/a', { annotation: text() }]]));
    assert.equal((await later)?.ref.vlan, 7);
    // A word that is no cause of ours says nothing.
    pods.note(new Map([['d/a', { annotation: null, cause: 'WHAT: ever' }]]));
    const odd = pods.of('d/a', signal);
    await turn();
    t.mock.timers.tick(5_000);
    await assert.rejects(odd, { code: 'BRANCH_PENDING' });
  });

  test('ADD asks only where a pod may have a branch or miss its groups', () => {
    let isLikely = false;
    const pods = new BranchPods({ isLikely: () => isLikely });
    const wishes: [string, BranchWish][] = [
      ['d/a', { annotation: null }],
      ['d/b', 'plain'],
      ['g/b', 'plain'],
    ];
    assert.equal(pods.concerns('d', 'a'), false, 'nobody has said anything, and nothing speaks for branches');
    pods.note(new Map(wishes));
    assert.equal(pods.concerns('d', 'a'), true, 'it asks for one, whether or not a trunk is known');
    assert.equal(pods.concerns('d', 'b'), false);
    isLikely = true;
    assert.equal(pods.concerns('d', 'b'), true, 'the policies are not known');
    assert.equal(pods.concerns('d', 'x'), true, 'the pod is not known');
    pods.noteGuard({ ...noPolicies, concerns: (namespace) => namespace === 'g' });
    assert.deepEqual([pods.concerns('d', 'b'), pods.concerns('g', 'b')], [false, true]);
  });

  test('without the policies a plain pod waits a moment where branches are likely, and is refused', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pods = new BranchPods();
    const { signal } = new AbortController();
    pods.note(new Map([['d/b', 'plain' as const]]));
    const refused = assert.rejects(pods.of('d/b', signal), {
      code: 'BRANCH_PENDING',
      message: /SecurityGroupPolicies/,
    });
    const served = pods.of('d/b', signal);
    await turn();
    t.mock.timers.tick(1_000);
    t.mock.timers.tick(1_000);
    await refused;
    await assert.rejects(served);
    const again = pods.of('d/b', signal);
    await turn();
    pods.noteGuard(noPolicies);
    assert.equal(await again, null);
  });
});
