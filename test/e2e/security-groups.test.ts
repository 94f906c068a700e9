// A rule of a security group taken away stops new connections between pods of two nodes at once. Pods of one node never
// pass a security group; a tracked stream goes on until it ends; an untracked one stops with its rule, all as on AWS
// (Amazon EC2 User Guide, "Security group connection tracking").
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupsCommand,
  type EC2Client,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const EVERYBODY: IpPermission[] = [
  { IpProtocol: 'tcp', FromPort: 0, ToPort: 65535, IpRanges: [{ CidrIp: '0.0.0.0/0' }] },
];
/** A stream without an echo for this long stands still; it asks every 20 ms. */
const STILL_MS = 1500;

const lab = new Lab('sg');
const streams = new Streams();
let ec2: EC2Client;
let groupId: string;
let fromItself: IpPermission[];
let a: PodView;
let near: PodView;
let far: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  [a, near, far] = await Promise.all([
    lab.run('a', '--node', 'node-1'),
    lab.run('near', '--node', 'node-1'),
    lab.run('far', '--node', 'node-2'),
  ]);
  const { SecurityGroups } = await ec2.send(
    new DescribeSecurityGroupsCommand({ Filters: [{ Name: 'group-name', Values: ['nodes'] }] }),
  );
  assert.equal(SecurityGroups?.length, 1);
  groupId = SecurityGroups[0]!.GroupId!;
  fromItself = [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: groupId }] }];
  assert.deepEqual(
    SecurityGroups[0]!.IpPermissions!.map((rule) => rule.UserIdGroupPairs?.map((pair) => pair.GroupId)),
    [[groupId]],
  );
});
after(async () => {
  streams.close();
  ec2?.destroy();
  if (!skip) await lab.down();
});

const allow = (rules: IpPermission[]) =>
  ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions: rules }));
const revoke = (rules: IpPermission[]) =>
  ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions: rules }));
const connect = (to: PodView) => lab.askFrom('a', 'tcp', to.ips[0]!, '8080');
const answered = (to: PodView) => ({ answer: `${to.name} ${a.ips[0]}` });

async function assertAnswers(to: PodView): Promise<void> {
  const { answer } = await connect(to);
  assert.deepEqual({ answer }, answered(to));
}

test('revoked: no new connection to the other node; the same node and the open stream go on', {
  skip,
}, async () => {
  await assertAnswers(far);
  await assertAnswers(near);
  await streams.open(a.netnsPath, [`${far.ips[0]}:8080`, `${near.ips[0]}:8080`]);
  await revoke(fromItself);
  const [blocked, same] = await Promise.all([connect(far), connect(near)]);
  assert.match(blocked.error ?? 'connected', /connect.*timed out/i);
  assert.deepEqual({ answer: same.answer }, answered(near));
  await streams.alive();
});

test('the connectivity test names the closed gate', { skip }, async () => {
  const ran = await lab.podway('connectivity', 'test', '-o', 'json');
  assert.equal(ran.code, 1);
  const { ok, checks } = JSON.parse(ran.stdout) as {
    ok: boolean;
    checks: { ok: boolean; observed: string }[];
  };
  assert.equal(ok, false);
  const failed = checks.filter((check) => !check.ok);
  assert.ok(failed.length > 0);
  assert.ok(
    failed.some((check) => check.observed.includes(groupId)),
    JSON.stringify(failed, null, 1),
  );
});

test('given back: new connections at once', { skip }, async () => {
  await allow(fromItself);
  await assertAnswers(far);
  await streams.alive();
});

test('a flow that AWS does not track stops with its rule', { skip }, async () => {
  await allow(EVERYBODY);
  await revoke(fromItself);
  const untracked = new Streams();
  try {
    await untracked.open(a.netnsPath, [`${far.ips[0]}:8080`]);
    await untracked.alive();
    await revoke(EVERYBODY);
    let echoed = -1;
    let since = performance.now();
    await eventually('the stream stands still', () => {
      const now = untracked.reports()[0]!.echoed;
      if (now !== echoed) since = performance.now();
      echoed = now;
      return performance.now() - since > STILL_MS;
    });
    await streams.alive();
  } finally {
    untracked.close();
    await allow(fromItself);
  }
});
