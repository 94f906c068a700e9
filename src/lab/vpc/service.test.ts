// The service through the stock SDK over HTTP: who may ask, what is answered, what a client token and a dry run do.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as ec2 from '@aws-sdk/client-ec2';
import type { InstanceChange } from './index.ts';
import { listen, REGION, roleOf, smallShape, testVpc } from './testing.ts';

const client = (endpoint: string, credentials: object, more: object = {}) =>
  new ec2.EC2Client({
    endpoint,
    region: REGION,
    maxAttempts: 1,
    credentials: credentials as { accessKeyId: string; secretAccessKey: string },
    ...more,
  });
const failsWith = (name: string, status?: number) => (error: unknown) => {
  assert.ok(error instanceof ec2.EC2ServiceException, String(error));
  assert.equal(error.name, name);
  if (status !== undefined) assert.equal(error.$metadata.httpStatusCode, status);
  assert.match(error.$metadata.requestId ?? '', /^[0-9a-f-]{36}$/);
  return true;
};

test('an allocator goes through the life of an interface with the stock SDK', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const { subnetId, instanceId } = await smallShape(lab.vpc);
  const sdk = client(server.url, lab.vpc.keys());

  const made = await sdk.send(
    new ec2.CreateNetworkInterfaceCommand({
      SubnetId: subnetId,
      Description: 'a <b> & "c"',
      SecondaryPrivateIpAddressCount: 2,
      TagSpecifications: [{ ResourceType: 'network-interface', Tags: [{ Key: 'cluster', Value: 'x' }] }],
    }),
  );
  assert.equal(made.NetworkInterface?.Status as string, 'pending');
  const id = made.NetworkInterface!.NetworkInterfaceId!;
  const describe = async () =>
    (await sdk.send(new ec2.DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] })))
      .NetworkInterfaces![0]!;
  const available = await describe();
  assert.equal(available.Status, 'available');
  assert.equal(available.Description, 'a <b> & "c"');
  assert.deepEqual(available.TagSet, [{ Key: 'cluster', Value: 'x' }]);
  assert.equal(available.PrivateIpAddresses?.length, 3);
  assert.match(available.RequesterId ?? '', /^AIDA/);

  const { AttachmentId } = await sdk.send(
    new ec2.AttachNetworkInterfaceCommand({ NetworkInterfaceId: id, InstanceId: instanceId, DeviceIndex: 1 }),
  );
  const attached = await describe();
  assert.equal(attached.Status, 'in-use');
  assert.equal(attached.Attachment?.Status, 'attached');
  assert.equal(attached.Attachment?.DeleteOnTermination, false);
  await sdk.send(
    new ec2.ModifyNetworkInterfaceAttributeCommand({
      NetworkInterfaceId: id,
      Attachment: { AttachmentId, DeleteOnTermination: true },
    }),
  );
  assert.equal((await describe()).Attachment?.DeleteOnTermination, true);

  const assigned = await sdk.send(
    new ec2.AssignPrivateIpAddressesCommand({ NetworkInterfaceId: id, SecondaryPrivateIpAddressCount: 7 }),
  );
  assert.equal(assigned.AssignedPrivateIpAddresses?.length, 7);
  await assert.rejects(
    sdk.send(
      new ec2.AssignPrivateIpAddressesCommand({ NetworkInterfaceId: id, SecondaryPrivateIpAddressCount: 1 }),
    ),
    failsWith('PrivateIpAddressLimitExceeded', 400),
  );
  await assert.rejects(
    sdk.send(new ec2.DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id })),
    failsWith('InvalidParameterValue', 400),
  );
  const gone = assigned.AssignedPrivateIpAddresses!.map((one) => one.PrivateIpAddress!);
  await sdk.send(
    new ec2.UnassignPrivateIpAddressesCommand({ NetworkInterfaceId: id, PrivateIpAddresses: gone }),
  );
  assert.deepEqual(
    (await describe()).PrivateIpAddresses?.map((one) => one.PrivateIpAddress),
    available.PrivateIpAddresses?.map((one) => one.PrivateIpAddress),
  );
  await sdk.send(new ec2.DetachNetworkInterfaceCommand({ AttachmentId: AttachmentId! }));
  await sdk.send(new ec2.DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }));
  await assert.rejects(describe(), failsWith('InvalidNetworkInterfaceID.NotFound', 400));
});

test('who is not who they say gets nothing, and a role what its list allows', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const { instanceId, subnetId } = await smallShape(lab.vpc);
  const keys = lab.vpc.keys();
  const read = (sdk: ec2.EC2Client) => sdk.send(new ec2.DescribeVpcsCommand({}));
  await assert.rejects(
    read(client(server.url, { ...keys, secretAccessKey: 'wrong' })),
    failsWith('AuthFailure', 401),
  );
  await assert.rejects(
    read(client(server.url, { ...keys, accessKeyId: 'AKIANOBODY' })),
    failsWith('AuthFailure', 401),
  );
  await assert.rejects(
    read(client(server.url, keys, { region: 'eu-west-1' })),
    failsWith('AuthFailure', 401),
  );
  await assert.rejects(
    read(client(server.url, keys, { systemClockOffset: -600_000 })),
    failsWith('RequestExpired', 400),
  );
  assert.equal((await fetch(`${server.url}/?Action=DescribeVpcs`)).status, 401);

  const role = await roleOf(lab.vpc, instanceId);
  const node = client(server.url, role);
  await read(node);
  const { NetworkInterface } = await node.send(new ec2.CreateNetworkInterfaceCommand({ SubnetId: subnetId }));
  assert.match(NetworkInterface?.RequesterId ?? '', new RegExp(`^AROA[A-Z2-7]{16}:${instanceId}$`));
  await assert.rejects(
    node.send(new ec2.CreateVpcCommand({ CidrBlock: '10.9.0.0/16' })),
    failsWith('UnauthorizedOperation', 403),
  );
  lab.vpc.settings.roleActions = [];
  await assert.rejects(read(node), failsWith('UnauthorizedOperation', 403));
  lab.vpc.settings.roleActions = 'all';
  await node.send(new ec2.CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }));

  await assert.rejects(
    read(client(server.url, { ...role, sessionToken: `${role.sessionToken}A` })),
    failsWith('AuthFailure', 401),
  );
  await assert.rejects(
    read(client(server.url, { ...role, sessionToken: undefined })),
    failsWith('AuthFailure', 401),
  );
  await lab.vpc.act('TerminateInstances', { InstanceIds: [instanceId] });
  await assert.rejects(read(node), failsWith('AuthFailure', 401));
});

test("a role's credentials end", async () => {
  let now = Date.now();
  const clock = {
    now: () => now,
    sleep: (_ms: number, signal?: AbortSignal) =>
      new Promise<void>((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
  };
  await using lab = testVpc({ clock, settings: { roleCredentialsMs: 3_600_000 } });
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const { instanceId } = await smallShape(lab.vpc);
  const role = await roleOf(lab.vpc, instanceId);
  const read = () =>
    client(server.url, role, { systemClockOffset: now - Date.now() }).send(new ec2.DescribeVpcsCommand({}));
  await read();
  now += 3_600_000;
  await assert.rejects(read(), failsWith('RequestExpired', 400));
  assert.notEqual((await roleOf(lab.vpc, instanceId)).sessionToken, role.sessionToken);
});

test('actions without meaning and actions that do not exist say so', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const sdk = client(server.url, lab.vpc.keys());
  await assert.rejects(
    sdk.send(new ec2.CreateVpcPeeringConnectionCommand({ VpcId: 'vpc-1' })),
    (error: Error) => {
      assert.match(error.message, /CreateVpcPeeringConnection/);
      return failsWith('UnsupportedOperation', 400)(error);
    },
  );
  await assert.rejects(lab.vpc.act('NoSuchAction' as 'DescribeVpcs', {}), { code: 'UnsupportedOperation' });
});

test('a dry run changes nothing and says that it would have', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const before = lab.vpc.state();
  const sdk = client(server.url, lab.vpc.keys());
  await assert.rejects(
    sdk.send(new ec2.CreateVpcCommand({ CidrBlock: '10.0.0.0/16', DryRun: true })),
    failsWith('DryRunOperation', 412),
  );
  await assert.rejects(
    sdk.send(new ec2.CreateVpcCommand({ CidrBlock: '10.0.0.0/8', DryRun: true })),
    failsWith('InvalidVpc.Range'),
  );
  assert.equal(lab.vpc.state(), before);
});

test('a client token makes a request once, also over a restart', async () => {
  await using lab = testVpc();
  const { subnetId } = await smallShape(lab.vpc);
  const input = { SubnetId: subnetId, ClientToken: 'once' };
  const first = await lab.vpc.act('CreateNetworkInterface', input);
  const count = Object.keys(lab.vpc.state().networkInterfaces).length;
  assert.deepEqual(await lab.vpc.act('CreateNetworkInterface', input), first);
  assert.deepEqual(await lab.reopen().act('CreateNetworkInterface', input), first);
  assert.equal(Object.keys(lab.vpc.state().networkInterfaces).length, count);
  await assert.rejects(lab.vpc.act('CreateNetworkInterface', { ...input, Description: 'other' }), {
    code: 'IdempotentParameterMismatch',
  });
  // A request that failed has not used its token.
  const late = { SubnetId: subnetId, ClientToken: 'late', Groups: ['sg-00000000'] };
  await assert.rejects(lab.vpc.act('CreateNetworkInterface', late), { code: 'InvalidGroup.NotFound' });
  await lab.vpc.act('CreateNetworkInterface', { SubnetId: subnetId, ClientToken: 'late' });
});

test('a body beyond the bound is refused before it is read', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const response = await fetch(server.url, { method: 'POST', body: 'x'.repeat(1_100_000) }).catch(
    (error: Error) => error,
  );
  // A client that is still sending may see the connection end instead of the answer.
  if (response instanceof Response) assert.equal(response.status, 413);
});

test('changes are told in order, before the answer; a fabric that fails makes an error', async () => {
  await using lab = testVpc();
  const told: string[] = [];
  lab.vpc.onChange(async (state) => {
    await new Promise((resolve) => setImmediate(resolve));
    told.push(`state ${Object.values(state.instances).map((instance) => instance.state)}`);
  });
  lab.vpc.onInstanceChange(
    ({ before, after }: InstanceChange) =>
      void told.push(`${before?.state ?? 'none'} to ${after?.state ?? 'none'}`),
  );
  const { instanceId } = await smallShape(lab.vpc);
  assert.deepEqual(told.slice(-2), ['state running', 'none to running']);
  told.length = 0;
  await lab.vpc.act('RebootInstances', { InstanceIds: [instanceId] });
  await lab.vpc.act('StopInstances', { InstanceIds: [instanceId] });
  await lab.vpc.act('StartInstances', { InstanceIds: [instanceId] });
  await lab.vpc.act('DescribeInstances', {});
  assert.deepEqual(told, [
    'running to running',
    'state running',
    'running to stopped',
    'state stopped',
    'state running',
    'stopped to running',
  ]);
  lab.vpc.onChange(() => Promise.reject(new Error('no netns')));
  await assert.rejects(lab.vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' }), /no netns/);
});

test('keys and state are for their owner alone', async () => {
  await using lab = testVpc();
  for (const file of ['keys.json', 'vpc.sqlite'])
    assert.equal(statSync(join(lab.dir, file)).mode & 0o777, 0o600, file);
  const keys = lab.vpc.keys();
  assert.match(keys.accessKeyId, /^AKIA[A-Z2-7]{16}$/);
  assert.equal(keys.secretAccessKey.length, 40);
  assert.deepEqual(lab.reopen().keys(), keys);
});
