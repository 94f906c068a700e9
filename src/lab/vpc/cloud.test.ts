// The allocator's own client against this VPC, as an instance: identity and credentials from IMDS, calls over HTTP.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp } from '../../base/ip.ts';
import { defaultCredentials, fixedCredentials } from '../../cloud/credentials.ts';
import { createEc2Cloud } from '../../cloud/ec2.ts';
import { createImds } from '../../cloud/imds.ts';
import { listen, REGION, smallShape, testVpc } from './testing.ts';

test('an instance finds itself, grows by an interface and gives it back', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId, subnetId } = await smallShape(vpc);
  await using api = await listen((request, response) => void vpc.ec2Handler(request, response));
  await using metadata = await listen((request, response) =>
    vpc.imdsHandler(request, response, { instanceId }),
  );
  const imds = createImds({ endpoint: metadata.url });
  const me = await imds.identity();
  const state = vpc.state();
  assert.equal(me.instanceId, instanceId);
  assert.equal(me.region, REGION);
  const primary = state.networkInterfaces[me.primary.eniId]!;
  assert.deepEqual([me.primary.mac, formatIp(me.primary.ip)], [primary.mac, primary.privateIps[0]]);
  assert.equal((await imds.vpcCidrs(me.primary.mac)).length, 1);

  const cloud = createEc2Cloud({
    region: REGION,
    endpoint: api.url,
    credentials: defaultCredentials({ imds, env: {} }),
  });
  const made = await cloud.createNetworkInterface({
    subnetId,
    groupIds: primary.groupIds,
    description: 'pods',
    secondaryCount: 4,
    tags: { cluster: 'x' },
    clientToken: 'token-1',
  });
  assert.equal(made.addresses.length, 5);
  const attachmentId = await cloud.attachNetworkInterface({
    eniId: made.id,
    instanceId,
    deviceIndex: 1,
    networkCard: 0,
  });
  await cloud.setDeleteOnTermination(made.id, attachmentId);
  const ips = await cloud.assignPrivateIps(made.id, 5);
  assert.equal(ips.length, 5);
  await assert.rejects(cloud.assignPrivateIps(made.id, 1), { code: 'ADDRESS_LIMIT' });
  const [seen] = await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [made.id] });
  assert.deepEqual(
    [seen!.attachment!.deleteOnTermination, seen!.addresses.length, seen!.tags['cluster']],
    [true, 10, 'x'],
  );
  assert.deepEqual(
    (await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId })).map((eni) => eni.id).sort(),
    [me.primary.eniId, made.id].sort(),
  );
  assert.equal((await cloud.describeInstanceType('m5.large')).ipv4PerEni, 10);
  assert.equal((await cloud.describeSubnets([subnetId]))[0]!.availableIps, 251 - 11);
  await cloud.unassign(made.id, { ips, prefixes: [] });
  await cloud.detachNetworkInterface(attachmentId);
  await cloud.deleteNetworkInterface(made.id);
  await assert.rejects(cloud.describeNetworkInterfaces({ kind: 'ids', ids: [made.id] }), /does not exist/);
});

test('the client makes a trunk and a branch, and parts them again', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId, subnetId } = await smallShape(vpc);
  await using api = await listen((request, response) => void vpc.ec2Handler(request, response));
  const cloud = createEc2Cloud({
    region: REGION,
    endpoint: api.url,
    credentials: fixedCredentials(vpc.keys()),
  });
  await cloud.probeTrunking();
  const [primary] = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
  const make = (clientToken: string, more: { interfaceType?: 'trunk' } = {}) =>
    cloud.createNetworkInterface({
      subnetId,
      groupIds: primary!.groupIds,
      description: '',
      secondaryCount: 0,
      tags: { made: 'x' },
      clientToken,
      ...more,
    });
  const trunk = await make('trunk', { interfaceType: 'trunk' });
  assert.equal(trunk.interfaceType, 'trunk');
  const branch = await make('branch');
  const named = { trunkId: trunk.id, branchId: branch.id, vlanId: 7 };
  await assert.rejects(cloud.associateTrunk({ ...named, clientToken: 'a' }), { ec2Code: 'IncorrectState' });
  await cloud.attachNetworkInterface({ eniId: trunk.id, instanceId, deviceIndex: 2, networkCard: 0 });
  const id = await cloud.associateTrunk({ ...named, clientToken: 'a' });
  assert.deepEqual(await cloud.describeTrunkAssociations(), [{ id, ...named }]);
  const [seen] = await cloud
    .describeNetworkInterfaces({ kind: 'tags', tags: { made: 'x' } })
    .then((all) => all.filter((eni) => eni.id === branch.id));
  assert.deepEqual([seen!.interfaceType, seen!.status, seen!.attachment], ['branch', 'in-use', null]);
  await assert.rejects(cloud.associateTrunk({ ...named, clientToken: 'b' }), {
    ec2Code: 'InvalidParameterValue',
  });
  await cloud.disassociateTrunk(id);
  await assert.rejects(cloud.disassociateTrunk(id), /NotFound/);
  await cloud.deleteNetworkInterface(branch.id);
  assert.deepEqual(await cloud.describeTrunkAssociations(), []);
});
