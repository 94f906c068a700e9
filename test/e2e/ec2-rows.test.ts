// Where clients of EC2 once were answered otherwise than by EC2: a row for each, asked of a lab by the stock SDK, and
// what a lab says to the other services that AWS_ENDPOINT_URL sends there.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { signPost } from '../../src/cloud/sigv4.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('rows');
let ec2: sdk.EC2Client;
let ids: { vpcId: string; subnetId: string; tableId: string; instanceId: string; groupId: string };

before(async () => {
  if (skip) return;
  await lab.up('--nodes', '1');
  ec2 = await lab.ec2();
  const instance = ((await ask('DescribeInstances')) as sdk.DescribeInstancesResult).Reservations![0]!
    .Instances![0]!;
  const tables = (await ask('DescribeRouteTables')) as sdk.DescribeRouteTablesResult;
  ids = {
    vpcId: instance.VpcId!,
    subnetId: instance.SubnetId!,
    instanceId: instance.InstanceId!,
    groupId: instance.SecurityGroups![0]!.GroupId!,
    tableId: tables.RouteTables![0]!.RouteTableId!,
  };
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

/** An action by its name: the SDK exports a command for each. */
function ask(action: string, input: object = {}): Promise<object> {
  const Command = (sdk as unknown as Record<string, new (input: object) => sdk.DescribeVpcsCommand>)[
    `${action}Command`
  ]!;
  return ec2.send(new Command(input));
}

/** `Code: message` of the refusal, or the answer as JSON. */
async function said(action: string, input: object): Promise<string> {
  try {
    const { $metadata: _, ...answer } = (await ask(action, input)) as { $metadata?: unknown };
    return JSON.stringify(answer);
  } catch (error) {
    assert.ok(error instanceof sdk.EC2ServiceException, String(error));
    return `${error.name}: ${error.message}`;
  }
}

type Row = [what: string, action: string, input: () => object, expected: RegExp];
const refused = (action: string, parameter: string) =>
  new RegExp(`^UnsupportedOperation: ${action} with ${parameter} has no meaning in this VPC`);
const launch = (more: object) => () => ({
  ImageId: 'ami-0123456789abcdef0',
  InstanceType: 't3.small',
  MinCount: 1,
  MaxCount: 1,
  SubnetId: ids.subnetId,
  ...more,
});
const filter =
  (Name: string, ...Values: string[]) =>
  () => ({ Filters: [{ Name, Values }] });

const rows: Row[] = [
  [
    'IPv6 of a VPC',
    'CreateVpc',
    () => ({ CidrBlock: '10.77.0.0/16', AmazonProvidedIpv6CidrBlock: true }),
    /"Ipv6CidrBlock":"[0-9a-f:]+\/56"/,
  ],
  [
    'tenancy of a VPC',
    'CreateVpc',
    () => ({ CidrBlock: '10.77.0.0/16', InstanceTenancy: 'dedicated' }),
    refused('CreateVpc', 'InstanceTenancy=dedicated'),
  ],
  [
    'a subnet of IPv6 alone outside the VPC',
    'CreateSubnet',
    () => ({ VpcId: ids.vpcId, Ipv6Native: true, Ipv6CidrBlock: '2001:db8::/64' }),
    /^InvalidSubnet\.Range/,
  ],
  [
    'metrics of a VPC',
    'ModifyVpcAttribute',
    () => ({ VpcId: ids.vpcId, EnableNetworkAddressUsageMetrics: { Value: true } }),
    refused('ModifyVpcAttribute', 'EnableNetworkAddressUsageMetrics'),
  ],
  [
    'both DNS attributes at once',
    'ModifyVpcAttribute',
    () => ({ VpcId: ids.vpcId, EnableDnsSupport: { Value: true }, EnableDnsHostnames: { Value: true } }),
    /^InvalidParameterCombination/,
  ],
  [
    'a Spot instance',
    'RunInstances',
    launch({ InstanceMarketOptions: { MarketType: 'spot' } }),
    refused('RunInstances', 'InstanceMarketOptions'),
  ],
  [
    'volumes',
    'RunInstances',
    launch({ BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { VolumeSize: 20 } }] }),
    refused('RunInstances', 'BlockDeviceMappings'),
  ],
  [
    'a dedicated host',
    'RunInstances',
    launch({ Placement: { Tenancy: 'host' } }),
    refused('RunInstances', 'Placement\\.Tenancy=host'),
  ],
  [
    'the instance profile of the lab',
    'RunInstances',
    launch({ IamInstanceProfile: { Name: 'podway-node' }, DryRun: true }),
    /^DryRunOperation/,
  ],
  [
    'another instance profile',
    'RunInstances',
    launch({ IamInstanceProfile: { Name: 'other' } }),
    /^InvalidParameterValue: .*iamInstanceProfile\.name/,
  ],
  ['a key pair', 'RunInstances', launch({ KeyName: 'mine' }), /^InvalidKeyPair\.NotFound/],
  [
    'an IPv6 route to no gateway',
    'CreateRoute',
    () => ({ RouteTableId: ids.tableId, DestinationIpv6CidrBlock: '::/0', GatewayId: 'igw-1' }),
    /^InvalidGatewayID\.NotFound/,
  ],
  [
    'a table of a gateway',
    'AssociateRouteTable',
    () => ({ RouteTableId: ids.tableId, GatewayId: 'igw-00000000' }),
    refused('AssociateRouteTable', 'GatewayId'),
  ],
  [
    'an IPv6 block',
    'AssociateVpcCidrBlock',
    () => ({ VpcId: ids.vpcId, AmazonProvidedIpv6CidrBlock: true }),
    /"Ipv6CidrBlock":"[0-9a-f:]+\/56"/,
  ],
  [
    "a filter on interfaces' addresses",
    'DescribeInstances',
    filter('network-interface.private-ip-address', '10.9.9.9'),
    /^\{"Reservations":\[\]\}$/,
  ],
  ['a filter on reasons', 'DescribeInstances', filter('state-reason-code', 'x'), /^\{"Reservations":\[\]\}$/],
  [
    'a filter on groups of rules',
    'DescribeSecurityGroups',
    filter('egress.ip-permission.group-name', 'x'),
    /^\{"SecurityGroups":\[\]\}$/,
  ],
  [
    'a filter on NAT gateways',
    'DescribeRouteTables',
    filter('route.nat-gateway-id', 'x'),
    /"RouteTables":\[\]/,
  ],
  [
    'a filter on vCPUs',
    'DescribeInstanceTypes',
    () => ({ ...filter('vcpu-info.default-vcpus', '2')(), InstanceTypes: ['m5.large', 'm5.xlarge'] }),
    /"DefaultVCpus":2.*"SizeInMiB":8192/,
  ],
  [
    '101 instance types',
    'DescribeInstanceTypes',
    () => ({ MaxResults: 101 }),
    /^InvalidParameterValue.*5 and 100/,
  ],
  [
    'an old instance type',
    'DescribeInstanceTypes',
    () => ({ InstanceTypes: ['t1.micro'] }),
    /"CurrentGeneration":false/,
  ],
  ...['kernel', 'blockDeviceMapping', 'disableApiStop'].map(
    (Attribute): Row => [
      `the attribute ${Attribute}`,
      'DescribeInstanceAttribute',
      () => ({ InstanceId: ids.instanceId, Attribute }),
      /"InstanceId":"i-/,
    ],
  ),
  [
    'a malformed VPC id',
    'DescribeVpcs',
    () => ({ VpcIds: ['x'] }),
    /^InvalidVpcID\.Malformed: Invalid id: "x"/,
  ],
  [
    'a subnet of any name',
    'DescribeSubnets',
    () => ({ SubnetIds: ['example'] }),
    /^InvalidSubnetID\.NotFound/,
  ],
  [
    'a malformed attachment id',
    'DetachNetworkInterface',
    () => ({ AttachmentId: 'x' }),
    /^InvalidNetworkInterfaceAttachmentId\.Malformed/,
  ],
  [
    'a bogus allocation',
    'ReleaseAddress',
    () => ({ AllocationId: 'bogus' }),
    /^InvalidAllocationID\.NotFound/,
  ],
  [
    'no instances',
    'TerminateInstances',
    () => ({ InstanceIds: [] }),
    /^InvalidParameterCombination: No instances specified$/,
  ],
  [
    'two unknown instances',
    'TerminateInstances',
    () => ({ InstanceIds: ['i-00000001', 'i-00000002'] }),
    /^InvalidInstanceID\.NotFound: The instance IDs 'i-00000001, i-00000002' do not exist$/,
  ],
  [
    'rules of a malformed group',
    'DescribeSecurityGroupRules',
    filter('group-id', 'foobar'),
    /^InvalidGroupId\.Malformed: The security group ID 'foobar' is malformed$/,
  ],
  ['tags of nothing', 'CreateTags', () => ({ Tags: [{ Key: 'a' }] }), /^MissingParameter: .*resourceIdSet/],
  [
    'a group by its name on an interface',
    'CreateNetworkInterface',
    () => ({ SubnetId: ids.subnetId, Groups: ['default'] }),
    /^InvalidGroupId\.Malformed: Invalid id: "default" \(expecting "sg-\.\.\."\)$/,
  ],
  [
    'a dry run of what only a stopped instance takes',
    'ModifyInstanceAttribute',
    () => ({ InstanceId: ids.instanceId, InstanceType: { Value: 'm5.xlarge' }, DryRun: true }),
    /^DryRunOperation/,
  ],
  [
    'a local route that is too narrow',
    'CreateRoute',
    () => ({ RouteTableId: ids.tableId, DestinationCidrBlock: '10.0.0.0/26', GatewayId: 'local' }),
    /^InvalidParameterValue/,
  ],
  [
    'an image',
    'DescribeImages',
    () => ({ ImageIds: ['ami-0123456789abcdef0'] }),
    /"ImageId":"ami-0123456789abcdef0".*"State":"available"|"State":"available".*"ami-0123456789abcdef0"/,
  ],
  ['key pairs', 'DescribeKeyPairs', () => ({}), /^\{"KeyPairs":\[\]\}$/],
  ['volumes that are none', 'DescribeVolumes', () => ({}), /^\{"Volumes":\[\]\}$/],
  [
    "a subnet's network ACL",
    'DescribeNetworkAcls',
    () => filter('association.subnet-id', ids.subnetId)(),
    /"IsDefault":true/,
  ],
  [
    'where a type is offered',
    'DescribeInstanceTypeOfferings',
    () => ({ LocationType: 'availability-zone', ...filter('instance-type', 'm5.large')() }),
    /"InstanceType":"m5\.large","LocationType":"availability-zone"/,
  ],
];

test('each row is answered as EC2 answers it', { skip }, async (t) => {
  for (const [what, action, input, expected] of rows) {
    await t.test(`${what}: ${action}`, async () => assert.match(await said(action, input()), expected));
  }
});

test('sts says who one is, and another service that it is not there', { skip }, async () => {
  const env = await lab.env();
  const url = env['AWS_ENDPOINT_URL']!;
  const send = async (service: string, body: string) => {
    const headers = signPost({
      service,
      region: env['AWS_REGION']!,
      credentials: {
        accessKeyId: env['AWS_ACCESS_KEY_ID']!,
        secretAccessKey: env['AWS_SECRET_ACCESS_KEY']!,
      },
      host: new URL(url).host,
      contentType: 'application/x-www-form-urlencoded',
      body,
      date: new Date(),
    });
    return (await fetch(url, { method: 'POST', headers, body })).text();
  };
  assert.match(
    await send('sts', 'Action=GetCallerIdentity&Version=2011-06-15'),
    /<Arn>arn:aws:iam::123456789012:user\/podway<\/Arn>/,
  );
  assert.match(await send('iam', 'Action=ListRoles&Version=2010-05-08'), /no service &apos;iam&apos;/);
});

test("cloud-init's version of the metadata, and lists as AWS writes them", { skip }, async () => {
  const node = (await lab.status()).nodes[0]!.name;
  const script = `
    t=$(curl -sX PUT -H 'x-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    for path in / /latest/ /2009-04-04/meta-data/instance-id; do
      curl -s -H "x-aws-ec2-metadata-token: $t" "http://169.254.169.254$path" | tr '\\n' ' '; echo
    done`;
  const text = await lab.ok('lab', 'exec', node, '--', 'sh', '-c', script);
  const [versions, latest, id] = text.split('\n').map((line) => line.trim());
  assert.match(versions!, /^1\.0 2007-01-19 .* 2009-04-04 .* latest$/);
  assert.equal(latest, 'dynamic meta-data');
  assert.equal(id, ids.instanceId);
});
