// Gate by gate: what is said of a pod at each point of its way to a branch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { POD_ENI, POD_ENI_CAUSE, type Pod, type SecurityGroupPolicy } from '../kube/index.ts';
import { groupsView } from './sg-view.ts';

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
  groupsView({ pod: pod(), node, policies: [policy('a', 1)], serviceAccount: null, ...input });
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
  assert.deepEqual([shown(late), late.groupIds, late.policies[0]!.late], ['-++-', [], true]);
  assert.match(late.gates[0]!.text, /came after the pod/);
  const away = oks({ pod: pod({ containers: [{ name: 'c' }] }) });
  assert.deepEqual([shown(away), /webhook was away/.test(away.gates[1]!.text)], ['+-+-', true]);
  assert.equal(shown(oks({ node: { status: {} } })), '++--');
  const refused = oks({ pod: pod({}, { [POD_ENI_CAUSE]: 'BRANCH_LIMIT: full' }) });
  assert.deepEqual([shown(refused), refused.cause], ['+++-', 'BRANCH_LIMIT: full']);
  assert.match(oks({ pod: pod({}, { [POD_ENI]: '[{}]' }) }).gates[3]!.text, /vlanId is undefined/);
});
