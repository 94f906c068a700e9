// The VPC as a plain value: what EC2's answers, IMDS and the fabric are all computed from.
// Owns no behaviour. Every object is JSON (addresses are text here: this is EC2's own vocabulary), so that a state is
// stored, compared and printed as it is. Times are milliseconds since 1970.

import type { TypeOverride } from './limits.ts';

export type Tags = Record<string, string>;

export type Ipv6Block = { cidr: string; associationId: string };

export type Vpc = {
  id: string;
  cidrs: { cidr: string; associationId: string }[];
  /** Amazon-provided /56 blocks; absent when the VPC has none. */
  ipv6Cidrs?: Ipv6Block[];
  isDefault: boolean;
  /** EC2's VPC attributes; true and false when absent, as EC2 makes a VPC. */
  enableDnsSupport?: boolean;
  enableDnsHostnames?: boolean;
  tags: Tags;
};

export type Subnet = {
  id: string;
  vpcId: string;
  /** Empty of an IPv6-only subnet. */
  cidr: string;
  zone: string;
  mapPublicIpOnLaunch: boolean;
  /** One /64 of the VPC's; absent when the subnet has none. */
  ipv6Cidrs?: Ipv6Block[];
  /** IPv6-only: its interfaces have no IPv4 address. */
  ipv6Native?: boolean;
  /** Each new interface gets an IPv6 address unless it is told how many. */
  assignIpv6AddressOnCreation?: boolean;
  /** The VPC's resolver answers with addresses of 64:ff9b::/96 for names that have IPv4 alone. */
  enableDns64?: boolean;
  /** Turns at which the search for a free address and a free /28 goes on: a freed one is not given again at once. */
  nextAddress?: number;
  nextPrefix?: number;
  tags: Tags;
};

/** A range of a subnet that EC2 gives out as prefixes alone (`prefix`), or to nobody who does not name it (`explicit`). */
export type SubnetCidrReservation = {
  id: string;
  subnetId: string;
  cidr: string;
  type: 'prefix' | 'explicit';
  description: string;
  tags: Tags;
};

export type RouteTarget =
  | { kind: 'local' }
  | { kind: 'internet-gateway'; id: string }
  | { kind: 'egress-only-internet-gateway'; id: string }
  | { kind: 'nat-gateway'; id: string }
  | { kind: 'network-interface'; id: string };
export type Route = { destination: string; target: RouteTarget };
export type RouteTable = {
  id: string;
  vpcId: string;
  routes: Route[];
  associations: { id: string; subnetId?: string; main: boolean }[];
  tags: Tags;
};

/** Lets IPv6 connections out of its VPC, and none in. */
export type EgressOnlyInternetGateway = { id: string; vpcId: string; tags: Tags };

export type NatGatewayState = 'pending' | 'failed' | 'available' | 'deleting' | 'deleted';
/** What it has stays said after it is deleted; a failed one has no interface. */
export type NatGateway = {
  id: string;
  vpcId: string;
  subnetId: string;
  connectivity: 'public' | 'private';
  state: NatGatewayState;
  networkInterfaceId?: string;
  privateIp?: string;
  /** Of a public one. */
  allocationId?: string;
  publicIp?: string;
  associationId?: string;
  failure?: { code: string; message: string };
  createTime: number;
  /** When it was deleted, or failed. */
  endedAt?: number;
  tags: Tags;
};

export type InternetGateway = { id: string; vpcId?: string; tags: Tags };

/** A public address; `allocationId` is absent when it came with an instance. */
export type PublicAddress = {
  publicIp: string;
  allocationId?: string;
  associationId?: string;
  networkInterfaceId?: string;
  privateIp?: string;
  tags: Tags;
};

export type SecurityGroupRule = {
  id: string;
  direction: 'ingress' | 'egress';
  /** "-1" for all, else a number or tcp|udp|icmp|icmpv6 as EC2 prints it. */
  protocol: string;
  fromPort?: number;
  toPort?: number;
  peer: { kind: 'cidr'; cidr: string } | { kind: 'group'; groupId: string };
  description?: string;
  tags?: Tags;
};
export type SecurityGroup = {
  id: string;
  vpcId: string;
  name: string;
  description: string;
  rules: SecurityGroupRule[];
  tags: Tags;
};

export type AttachmentStatus = 'attaching' | 'attached' | 'detaching';
export type Attachment = {
  id: string;
  instanceId: string;
  deviceIndex: number;
  networkCardIndex: number;
  status: AttachmentStatus;
  deleteOnTermination: boolean;
  attachTime: number;
};

/** `nat_gateway` is made by EC2 alone. `efa-only` has no addresses and no link; `branch` hangs on a trunk. */
export const interfaceTypes = ['interface', 'efa', 'efa-only', 'trunk', 'branch', 'nat_gateway'] as const;
export type InterfaceType = (typeof interfaceTypes)[number];

export type NetworkInterface = {
  id: string;
  mac: string;
  vpcId: string;
  subnetId: string;
  zone: string;
  description: string;
  interfaceType: InterfaceType;
  /** `pending` while being made, `in-use` from the start of an attach to the end of its detach, and on a trunk. */
  status: 'pending' | 'available' | 'in-use';
  sourceDestCheck: boolean;
  groupIds: string[];
  /** First is primary, and never changes; none has an `efa-only` one. */
  privateIps: string[];
  ipv6Addresses: string[];
  /** The first of them is the primary one, for as long as the interface is. */
  primaryIpv6?: true;
  ipv4Prefixes: string[];
  ipv6Prefixes: string[];
  attachment?: Attachment;
  /** The NAT gateway that it is of: only that one's life changes it. */
  natGatewayId?: string;
  /** Identity that made it, as EC2's RequesterId. */
  requesterId: string;
  clientToken?: string;
  createTime: number;
  tags: Tags;
};

/** The branch hangs on the trunk: its frames bear the VLAN id there. */
export type TrunkAssociation = {
  id: string;
  branchInterfaceId: string;
  trunkInterfaceId: string;
  vlanId: number;
};

export type InterfacePermission = {
  id: string;
  networkInterfaceId: string;
  awsAccountId: string;
  permission: 'INSTANCE-ATTACH' | 'EIP-ASSOCIATE';
};

export type InstanceState = 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated';
export type Instance = {
  id: string;
  /** Name in the lab: the Name tag, else the id. Also its namespace's name after the lab's prefix. */
  name: string;
  instanceType: string;
  state: InstanceState;
  imageId: string;
  subnetId: string;
  vpcId: string;
  zone: string;
  launchTime: number;
  hopLimit: number;
  httpTokens: 'required' | 'optional';
  httpEndpoint: 'enabled' | 'disabled';
  /** Whether IMDS answers at fd00:ec2::254 too; disabled when absent. */
  httpProtocolIpv6?: 'enabled' | 'disabled';
  reservationId: string;
  clientToken?: string;
  /** `podway`: the lab runs an agent there; `none`: a bare instance. */
  agent: 'podway' | 'none';
  terminatedAt?: number;
  /** Of the last RebootInstances. */
  rebootedAt?: number;
  disableApiTermination?: boolean;
  disableApiStop?: boolean;
  /** Of the instances that one RunInstances made, from 0. */
  launchIndex?: number;
  /** When a user stopped or terminated it; not there after a start. */
  endedByUserAt?: number;
  /** Named at its launch; the role's name. */
  instanceProfile?: string;
  /** Launched with a public address: each start gives the primary interface one, a new one after each stop. */
  publicIpOnStart?: boolean;
  /** Base64, as RunInstances took it. */
  userData?: string;
  keyName?: string;
  tags: Tags;
};

export type VpcState = {
  region: string;
  accountId: string;
  zones: string[];
  /** By instance type: what this lab says of it, as it was opened; not stored. */
  typeOverrides: Record<string, TypeOverride>;
  vpcs: Record<string, Vpc>;
  subnets: Record<string, Subnet>;
  subnetCidrReservations: Record<string, SubnetCidrReservation>;
  routeTables: Record<string, RouteTable>;
  internetGateways: Record<string, InternetGateway>;
  egressOnlyInternetGateways: Record<string, EgressOnlyInternetGateway>;
  natGateways: Record<string, NatGateway>;
  publicAddresses: Record<string, PublicAddress>;
  securityGroups: Record<string, SecurityGroup>;
  networkInterfaces: Record<string, NetworkInterface>;
  trunkAssociations: Record<string, TrunkAssociation>;
  interfacePermissions: Record<string, InterfacePermission>;
  instances: Record<string, Instance>;
};

export const emptyVpcState = (region: string, zones: string[]): VpcState => ({
  region,
  accountId: '123456789012',
  zones,
  typeOverrides: {},
  vpcs: {},
  subnets: {},
  subnetCidrReservations: {},
  routeTables: {},
  internetGateways: {},
  egressOnlyInternetGateways: {},
  natGateways: {},
  publicAddresses: {},
  securityGroups: {},
  networkInterfaces: {},
  trunkAssociations: {},
  interfacePermissions: {},
  instances: {},
});
