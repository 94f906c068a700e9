// Which groups a pod gets, of all shapes of policies.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SecurityGroupPolicy } from './index.ts';
import { decodePolicy, selectGroups } from './pod-groups.ts';

const policy = (name: string, spec: SecurityGroupPolicy['spec'], namespace = 'default') =>
  decodePolicy({ metadata: { name, namespace }, spec: spec! });
const groups = (...groupIds: string[]) => ({ securityGroups: { groupIds } });
const app = (value: string) => ({ matchLabels: { app: value } });
const pod = { namespace: 'default', labels: { app: 'web' }, serviceAccount: { team: 'a' } };

test('a policy selects by pod, by account, or by both', () => {
  const cases: [string, SecurityGroupPolicy['spec'], string[]][] = [
    ['its labels', { podSelector: app('web'), ...groups('sg-1') }, ['sg-1']],
    ['other labels', { podSelector: app('db'), ...groups('sg-1') }, []],
    ['all pods', { podSelector: {}, ...groups('sg-1') }, ['sg-1']],
    ['its account', { serviceAccountSelector: { matchLabels: { team: 'a' } }, ...groups('sg-1') }, ['sg-1']],
    [
      'one of two',
      { podSelector: {}, serviceAccountSelector: { matchLabels: { team: 'b' } }, ...groups('sg-1') },
      [],
    ],
    ['no selector', groups('sg-1'), []],
    ['no groups', { podSelector: {} }, []],
    [
      'an operator that there is not',
      { podSelector: { matchExpressions: [{ key: 'a', operator: 'Near' as never }] }, ...groups('sg-1') },
      [],
    ],
    ['too many', { podSelector: {}, ...groups(...Array.from({ length: 17 }, (_, n) => `sg-${n}`)) }, []],
  ];
  for (const [what, spec, expected] of cases)
    assert.deepEqual(selectGroups([policy('p', spec)], pod).groupIds, expected, what);
  assert.match(policy('p', groups('sg-1')).fault!, /neither podSelector nor serviceAccountSelector/);
});

test('another namespace’s policy counts not, and an account that is not there matches none', () => {
  const all = { serviceAccountSelector: {}, ...groups('sg-1') };
  assert.deepEqual(selectGroups([policy('p', all, 'other')], pod).groupIds, []);
  assert.deepEqual(selectGroups([policy('p', all)], { ...pod, serviceAccount: null }).groupIds, []);
});

test('groups of several policies are joined, each once, in any order of arrival', () => {
  const list = [
    policy('a', { podSelector: {}, ...groups('sg-2', 'sg-1') }),
    policy('b', { podSelector: app('web'), ...groups('sg-1', 'sg-3') }),
    policy('c', { podSelector: app('db'), ...groups('sg-9') }),
  ];
  fc.assert(
    fc.property(fc.shuffledSubarray(list, { minLength: 3 }), (shuffled) => {
      assert.deepEqual(selectGroups(shuffled, pod), {
        groupIds: ['sg-2', 'sg-1', 'sg-3'],
        policies: ['a', 'b'],
      });
    }),
  );
});
