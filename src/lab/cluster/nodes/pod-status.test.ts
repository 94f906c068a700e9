import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '../../../kube/types.ts';
import { podMessage, podView } from '../../daemon/view.ts';
import { powerOffStatus, sandboxStatus, waitingStatus } from './pod-status.ts';
import type { SandboxRecord } from './sandbox-journal.ts';

const pod: Pod = {
  metadata: { name: 'web', namespace: 'default', uid: 'u' },
  spec: { nodeName: 'node-1', containers: [{ name: 'main', image: 'i' }] },
};
const sandbox: SandboxRecord = {
  containerId: 'c'.repeat(64),
  podUid: 'u',
  namespace: 'default',
  name: 'web',
  node: 'node-1',
  hostNetwork: false,
  netns: 'podway_x_pod-cccccccccccc',
  state: 'made',
  ips: ['10.0.0.6'],
  restarts: 0,
  restartPolicy: 'Always',
};
const inputs = { pod, hostIps: ['10.0.0.4'], now: 1_700_000_000_000 };
const running: SandboxRecord = { ...sandbox, process: { pid: 1, startTime: '1' }, startedAt: inputs.now };
const conditionOf = (status: ReturnType<typeof waitingStatus>, type: string) =>
  status.conditions?.find((each) => each.type === type);

test('a running pod is ready and has its addresses', () => {
  const status = sandboxStatus(inputs, running);
  assert.equal(status.phase, 'Running');
  assert.deepEqual(
    [status.podIP, status.podIPs, status.hostIP],
    ['10.0.0.6', [{ ip: '10.0.0.6' }], '10.0.0.4'],
  );
  assert.equal(conditionOf(status, 'Ready')?.status, 'True');
  assert.equal(podMessage({ ...pod, status }), undefined);
});

test('a pod that waits for an address says why', () => {
  const status = waitingStatus(inputs, {
    cause: 'ADDRESS_LIMIT',
    text: 'eni-1 holds 9 of 9',
    transient: false,
  });
  assert.equal(status.phase, 'Pending');
  assert.deepEqual(podMessage({ ...pod, status }), { code: 'ADDRESS_LIMIT', text: 'eni-1 holds 9 of 9' });
  assert.deepEqual(status.containerStatuses?.[0]?.state?.waiting, {
    reason: 'ADDRESS_LIMIT',
    message: 'eni-1 holds 9 of 9',
  });
  assert.equal(podMessage({ ...pod, status: waitingStatus(inputs) }), undefined);
});

test('a pod that was given a node that is not there says so, until it has ended', () => {
  const bound = { ...pod, spec: { ...pod.spec, nodeName: 'node-9' } };
  const message = (status: Pod['status']) => podView({ ...bound, status: status! }, undefined).message;
  assert.deepEqual(message({ phase: 'Pending' }), { code: 'NO_SUCH_NODE', text: 'there is no node node-9' });
  assert.equal(message({ phase: 'Succeeded' }), undefined);
  const { nodeName: _, ...unbound } = bound.spec;
  const left = {
    ...pod,
    spec: { ...unbound, schedulerName: 'other' },
    status: { phase: 'Pending' },
  } as const;
  assert.match(podView(left, undefined).message?.text ?? '', /waits for the scheduler "other"/);
});

test('a pod whose node is not ready says what is wrong with the node', () => {
  const status = waitingStatus(inputs);
  const node = (ready: 'True' | 'False', message: string): Node => ({
    metadata: { name: 'node-1' },
    status: { conditions: [{ type: 'Ready', status: ready, message }] },
  });
  const stopped = node('False', 'NODE_STOPPED: the instance is stopped');
  const said = { code: 'NODE_STOPPED', text: 'node node-1: the instance is stopped' };
  assert.deepEqual(podMessage({ ...pod, status }, stopped), said);
  assert.deepEqual(podView({ ...pod, status }, undefined, stopped).message, said);
  assert.equal(podMessage({ ...pod, status }, node('True', 'it serves')), undefined);
  const own = waitingStatus(inputs, { cause: 'ADDRESS_LIMIT', text: 'full', transient: false });
  assert.equal(podMessage({ ...pod, status: own }, stopped)?.code, 'ADDRESS_LIMIT');
  assert.equal(podMessage({ ...pod, status: sandboxStatus(inputs, running) }, stopped), undefined);
});

test('how a process ended becomes the phase by the restart policy', () => {
  const exit = (code: number) => ({ code, at: inputs.now });
  const cases: [SandboxRecord['restartPolicy'], number, string, string | undefined][] = [
    ['Never', 0, 'Succeeded', undefined],
    ['Never', 3, 'Failed', 'EXITED'],
    ['OnFailure', 0, 'Succeeded', undefined],
    ['OnFailure', 3, 'Running', 'CRASH_LOOP'],
    ['Always', 0, 'Running', 'CRASH_LOOP'],
  ];
  for (const [restartPolicy, code, phase, message] of cases) {
    const status = sandboxStatus(inputs, { ...sandbox, restartPolicy, exit: exit(code) });
    assert.equal(status.phase, phase, `${restartPolicy} ${code}`);
    assert.equal(podMessage({ ...pod, status })?.code, message, `${restartPolicy} ${code}`);
  }
});

test('a condition keeps its time while it does not change', () => {
  const first = sandboxStatus(inputs, running);
  const later = sandboxStatus(
    { ...inputs, pod: { ...pod, status: first }, now: inputs.now + 60_000 },
    running,
  );
  assert.equal(
    conditionOf(later, 'Ready')?.lastTransitionTime,
    conditionOf(first, 'Ready')?.lastTransitionTime,
  );
  const ended = sandboxStatus(
    { ...inputs, pod: { ...pod, status: first }, now: inputs.now + 60_000 },
    { ...sandbox, restartPolicy: 'Never', exit: { code: 1, at: inputs.now } },
  );
  assert.notEqual(
    conditionOf(ended, 'Ready')?.lastTransitionTime,
    conditionOf(first, 'Ready')?.lastTransitionTime,
  );
});

test('a pod of a node without power waits for its boot and has no address; one that is never started again has failed', () => {
  const failure = { cause: 'NODE_STOPPED', text: 'the instance of node-1 is stopped', transient: true };
  const was = { ...pod, status: sandboxStatus(inputs, { ...running, restarts: 2 }) };
  const off = (record: SandboxRecord | undefined) =>
    powerOffStatus({ pod: was, now: inputs.now }, record, failure);
  const cases: [SandboxRecord | undefined, string, string][] = [
    [{ ...running, startedAt: 1 }, 'Pending', 'NODE_STOPPED'],
    [{ ...running, startedAt: 1, restartPolicy: 'OnFailure' }, 'Pending', 'NODE_STOPPED'],
    [{ ...running, startedAt: 1, restartPolicy: 'Never' }, 'Failed', 'Terminated'],
    [undefined, 'Pending', 'NODE_STOPPED'],
  ];
  for (const [record, phase, code] of cases) {
    const status = off(record);
    assert.deepEqual([status.phase, status.podIP, status.podIPs], [phase, undefined, undefined]);
    assert.equal(conditionOf(status, 'Ready')?.status, 'False');
    assert.equal(podMessage({ ...pod, status })?.code, code);
    assert.equal(status.containerStatuses?.[0]?.restartCount, 2);
  }
});

test('restarts and the class that the API gave outlive the sandbox', () => {
  const status = { ...sandboxStatus(inputs, { ...running, restarts: 2 }), qosClass: 'Burstable' };
  const next = waitingStatus({ ...inputs, pod: { ...pod, status } });
  assert.deepEqual([next.containerStatuses?.[0]?.restartCount, next.qosClass], [2, 'Burstable']);
  const known = waitingStatus({ ...inputs, pod: { ...pod, status } }, undefined, 3);
  assert.equal(known.containerStatuses?.[0]?.restartCount, 3);
});

test('a pod shows its namespace only when it has one of its own making', () => {
  assert.equal(podView(pod, { ...sandbox, state: 'making' }).netns, '');
  assert.equal(podView(pod, sandbox).netnsPath, '/run/netns/podway_x_pod-cccccccccccc');
});
