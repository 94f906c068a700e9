import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MigrationReport } from '../../ipam/config/migrate.ts';
import { packageRoot } from '../../lab/daemon/parts.ts';

const podway = (args: string[], input = '') =>
  spawnSync(process.execPath, [join(packageRoot, 'bin', 'podway'), 'ipam', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    input,
  });
const report = (...args: string[]): MigrationReport => {
  const { stdout, stderr } = podway(['migrate-report', '--instance-type', 'm5.large', '-o', 'json', ...args]);
  assert.equal(stderr, '');
  return JSON.parse(stdout) as MigrationReport;
};

test('migrate-report: the default keeps a spare ENI, Podway what its forecast asks for', () => {
  const { before, after, rows } = report('--pods', '0', '--pods', '5');
  assert.deepEqual([before.addressing, before.maxPods, before.variables], ['secondary', 29, []]);
  assert.deepEqual([after.addressing, after.free, after.maxPods], ['secondary', 9, 29]);
  assert.deepEqual(rows, [
    {
      pods: 0,
      before: { enis: 1, addresses: 9, idle: 9, waiting: 0 },
      after: { enis: 2, addresses: 9, idle: 9, waiting: 0 },
    },
    {
      pods: 5,
      before: { enis: 2, addresses: 18, idle: 13, waiting: 0 },
      after: { enis: 2, addresses: 9, idle: 4, waiting: 0 },
    },
  ]);
});

test('migrate-report reads the DaemonSet, and --env wins', () => {
  const manifest = `
apiVersion: v1
kind: List
items:
- kind: DaemonSet
  spec: {template: {spec: {containers: [
    {name: aws-eks-nodeagent, env: [{name: WARM_IP_TARGET, value: "99"}]},
    {name: aws-node, env: [
      {name: WARM_IP_TARGET, value: "3"}, {name: MINIMUM_IP_TARGET, value: "6"}, {name: WARM_IPS, value: "1"},
      {name: MY_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
      {name: CLUSTER_NAME, valueFrom: {configMapKeyRef: {name: a, key: b}}}]}]}}}
`;
  const args = ['migrate-report', '--instance-type', 'm5.large', '--from-daemonset', '-', '--pods', '4'];
  const { stdout, stderr } = podway([...args, '--env', 'MINIMUM_IP_TARGET=0', '-o', 'json'], manifest);
  assert.equal(stderr, '');
  const { before, rows } = JSON.parse(stdout) as MigrationReport;
  assert.deepEqual([before.targets.warmIps, before.targets.minimumIps], [3, 0]);
  assert.deepEqual(before.warnings, [
    'CLUSTER_NAME has no value in the file and is left out',
    'unknown: WARM_IPS',
  ]);
  assert.deepEqual(rows[0]!.before, { enis: 1, addresses: 7, idle: 3, waiting: 0 });
});

const refused: [args: string[], input: string, says: RegExp][] = [
  [
    ['migrate-report', '--instance-type', 'm5.nano'],
    '',
    /^podway: USAGE: there is no instance type "m5\.nano"/,
  ],
  [['migrate-report', '--instance-type', 'm5.large', '--env', 'X'], '', /--env is "X", not NAME=VALUE/],
  [
    ['migrate-report', '--instance-type', 'm5.large', '--pods', '-1'],
    '',
    /--pods is "-1", not a whole number/,
  ],
  [
    ['migrate-report', '--instance-type', 'm5.large', '--from-daemonset', '-'],
    '{',
    /BAD_DAEMONSET: standard input is no YAML/,
  ],
  [
    ['migrate-report', '--instance-type', 'm5.large', '--from-daemonset', '-'],
    'kind: Pod',
    /holds no DaemonSet/,
  ],
  [
    ['migrate-report', '--instance-type', 'm5.large', '--from-daemonset', '/nonexistent'],
    '',
    /BAD_DAEMONSET: \/nonexistent cannot be read/,
  ],
  [
    ['max-pods', '--instance-type', 't2.micro', '--prefixes'],
    '',
    /PREFIX_UNSUPPORTED: t2\.micro takes no prefixes/,
  ],
];
for (const [args, input, says] of refused) {
  test(`${args.join(' ')}: refused`, () => {
    const { status, stderr } = podway(args, input);
    assert.notEqual(status, 0);
    assert.match(stderr, says);
  });
}

test('max-pods prints the number alone', () => {
  assert.equal(podway(['max-pods', '--instance-type', 'm5.large']).stdout, '29\n');
  assert.equal(podway(['max-pods', '--instance-type', 'm5.large', '--custom-networking']).stdout, '20\n');
});
