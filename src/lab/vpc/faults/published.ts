// EC2's request limits as AWS publishes them: which bucket a request takes a token from, and its size. Each action has a
// bucket of its own per account and region. Source: EC2 Developer Guide, "Request throttling for the Amazon EC2 API".
import type { Rate } from './bucket.ts';

const rate = (burst: number, perSecond: number): Rate => ({ burst, perSecond });

const READING = rate(100, 20);
/** Describes of many objects that ask without filter and without page size. */
const UNFILTERED = rate(50, 10);
const CHANGING = rate(50, 5);

const MAY_BE_UNFILTERED: ReadonlySet<string> = new Set([
  'DescribeInstances',
  'DescribeInstanceStatus',
  'DescribeNetworkInterfaces',
  'DescribeSecurityGroups',
  'DescribeSnapshots',
  'DescribeSpotInstanceRequests',
  'DescribeVolumes',
]);

/** Actions with sizes of their own. Those of services that a VPC's nodes and operators do not use are left out. */
const OWN: Readonly<Record<string, Rate>> = {
  AssignIpv6Addresses: rate(100, 5),
  AssignPrivateIpAddresses: rate(100, 5),
  AssignPrivateNatGatewayAddress: rate(10, 1),
  AssociateIamInstanceProfile: rate(100, 5),
  AssociateNatGatewayAddress: rate(10, 1),
  CopyImage: rate(100, 1),
  CreateDefaultSubnet: rate(1, 1),
  CreateDefaultVpc: rate(1, 1),
  CreateLaunchTemplateVersion: rate(100, 5),
  CreateNatGateway: rate(10, 1),
  CreateNetworkInterface: rate(100, 5),
  CreateSnapshot: rate(100, 5),
  CreateSubnetCidrReservation: rate(5, 1),
  CreateTags: rate(100, 10),
  CreateVolume: rate(100, 5),
  CreateVpcEndpoint: rate(4, 0.3),
  DeleteNatGateway: rate(10, 1),
  DeleteNetworkInterface: rate(100, 5),
  DeleteSnapshot: rate(100, 5),
  DeleteSubnetCidrReservation: rate(5, 1),
  DeleteTags: rate(100, 10),
  DeleteVolume: rate(100, 5),
  DeleteVpcEndpoints: rate(4, 0.3),
  DeregisterImage: rate(100, 5),
  DescribeInstanceTopology: rate(1, 1),
  DescribeSecurityGroupReferences: rate(20, 5),
  DescribeStaleSecurityGroups: rate(20, 5),
  DisassociateIamInstanceProfile: rate(100, 5),
  DisassociateNatGatewayAddress: rate(10, 1),
  ModifyImageAttribute: rate(100, 5),
  ModifyInstanceMetadataDefaults: rate(2, 2),
  ModifyInstanceMetadataOptions: rate(100, 5),
  ModifyLaunchTemplate: rate(100, 5),
  ModifyNetworkInterfaceAttribute: rate(100, 5),
  ModifyVpcEndpoint: rate(4, 0.3),
  RunInstances: rate(5, 2),
  StartInstances: rate(5, 2),
  TerminateInstances: rate(100, 5),
  UnassignPrivateIpAddresses: rate(100, 5),
  UnassignPrivateNatGatewayAddress: rate(10, 1),
};

/** Buckets that lose a token per instance, besides the one per request. */
const PER_INSTANCE: Readonly<Record<string, Rate>> = {
  RunInstances: rate(1000, 2),
  StartInstances: rate(1000, 2),
  StopInstances: rate(1000, 20),
  TerminateInstances: rate(1000, 20),
};

export const isReading = (action: string): boolean => /^(Describe|List|Search|Get)/.test(action);

export type Draw = { bucket: string; rate: Rate; count: number };

/** The buckets that a request draws from, most particular last. `bucket` is the action's name, but for its special ones. */
export function publishedDraws(action: string, input: object): Draw[] {
  const own = OWN[action];
  const draws: Draw[] = [];
  if (own) draws.push({ bucket: action, rate: own, count: 1 });
  else if (!isReading(action)) draws.push({ bucket: action, rate: CHANGING, count: 1 });
  else if (MAY_BE_UNFILTERED.has(action) && isUnfiltered(input))
    draws.push({ bucket: `${action} (unfiltered)`, rate: UNFILTERED, count: 1 });
  else draws.push({ bucket: action, rate: READING, count: 1 });
  const perInstance = PER_INSTANCE[action];
  if (perInstance) {
    draws.push({ bucket: `${action} (instances)`, rate: perInstance, count: instancesOf(input) });
  }
  return draws;
}

type Asked = { Filters?: unknown[]; MaxResults?: unknown; MaxCount?: number; InstanceIds?: string[] };

function isUnfiltered(input: object): boolean {
  const { Filters = [], MaxResults } = input as Asked;
  return Filters.length === 0 && MaxResults === undefined;
}

function instancesOf(input: object): number {
  const { MaxCount, InstanceIds } = input as Asked;
  return MaxCount ?? InstanceIds?.length ?? 1;
}
