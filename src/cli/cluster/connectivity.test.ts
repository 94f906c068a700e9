import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planMembers, planQuestions, podOf } from './connectivity.ts';

test('every ordered pair of pods and nodes is asked, pods by UDP too', () => {
  const two = planMembers(['node-1', 'node-2', 'node-3']);
  assert.deepEqual(
    two.map(({ name, node, hostNetwork }) => `${name} ${node} ${hostNetwork}`),
    [
      'pod-a node-1 false',
      'pod-b node-1 false',
      'node-a node-1 true',
      'pod-c node-2 false',
      'node-c node-2 true',
    ],
  );
  const questions = planQuestions(two);
  assert.equal(questions.length, 5 * 4 + 3 * 2);
  assert.deepEqual(
    [...new Set(questions.map(({ name }) => name))].sort(),
    ['pod-to-pod', 'pod-to-node', 'node-to-pod', 'node-to-node']
      .flatMap((kind) => [`${kind}-same-node`, `${kind}-across-nodes`])
      .filter((name) => name !== 'node-to-node-same-node')
      .concat('pod-to-pod-same-node-udp', 'pod-to-pod-across-nodes-udp')
      .sort(),
  );
  assert.equal(planMembers(['only']).length, 3);
  assert.deepEqual(planMembers([]), []);
});

test('a test pod asks for no right that a restricted namespace refuses, and stays where it is put', () => {
  const [member] = planMembers(['node-1']);
  const { spec, metadata } = podOf(member!, 'ab12', 20_001, 'podway:1');
  assert.equal(metadata.name, 'podway-ab12-pod-a');
  assert.equal(spec.nodeName, 'node-1');
  const { command, securityContext } = spec.containers[0] as (typeof spec.containers)[0] & {
    securityContext: object;
  };
  assert.deepEqual(command, ['podway', 'probe', 'serve', '--name', 'pod-a', '--port', '20001']);
  assert.deepEqual(securityContext, {
    runAsNonRoot: true,
    runAsUser: 65534,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  });
});
