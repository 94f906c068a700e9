// EC2's codes and words for what is wrong with a request: one row for each.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fails, smallShape, testVpc } from '../testing.ts';

const CALLER = { kind: 'admin', arn: 'arn', userId: 'AIDA' } as const;

test('what is wrong, in the words of EC2', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, instanceId } = await smallShape(vpc);
  const group = (await vpc.act('CreateSecurityGroup', { GroupName: 'g', Description: 'd', VpcId: vpcId }))
    .GroupId!;
  const { SecurityGroupRules } = await vpc.act('AuthorizeSecurityGroupIngress', {
    GroupId: group,
    IpPermissions: [{ IpProtocol: '-1', IpRanges: [{ CidrIp: '10.0.0.0/8' }] }],
  });
  const rule = (SecurityGroupRule: object) => ({
    GroupId: group,
    SecurityGroupRules: [
      { SecurityGroupRuleId: SecurityGroupRules![0]!.SecurityGroupRuleId, SecurityGroupRule },
    ],
  });
  for (let i = 1; i <= 4; i++)
    await vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, CidrBlock: `10.${i}.0.0/16` });
  const table = Object.values(vpc.state().routeTables)[0]!.id;
  const rows: [string, object, string, RegExp][] = [
    [
      'DescribeVpcs',
      { VpcIds: ['example'] },
      'InvalidVpcID.Malformed',
      /Invalid id: "example" \(expecting "vpc-\.\.\."\)/,
    ],
    [
      'DescribeSubnets',
      { SubnetIds: ['subnet-xyz'] },
      'InvalidSubnetID.Malformed',
      /Invalid id: "subnet-xyz"$/,
    ],
    [
      'DescribeSubnets',
      { SubnetIds: ['example'] },
      'InvalidSubnetID.NotFound',
      /The subnet ID 'example' does not exist/,
    ],
    ['DetachNetworkInterface', { AttachmentId: 'x' }, 'InvalidNetworkInterfaceAttachmentId.Malformed', /"x"/],
    ['ReleaseAddress', { AllocationId: 'bogus' }, 'InvalidAllocationID.NotFound', /'bogus' does not exist/],
    [
      'AssociateVpcCidrBlock',
      { VpcId: vpcId, CidrBlock: '10.5.0.0/16' },
      'CidrLimitExceeded',
      /^This network vpc-\w+ has met its maximum number of allowed CIDRs: 5$/,
    ],
    [
      'ModifyInstanceAttribute',
      { InstanceId: instanceId },
      'InvalidParameterCombination',
      /^No attributes specified\.$/,
    ],
    [
      'ModifyInstanceAttribute',
      { InstanceId: instanceId, SourceDestCheck: { Value: true }, DisableApiStop: { Value: true } },
      'InvalidParameterCombination',
      /^Fields for multiple attribute types specified$/,
    ],
    ['TerminateInstances', {}, 'InvalidParameterCombination', /^No instances specified$/],
    ['StopInstances', { InstanceIds: [] }, 'InvalidParameterCombination', /^No instances specified$/],
    [
      'TerminateInstances',
      { InstanceIds: ['i-00000001', instanceId, 'i-00000002'] },
      'InvalidInstanceID.NotFound',
      /^The instance IDs 'i-00000001, i-00000002' do not exist$/,
    ],
    [
      'ModifySecurityGroupRules',
      rule({ CidrIpv4: '10.0.0.0/8' }),
      'InvalidParameterValue',
      /^Invalid value 'null' for protocol\. VPC security group rules must specify protocols explicitly\.$/,
    ],
    ['ModifySecurityGroupRules', rule({ IpProtocol: '-1' }), 'MissingParameter', /cidrIpv4/],
    [
      'ModifySecurityGroupRules',
      rule({ IpProtocol: '-1', CidrIpv4: '10.0.0.0/8', ReferencedGroupId: group }),
      'InvalidParameterCombination',
      /Only one of/,
    ],
    [
      'DescribeSecurityGroupRules',
      { Filters: [{ Name: 'group-id', Values: ['foobar'] }] },
      'InvalidGroupId.Malformed',
      /^The security group ID 'foobar' is malformed$/,
    ],
    ['CreateTags', { Tags: [{ Key: 'a' }] }, 'MissingParameter', /resourceIdSet$/],
    ['DeleteTags', { Resources: [] }, 'MissingParameter', /resourceIdSet$/],
    [
      'CreateNetworkInterface',
      { SubnetId: subnetId, Groups: ['default'] },
      'InvalidGroupId.Malformed',
      /^Invalid id: "default" \(expecting "sg-\.\.\."\)$/,
    ],
    ['DescribeSecurityGroups', { GroupNames: ['g'] }, 'VPCIdNotSpecified', /No default VPC/],
    [
      'AuthorizeSecurityGroupIngress',
      {
        GroupId: group,
        IpPermissions: [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: group, UserId: '1' }] }],
      },
      'InvalidGroup.NotFound',
      /account 1/,
    ],
    [
      'CreateRoute',
      { RouteTableId: table, DestinationCidrBlock: '10.0.1.0/24', GatewayId: 'local' },
      'InvalidParameterValue',
      /only for a CIDR of the VPC, not 10\.0\.1\.0\/24/,
    ],
    [
      'AssociateAddress',
      { AllocationId: 'eipalloc-00000000', PublicIp: '198.18.0.1' },
      'InvalidParameterCombination',
      /publicIp may not be used in combination with allocationId/,
    ],
    [
      'RunInstances',
      {
        ImageId: 'ami-1',
        InstanceType: 'm5.large',
        MinCount: 1,
        MaxCount: 1,
        SubnetId: subnetId,
        SecurityGroupIds: [group],
        SecurityGroups: ['g'],
      },
      'InvalidParameterCombination',
      /SecurityGroups .* SecurityGroupIds$/,
    ],
    [
      'AuthorizeSecurityGroupIngress',
      { GroupId: group, IpPermissions: [{ IpProtocol: '-1' }], CidrIp: '10.0.0.0/8' },
      'InvalidParameterCombination',
      /CidrIp .* IpPermissions$/,
    ],
    [
      'RevokeSecurityGroupIngress',
      { GroupId: group, SecurityGroupRuleIds: ['sgr-00000000'], IpPermissions: [{ IpProtocol: '-1' }] },
      'InvalidParameterCombination',
      /IpPermissions .* SecurityGroupRuleIds$/,
    ],
    [
      'CreateSubnet',
      {
        VpcId: vpcId,
        CidrBlock: '10.0.9.0/24',
        AvailabilityZone: 'us-west-2a',
        AvailabilityZoneId: 'usw2-az1',
      },
      'InvalidParameterCombination',
      /availabilityZoneId/,
    ],
    [
      'ReplaceRoute',
      { RouteTableId: table, DestinationCidrBlock: '10.0.0.0/16', LocalTarget: true, GatewayId: 'igw-1' },
      'InvalidParameterCombination',
      /GatewayId .* LocalTarget$/,
    ],
    ['AllocateAddress', { NetworkBorderGroup: 'us-east-1' }, 'InvalidParameterValue', /us-west-2/],
  ];
  for (const [action, input, code, message] of rows) {
    await fails(vpc.actByName(action, input, CALLER), code, message).catch((error: Error) => {
      throw new Error(`${action} ${JSON.stringify(input)}: ${error.message}`, { cause: error });
    });
  }
  const own = { GroupId: group, UserId: '123456789012' };
  await vpc.act('AuthorizeSecurityGroupIngress', {
    GroupId: group,
    IpPermissions: [{ IpProtocol: '-1', UserIdGroupPairs: [own] }],
  });
  await vpc.act('CreateRoute', {
    RouteTableId: table,
    DestinationCidrBlock: '10.0.0.0/16',
    GatewayId: 'local',
  });
  assert.equal(vpc.state().routeTables[table]!.routes.length, 5);
});
