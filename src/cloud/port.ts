// The cloud as the allocator sees it: a dozen EC2 actions, values in and values out, addresses already integers.
// Implementations throw CloudError, which keeps EC2's own code and text and carries the typed cause.
import type { Cause } from '../base/causes.ts';
import { PodwayError } from '../base/errors.ts';
import type { Cidr, Ip, Ipv4, Ipv6 } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';

export type EniId = string & { readonly __eniId: unique symbol };
export type Tags = Readonly<Record<string, string>>;

export type EniAttachment = {
  id: string;
  instanceId: string;
  deviceIndex: number;
  networkCard: number;
  status: 'attaching' | 'attached' | 'detaching' | 'detached';
  deleteOnTermination: boolean;
};

/** A network interface as EC2 describes it. */
export type EniDescription = {
  id: EniId;
  mac: Mac;
  subnetId: string;
  vpcId: string;
  zone: string;
  description: string;
  interfaceType: string;
  status: string;
  groupIds: string[];
  /** First is the primary one; none in an IPv6-only subnet. `public` is true when a public address maps to it. */
  addresses: { ip: Ipv4; primary: boolean; public: boolean }[];
  ipv6Addresses: Ipv6[];
  ipv4Prefixes: Cidr[];
  ipv6Prefixes: Cidr[];
  attachment: EniAttachment | null;
  requesterId: string;
  tags: Tags;
};

export type EniFilter =
  /** `once`: tried once, for who only wants to know whether EC2 answers. `absent: 'skip'`: those that are there. */
  | { kind: 'ids'; ids: readonly EniId[]; once?: true; absent?: 'skip' }
  | { kind: 'instance'; instanceId: string }
  /** Of a list of values any. `loose`: what hangs on no instance and no trunk alone. */
  | { kind: 'tags'; tags: Readonly<Record<string, string | readonly string[]>>; loose?: true }
  | { kind: 'addresses'; subnetId: string; ips: readonly Ipv4[] }
  | { kind: 'subnet'; subnetId: string };

export type CreateEni = {
  subnetId: string;
  groupIds: readonly string[];
  description: string;
  secondaryCount: number;
  /** /28 prefixes beside the addresses; absent: none. */
  prefixCount?: number;
  /** /80 prefixes; absent: none. */
  ipv6PrefixCount?: number;
  /** These addresses, the primary one first, instead of `secondaryCount`; absent: EC2 chooses. */
  ips?: readonly Ipv4[];
  /** Single IPv6 addresses, of EC2's choice or these; absent: none. */
  ipv6s?: number | readonly Ipv6[];
  tags: Tags;
  /** Makes a repeated create answer with the interface of the first. */
  clientToken: string;
  /** Absent: a plain interface, which may become a branch. */
  interfaceType?: 'trunk';
};

/** A branch interface on a trunk, under a VLAN id. */
export type TrunkAssociation = { id: string; trunkId: EniId; branchId: EniId; vlanId: number };

/** What an ENI carries beside its primary address: single addresses, and prefixes (/28, /80). */
export type Blocks = { readonly ips: readonly Ip[]; readonly prefixes: readonly Cidr[] };

export type SecurityGroupDescription = { id: string; tags: Tags };
export type SubnetDescription = {
  id: string;
  zone: string;
  /** Of an IPv6-only subnet its IPv6 CIDR. */
  cidr: Cidr;
  ipv6Cidr: Cidr | null;
  availableIps: number;
  tags: Tags;
};
export type InstanceTypeDescription = {
  instanceType: string;
  enis: number;
  ipv4PerEni: number;
  ipv6PerEni: number;
  networkCards: { index: number; enis: number }[];
  hypervisor: string;
  bareMetal: boolean;
};

/** A security group's rule for what comes in. */
export type IngressRule = {
  id: string;
  groupId: string;
  /** `-1`: every; `tcp`, `udp`, `icmp`, `icmpv6`, else IANA's number. */
  protocol: string;
  /** -1: every. Of ICMP the type and the code. */
  fromPort: number;
  toPort: number;
  peer:
    | { kind: 'cidr'; cidr: Cidr }
    | { kind: 'group'; groupId: string }
    | { kind: 'prefix-list'; id: string };
};

/** What is of security groups' rules; what does not exist is not in the answers. */
export interface GroupCloud {
  /** The groups of each ENI. */
  describeGroupsOf(eniIds: readonly string[], signal?: AbortSignal): Promise<Map<string, readonly string[]>>;
  describeIngressRules(groupIds: readonly string[], signal?: AbortSignal): Promise<IngressRule[]>;
  /** Addresses and prefixes of the interfaces that are in each group. */
  describeMembers(
    groupIds: readonly string[],
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, readonly Cidr[]>>;
}

/** The part of groups is absent from models that no agent with branches asks. */
export interface Cloud extends Partial<GroupCloud> {
  /** An id that does not exist makes the answer throw InvalidNetworkInterfaceID.NotFound. */
  describeNetworkInterfaces(filter: EniFilter, signal?: AbortSignal): Promise<EniDescription[]>;
  createNetworkInterface(request: CreateEni, signal?: AbortSignal): Promise<EniDescription>;
  /** Answers with the attachment's id; the attachment may still be `attaching`. */
  attachNetworkInterface(
    request: { eniId: EniId; instanceId: string; deviceIndex: number; networkCard: number },
    signal?: AbortSignal,
  ): Promise<string>;
  detachNetworkInterface(attachmentId: string, signal?: AbortSignal): Promise<void>;
  deleteNetworkInterface(eniId: EniId, signal?: AbortSignal): Promise<void>;
  setDeleteOnTermination(eniId: EniId, attachmentId: string, signal?: AbortSignal): Promise<void>;
  /** All or nothing: answers with exactly `count` new addresses. */
  assignPrivateIps(eniId: EniId, count: number, signal?: AbortSignal): Promise<Ipv4[]>;
  /** These and no others, and only when no other interface has one of them. */
  assignTheseIps(eniId: EniId, ips: readonly Ipv4[], signal?: AbortSignal): Promise<void>;
  /** All or nothing: answers with exactly `count` new /28 prefixes. */
  assignPrefixes(eniId: EniId, count: number, signal?: AbortSignal): Promise<Cidr[]>;
  /** These /28s and no others, and only when no other interface has an address of one of them. */
  assignThesePrefixes(eniId: EniId, prefixes: readonly Cidr[], signal?: AbortSignal): Promise<void>;
  /** All or nothing: answers with exactly `count` new /80 prefixes. */
  assignIpv6Prefixes(eniId: EniId, count: number, signal?: AbortSignal): Promise<Cidr[]>;
  /** These /80s and no others. */
  assignTheseIpv6Prefixes(eniId: EniId, prefixes: readonly Cidr[], signal?: AbortSignal): Promise<void>;
  /** One call for each kind that is named: IPv4 addresses, /28s, then what is of IPv6. */
  unassign(eniId: EniId, blocks: Blocks, signal?: AbortSignal): Promise<void>;
  describeSubnets(ids: readonly string[], signal?: AbortSignal): Promise<SubnetDescription[]>;
  /** The VPC's subnets in one zone, with their tags. */
  describeVpcSubnets(vpcId: string, zone: string, signal?: AbortSignal): Promise<SubnetDescription[]>;
  describeSecurityGroups(vpcId: string, signal?: AbortSignal): Promise<SecurityGroupDescription[]>;
  /** Replaces the ENI's groups. */
  setSecurityGroups(eniId: EniId, groupIds: readonly string[], signal?: AbortSignal): Promise<void>;
  /** Adds tags to an ENI; those of the same keys are replaced. */
  createTags(eniId: EniId, tags: Tags, signal?: AbortSignal): Promise<void>;
  describeInstanceType(instanceType: string, signal?: AbortSignal): Promise<InstanceTypeDescription>;
}

/** What is of trunks: the cluster's controller alone asks for it. */
export interface TrunkCloud {
  /** Answers with the association's id. A branch that is on a trunk already throws InvalidNetworkInterface.InUse. */
  associateTrunk(
    request: Omit<TrunkAssociation, 'id'> & { clientToken: string },
    signal?: AbortSignal,
  ): Promise<string>;
  disassociateTrunk(associationId: string, signal?: AbortSignal): Promise<void>;
  /** All of the account's. */
  describeTrunkAssociations(signal?: AbortSignal): Promise<TrunkAssociation[]>;
  /** Throws CLOUD_DENIED where the account may not associate trunks, or EC2 knows no such action. Changes nothing. */
  probeTrunking(signal?: AbortSignal): Promise<void>;
}

export class CloudError extends PodwayError {
  override name = 'CloudError';
  /** EC2's code, such as `InvalidNetworkInterfaceID.NotFound`; `Network` or `Timeout` when EC2 did not answer. */
  readonly ec2Code: string;
  readonly action: string;
  /** True when the call may have taken effect although it failed. */
  readonly uncertain: boolean;
  readonly #text: string;

  constructor(action: string, ec2Code: string, text: string, uncertain = false, options?: ErrorOptions) {
    super(causeOfEc2Code(ec2Code, text), `${action}: ${ec2Code}: ${text}`, { object: action }, options);
    this.action = action;
    this.ec2Code = ec2Code;
    this.uncertain = uncertain;
    this.#text = text;
  }

  /** The same answer to the last try of a call of which an earlier try may have taken effect. */
  afterUncertain(): CloudError {
    return new CloudError(this.action, this.ec2Code, this.#text, true, { cause: this.cause });
  }
}

const THROTTLED = new Set([
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'RequestThrottled',
  'EC2ThrottledException',
  'TooManyRequestsException',
  'SlowDown',
  'Budget',
]);
const UNREACHABLE = new Set([
  'Network',
  'Timeout',
  'InternalError',
  'InternalFailure',
  'Unavailable',
  'ServiceUnavailable',
  'IDPCommunicationError',
]);
const DENIED = new Set([
  'UnauthorizedOperation',
  'AuthFailure',
  'SignatureDoesNotMatch',
  'InvalidClientTokenId',
  'ExpiredToken',
  'RequestExpired',
  'OptInRequired',
  'Blocked',
  'AccessDenied',
  'NoCredentials',
  'ExpiredTokenException',
  'IDPRejectedClaim',
  'InvalidIdentityToken',
]);
const OTHER: Readonly<Record<string, Cause>> = {
  InsufficientFreeAddressesInSubnet: 'SUBNET_EXHAUSTED',
  InsufficientCidrBlocks: 'SUBNET_FRAGMENTED',
  PrivateIpAddressLimitExceeded: 'ADDRESS_LIMIT',
  AttachmentLimitExceeded: 'ENI_LIMIT',
  NetworkInterfaceLimitExceeded: 'ENI_LIMIT',
};

/** EC2's words when more prefixes are asked for than the subnet has free addresses for; single ones may be left. */
const NO_PREFIXES = /sufficient free Ipv4 addresses or prefixes/i;

export const isThrottling = (ec2Code: string): boolean => THROTTLED.has(ec2Code);

function causeOfEc2Code(code: string, text: string): Cause {
  if (isThrottling(code)) return 'CLOUD_THROTTLED';
  if (UNREACHABLE.has(code)) return 'CLOUD_UNREACHABLE';
  if (DENIED.has(code)) return 'CLOUD_DENIED';
  if (code === 'InvalidParameterValue' && NO_PREFIXES.test(text)) return 'SUBNET_FRAGMENTED';
  return OTHER[code] ?? 'INTERNAL';
}

/** True for EC2's answers that name something which does not exist (any more). */
export const isNotFound = (error: unknown): boolean =>
  error instanceof CloudError && /\.NotFound$|^InvalidAttachmentID/.test(error.ec2Code);
