// A lab of examples/nat64.yaml: a node and pods of IPv6 alone reach hosts of IPv4 by name, through DNS64 and a NAT gateway,
// whose address those see; also after a kill of the lab and of the translator. And plain NAT of IPv4.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { EC2Client, NatGateway } from '@aws-sdk/client-ec2';
import * as sdk from '@aws-sdk/client-ec2';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { Check, PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { assertAnswer, Lab, QUICK } from './lab.ts';

const NAME = 'ipv4.internet.podway.test';
const lab = new Lab('nat', [...QUICK, '-f', join(ROOT, 'examples/nat64.yaml')]);
let ec2: EC2Client;
let gateway: NatGateway;
let pod: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  gateway = (await ec2.send(new sdk.DescribeNatGatewaysCommand({}))).NatGateways![0]!;
  pod = await lab.run('six');
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

const publicIp = () => gateway.NatGatewayAddresses![0]!.PublicIp!;
const reached = () => lab.askFrom('six', 'tcp', NAME, '8080');

test('a pod of IPv6 alone reaches an IPv4 host by name, which sees the NAT gateway', { skip }, async () => {
  assert.equal(gateway.State, 'available');
  assert.ok(pod.ips.every((ip) => ip.includes(':')));
  assertAnswer(await lab.askFrom('six', 'dns', NAME), '64:ff9b::cb00:710a 203.0.113.10');
  assertAnswer(await reached(), `internet ${publicIp()}`);
  assertAnswer(await lab.askFrom('six', 'udp', NAME, '8080'), `internet ${publicIp()}`);
  assertAnswer(await lab.askFrom('six', 'ping', '64:ff9b::203.0.113.10'), 'reply from 64:ff9b::203.0.113.10');
  assertAnswer(await lab.ask('node-1', 'tcp', NAME, '8080'), `internet ${publicIp()}`);
  // As any program asks, with the resolv.conf that `pod exec` gives it; `podway.test` is searched.
  const asked = await lab.podway('pod', 'exec', 'six', '--', 'getent', 'ahostsv6', 'ipv4.internet');
  assert.match(asked.stdout, /^64:ff9b::cb00:710a +STREAM/m, asked.stderr);
  // By IPv6 where the name has it, and without the gateway.
  assertAnswer(await lab.askFrom('six', 'tcp', 'internet.podway.test', '8080'), `internet ${pod.ips[0]}`);
  // An instance of IPv4 alone in the VPC sees the gateway's private address.
  const [address] = gateway.NatGatewayAddresses!;
  await ec2.send(
    new sdk.AuthorizeSecurityGroupIngressCommand({
      GroupId: (
        await ec2.send(
          new sdk.DescribeSecurityGroupsCommand({ Filters: [{ Name: 'group-name', Values: ['nodes'] }] }),
        )
      ).SecurityGroups![0]!.GroupId!,
      IpProtocol: 'tcp',
      FromPort: 8080,
      ToPort: 8080,
      CidrIp: `${address!.PrivateIp}/32`,
    }),
  );
  const old = (await lab.status()).instances.find((one) => one.name === 'old')!;
  const four = old.ips.find((ip) => !ip.includes(':'))!;
  assertAnswer(await lab.askFrom('six', 'tcp', `64:ff9b::${four}`, '8080'), `old ${address!.PrivateIp}`);
});

test('the connectivity test asks it', { skip }, async () => {
  const { checks } = await lab.json<{ checks: Check[] }>('connectivity', 'test');
  assert.deepEqual(
    checks.filter((each) => !each.ok),
    [],
  );
  const check = checks.find((each) => each.name === 'pod-to-ipv4-internet-ipv6');
  assert.equal(check?.expected, `internet ${publicIp()}`);
});

test('without DNS64 the name has no address that the pod has a way to', { skip }, async () => {
  const { Subnets } = await ec2.send(
    new sdk.DescribeSubnetsCommand({ Filters: [{ Name: 'enable-dns64', Values: ['true'] }] }),
  );
  const SubnetId = Subnets![0]!.SubnetId!;
  const set = (Value: boolean) =>
    ec2.send(new sdk.ModifySubnetAttributeCommand({ SubnetId, EnableDns64: { Value } }));
  await set(false);
  assertAnswer(await lab.askFrom('six', 'dns', NAME), '203.0.113.10');
  assert.match((await reached()).error ?? '', /no way to any address/);
  await set(true);
  assertAnswer(await reached(), `internet ${publicIp()}`);
});

test('the lab and its translator are killed, and it goes on', { skip }, async () => {
  const paths = labPaths(lab.name);
  const pidIn = (file: string) => (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;
  process.kill(pidIn(paths.pid), 'SIGKILL');
  // Packets go on without it; names do not.
  assertAnswer(await lab.ask('node-1', 'tcp', '64:ff9b::203.0.113.10', '8080'), `internet ${publicIp()}`);
  await lab.up();
  assertAnswer(await reached(), `internet ${publicIp()}`);
  process.kill(pidIn(join(paths.root, 'nat', gateway.NatGatewayId!, 'nat64.pid')), 'SIGKILL');
  await eventually('the translator is back', async () => (await reached()).answer !== undefined);
});

test('a deleted gateway takes the way with it, and another is made in its place', { skip }, async () => {
  const NatGatewayId = gateway.NatGatewayId!;
  await ec2.send(new sdk.DeleteNatGatewayCommand({ NatGatewayId }));
  assert.match((await reached()).error ?? '', /timed out|unreachable/i);
  await lab.up();
  const { NatGateways } = await ec2.send(
    new sdk.DescribeNatGatewaysCommand({ Filter: [{ Name: 'state', Values: ['available'] }] }),
  );
  assert.equal(NatGateways!.length, 1, 'lab up makes what is missing');
  gateway = NatGateways![0]!;
  const tables = await ec2.send(
    new sdk.DescribeRouteTablesCommand({ Filters: [{ Name: 'tag:Name', Values: ['nodes'] }] }),
  );
  await ec2.send(
    new sdk.ReplaceRouteCommand({
      RouteTableId: tables.RouteTables![0]!.RouteTableId!,
      DestinationIpv6CidrBlock: '64:ff9b::/96',
      NatGatewayId: gateway.NatGatewayId!,
    }),
  );
  await eventually('by the new gateway', async () => (await reached()).answer === `internet ${publicIp()}`);
});
