// Branches on a trunk: what is asked of both, what each describe says, and how an association ends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VpcService } from '../index.ts';
import { attach, fails, listen, newEni, smallShape, testVpc } from '../testing.ts';

/** An m5.large with a trunk at device 1. */
async function withTrunk(vpc: VpcService) {
  const shape = await smallShape(vpc);
  const trunk = await newEni(vpc, shape.subnetId, { InterfaceType: 'trunk' });
  await attach(vpc, trunk, shape.instanceId, 1);
  return { ...shape, trunk };
}

const associate = async (vpc: VpcService, branch: string, trunk: string, VlanId: number) =>
  (await vpc.act('AssociateTrunkInterface', { BranchInterfaceId: branch, TrunkInterfaceId: trunk, VlanId }))
    .InterfaceAssociation!;
const described = async (vpc: VpcService, id: string) =>
  (await vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [id] })).NetworkInterfaces![0]!;

test('an interface on a trunk is a branch in use, without an attachment, and another interface after that', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId, trunk } = await withTrunk(vpc);
  const branch = await newEni(vpc, subnetId);
  const made = await associate(vpc, branch, trunk, 7);
  assert.match(made.AssociationId!, /^trunk-assoc-0[0-9a-f]{16}$/);
  const { AssociationId: _, ...rest } = made;
  assert.deepEqual(rest, {
    BranchInterfaceId: branch,
    TrunkInterfaceId: trunk,
    InterfaceProtocol: 'VLAN',
    VlanId: 7,
  });
  const seen = await described(vpc, branch);
  assert.deepEqual([seen.InterfaceType, seen.Status, seen.Attachment], ['branch', 'in-use', undefined]);
  const ofType = await vpc.act('DescribeNetworkInterfaces', {
    Filters: [{ Name: 'interface-type', Values: ['branch'] }],
  });
  assert.deepEqual(
    ofType.NetworkInterfaces!.map((eni) => eni.NetworkInterfaceId),
    [branch],
  );
  const all = await vpc.act('DescribeTrunkInterfaceAssociations', {
    Filters: [{ Name: 'interface-protocol', Values: ['VLAN'] }],
  });
  assert.deepEqual(all.InterfaceAssociations, [made]);
  const gre = await vpc.act('DescribeTrunkInterfaceAssociations', {
    AssociationIds: [made.AssociationId!],
    Filters: [{ Name: 'gre-key', Values: ['1'] }],
  });
  assert.deepEqual(gre.InterfaceAssociations, []);
  // The instance has its primary interface and the trunk; its branches are nobody's business there.
  const { Reservations } = await vpc.act('DescribeInstances', { InstanceIds: [instanceId] });
  assert.deepEqual(
    Reservations![0]!.Instances![0]!.NetworkInterfaces!.map((eni) => eni.InterfaceType),
    ['interface', 'trunk'],
  );
  assert.deepEqual(lab.reopen().state().trunkAssociations, vpc.state().trunkAssociations);
  const after = lab.vpc;
  assert.deepEqual(await after.act('DisassociateTrunkInterface', { AssociationId: made.AssociationId! }), {
    Return: true,
  });
  const free = await described(after, branch);
  assert.deepEqual([free.InterfaceType, free.Status], ['interface', 'available']);
  await fails(
    after.act('DisassociateTrunkInterface', { AssociationId: made.AssociationId! }),
    'InvalidTrunkInterfaceAssociationId.NotFound',
  );
});

test('what EC2 refuses: the wrong type, place, VLAN id or number of branches', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, otherSubnetId, instanceId, trunk } = await withTrunk(vpc);
  const first = await newEni(vpc, subnetId);
  await associate(vpc, first, trunk, 1);
  const second = await newEni(vpc, subnetId);
  await fails(associate(vpc, second, trunk, 1), 'InvalidParameterValue', new RegExp(`VLAN ID 1 .*${first}`));
  await fails(associate(vpc, second, trunk, 0), 'InvalidParameterValue', /between 1 and 4094/);
  await fails(associate(vpc, second, trunk, 4095), 'InvalidParameterValue', /between 1 and 4094/);
  await fails(
    vpc.act('AssociateTrunkInterface', { BranchInterfaceId: second, TrunkInterfaceId: trunk }),
    'MissingParameter',
    /vlanId/,
  );
  await fails(
    vpc.act('AssociateTrunkInterface', { BranchInterfaceId: second, TrunkInterfaceId: trunk, GreKey: 3 }),
    'UnsupportedOperation',
    /GreKey/,
  );
  await fails(associate(vpc, second, 'eni-0123456789abcdef0', 2), 'InvalidNetworkInterfaceID.NotFound');
  await fails(associate(vpc, first, trunk, 2), 'InvalidNetworkInterface.InUse');
  await fails(associate(vpc, second, first, 2), 'InvalidParameterValue', /is not a trunk/);
  const free = await newEni(vpc, subnetId, { InterfaceType: 'trunk' });
  await fails(associate(vpc, second, free, 2), 'IncorrectState', /not attached/);
  await fails(associate(vpc, free, trunk, 2), 'InvalidParameterValue', /type trunk cannot be a branch/);
  const far = await newEni(vpc, otherSubnetId);
  await fails(associate(vpc, far, trunk, 2), 'InvalidParameterCombination', /availability zone/);
  await fails(attach(vpc, first, instanceId, 2), 'InvalidNetworkInterface.InUse');
  // data/instance-limits.json: an m5.large has nine.
  for (let vlan = 2; vlan <= 9; vlan++) await associate(vpc, await newEni(vpc, subnetId), trunk, vlan);
  await fails(associate(vpc, second, trunk, 10), 'AttachmentLimitExceeded', /count 10 .*m5\.large \(9\)/);
  assert.equal(Object.keys(vpc.state().trunkAssociations).length, 9);
});

test('a branch may be deleted as it hangs; a trunk that goes sets its branches free', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId, trunk } = await withTrunk(vpc);
  const [one, two] = [await newEni(vpc, subnetId), await newEni(vpc, subnetId)];
  await associate(vpc, one, trunk, 1);
  await associate(vpc, two, trunk, 2);
  await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: one });
  assert.deepEqual(
    Object.values(vpc.state().trunkAssociations).map((row) => row.branchInterfaceId),
    [two],
  );
  const AttachmentId = (await described(vpc, trunk)).Attachment!.AttachmentId!;
  await vpc.act('ModifyNetworkInterfaceAttribute', {
    NetworkInterfaceId: trunk,
    Attachment: { AttachmentId, DeleteOnTermination: true },
  });
  await vpc.act('TerminateInstances', { InstanceIds: [instanceId] });
  assert.deepEqual(vpc.state().trunkAssociations, {});
  const left = await described(vpc, two);
  assert.deepEqual([left.Status, left.InterfaceType], ['available', 'interface']);
});

test('an instance with branches takes no type that carries fewer', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId, trunk } = await withTrunk(vpc);
  for (let vlan = 1; vlan <= 9; vlan++) await associate(vpc, await newEni(vpc, subnetId), trunk, vlan);
  await vpc.act('StopInstances', { InstanceIds: [instanceId] });
  const become = (Value: string) =>
    vpc.act('ModifyInstanceAttribute', { InstanceId: instanceId, InstanceType: { Value } });
  await fails(become('t3.large'), 'InvalidParameterCombination', /t3\.large .*not support trunk/);
  await become('m5.xlarge');
});

test('the metadata service shows the trunk as an interface, and no branch', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId, trunk } = await withTrunk(vpc);
  const branch = await newEni(vpc, subnetId);
  await associate(vpc, branch, trunk, 3);
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  await using imds = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const macs = await (await fetch(`${imds.url}/latest/meta-data/network/interfaces/macs/`)).text();
  const { [trunk]: shown, [branch]: hidden } = vpc.state().networkInterfaces;
  assert.ok(macs.includes(shown!.mac) && !macs.includes(hidden!.mac), macs);
  const type = await fetch(`${imds.url}/latest/meta-data/network/interfaces/macs/${shown!.mac}/interface-id`);
  assert.equal(await type.text(), trunk);
});

test('a permission is kept, told, refused twice, and ends with its interface', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const eni = await newEni(vpc, subnetId);
  const permit = (more: object = {}) =>
    vpc.act('CreateNetworkInterfacePermission', {
      NetworkInterfaceId: eni,
      AwsAccountId: '210987654321',
      Permission: 'INSTANCE-ATTACH',
      ...more,
    });
  const { InterfacePermission: made } = await permit();
  assert.match(made!.NetworkInterfacePermissionId!, /^eni-perm-0[0-9a-f]{16}$/);
  assert.deepEqual(made!.PermissionState, { State: 'granted' });
  await fails(permit(), 'InvalidPermission.Duplicate');
  await fails(permit({ AwsAccountId: 'me' }), 'InvalidParameterValue', /12 digits/);
  await fails(permit({ AwsAccountId: undefined }), 'MissingParameter', /awsAccountId/);
  await fails(permit({ Permission: 'ALL' }), 'InvalidParameterValue', /ALL/);
  await permit({ Permission: 'EIP-ASSOCIATE' });
  const of = async (Name: string, value: string) =>
    (
      await vpc.act('DescribeNetworkInterfacePermissions', {
        Filters: [{ Name: `network-interface-permission.${Name}`, Values: [value] }],
      })
    ).NetworkInterfacePermissions!.length;
  assert.deepEqual(
    [
      await of('network-interface-id', eni),
      await of('permission', 'EIP-ASSOCIATE'),
      await of('aws-service', 'x'),
    ],
    [2, 1, 0],
  );
  const id = made!.NetworkInterfacePermissionId!;
  await vpc.act('DeleteNetworkInterfacePermission', { NetworkInterfacePermissionId: id });
  await fails(
    vpc.act('DeleteNetworkInterfacePermission', { NetworkInterfacePermissionId: id }),
    'InvalidPermissionID.NotFound',
  );
  await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  assert.deepEqual(vpc.state().interfacePermissions, {});
});
