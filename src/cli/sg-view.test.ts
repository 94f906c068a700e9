// Gate by gate: what is said of a pod at each point of its way to a branch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { POD_ENI, POD_ENI_CAUSE, type Pod, type SecurityGroupPolicy } from '../kube/index.ts';
import { groupsView, newcomerText } from './sg-view.ts';

const at = (second: number) => `2026-01-01T00:00:0${second}Z`;
const policy = (name: string, second: number): SecurityGroupPolicy => ({
  metadata: { name, namespace: 'default', creationTimestamp: at(second) },
  spec: { podSelector: { matchLabels: { app: 'web' } }, securityGroups: { groupIds: [`sg-${name}`] } },
});
const pod = (spec: object = {}, annotations: Record<string, string> = {}): Pod => ({
  metadata: {
    name: 'w',
    namespace: 'default',
    labels: { app: 'web' },
    creationTimestamp: at(5),
    annotations,
  },
  spec: { nodeName: 'n', containers: [{ name: 'c', resources: { limits: { [POD_ENI]: '1' } } }], ...spec },
});
const node = { status: { allocatable: { [POD_ENI]: '9' } } };
const ENI =
  '[{"eniId":"eni-1","ifAddress":"02:00:00:00:00:01","privateIp":"10.0.0.9","vlanId":7,"subnetCidr":"10.0.0.0/19","associationID":"a-1"}]';
const oks = (input: Partial<Parameters<typeof groupsView>[0]>) =>
  groupsView({
    pod: pod(),
    node,
    policies: [policy('a', 1)],
    serviceAccount: null,
    told: 'nobody says',
    ...input,
  });
const shown = (view: ReturnType<typeof groupsView>) => view.gates.map(({ ok }) => (ok ? '+' : '-')).join('');

test('the gates of a pod on its way', () => {
  const whole = oks({ pod: pod({}, { [POD_ENI]: ENI }) });
  assert.equal(shown(whole), '++++');
  assert.deepEqual(whole.interface, {
    eniId: 'eni-1',
    mac: '02:00:00:00:00:01',
    vlanId: 7,
    associationId: 'a-1',
    ip: '10.0.0.9',
    subnet: '10.0.0.0/19',
  });
  assert.equal(shown(oks({ policies: [] })), '-++-');
  const late = oks({ policies: [policy('a', 9)] });
  assert.deepEqual(
    [shown(late), late.groupIds, late.wantedGroupIds, late.policies[0]!.late],
    ['-++-', [], ['sg-a'], true],
  );
  assert.match(late.gates[0]!.text, /came after the pod/);
  const away = oks({ pod: pod({ containers: [{ name: 'c' }] }) });
  assert.deepEqual([shown(away), /webhook was away/.test(away.gates[1]!.text)], ['+-+-', true]);
  assert.equal(shown(oks({ node: { status: {} } })), '++--');
  const refused = oks({ pod: pod({}, { [POD_ENI_CAUSE]: 'BRANCH_LIMIT: full' }) });
  assert.deepEqual([shown(refused), refused.cause], ['+++-', 'BRANCH_LIMIT: full']);
  assert.match(oks({ pod: pod({}, { [POD_ENI]: '[{}]' }) }).gates[3]!.text, /vlanId is undefined/);
});

test('groups in force are those of the interface in EC2, and what policies would give stands beside', () => {
  const own = pod({}, { [POD_ENI]: ENI });
  const branch = { id: 'eni-1', mode: 'standard' as const, groupIds: ['sg-b', 'sg-a'] };
  const told = { addresses: [], branch };
  const of = (input: Parameters<typeof oks>[0]) => {
    const view = oks({ pod: own, told, ...input });
    return [view.groupIds, view.wantedGroupIds, view.mode, newcomerText(view)];
  };
  const inForce = ['sg-b', 'sg-a'];
  assert.deepEqual(of({ policies: [policy('a', 1), policy('b', 9)] }), [
    inForce,
    ['sg-a', 'sg-b'],
    'standard',
    null,
  ]);
  assert.deepEqual(of({ policies: [policy('c', 1)] }), [
    inForce,
    ['sg-c'],
    'standard',
    'policies would give sg-c to a pod made now',
  ]);
  const [groups, wanted, , text] = of({ policies: [] });
  assert.deepEqual([groups, wanted], [inForce, []]);
  assert.match(String(text), /^no policy selects it now/);
});

test('groups that nobody knows are not known, for a reason', () => {
  const own = pod({}, { [POD_ENI]: ENI });
  const of = (told: Parameters<typeof groupsView>[0]['told']) => {
    const view = oks({ pod: own, told });
    assert.equal(newcomerText(view), null);
    return [view.groupIds, view.lack];
  };
  assert.deepEqual(of('node n cannot be asked'), [null, 'node n cannot be asked']);
  const denied = { id: 'eni-1', mode: 'strict' as const, groupIds: null, lack: 'denied' };
  assert.deepEqual(of({ addresses: [], branch: denied }), [null, 'denied']);
  assert.match(String(of({})[1]), /has not started/);
  assert.match(String(of({ addresses: [] })[1]), /older version/);
});

test('a pod that cannot start has the cause of its agent', () => {
  const details = { does: '', doc: '' } as never;
  const cause = { code: 'INVALID_CONFIG', text: 'security-groups is "foo"', next: '', details };
  const view = oks({ pod: pod({}, { [POD_ENI]: ENI }), told: { cause } });
  assert.deepEqual([shown(view), view.cause], ['++++', 'INVALID_CONFIG: security-groups is "foo"']);
  assert.equal(oks({ told: { cause, addresses: [] } }).cause, null, 'it runs');
});
