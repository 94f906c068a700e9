// How an interface looks in answers, to DescribeNetworkInterfaces and inside DescribeInstances, and EC2's DNS names.
import type * as ec2 from '@aws-sdk/client-ec2';
import type { NetworkInterface, PublicAddress, VpcState } from '../model.ts';
import { associationOf } from '../trunks.ts';
import { zoneId } from './account.ts';
import { tagList } from './tags.ts';

export const privateDnsName = (state: VpcState, ip: string): string =>
  `ip-${ip.replaceAll('.', '-')}.${state.region === 'us-east-1' ? 'ec2' : `${state.region}.compute`}.internal`;

/** The name of an instance by its id, as those of IPv6-only subnets have it. */
export const resourceName = (state: VpcState, instanceId: string): string =>
  `${instanceId}.${state.region === 'us-east-1' ? 'ec2' : `${state.region}.compute`}.internal`;

/** An interface shows its name only where the VPC gives DNS host names; an instance's own is always there. */
export const interfaceDnsName = (
  state: VpcState,
  eni: NetworkInterface,
  ip: string | undefined,
): string | undefined =>
  ip !== undefined && state.vpcs[eni.vpcId]?.enableDnsHostnames ? privateDnsName(state, ip) : undefined;

/** Empty without DNS hostnames in the VPC, as EC2 prints it. */
export const publicDnsName = (state: VpcState, vpcId: string, ip: string): string =>
  state.vpcs[vpcId]?.enableDnsHostnames
    ? `ec2-${ip.replaceAll('.', '-')}.${state.region === 'us-east-1' ? 'compute-1' : `${state.region}.compute`}.amazonaws.com`
    : '';

export const publicAddressOf = (
  state: VpcState,
  eniId: string,
  privateIp: string | undefined,
): PublicAddress | undefined =>
  Object.values(state.publicAddresses).find(
    (a) => a.networkInterfaceId === eniId && a.privateIp === privateIp,
  );

export const groupIdentifiers = (state: VpcState, ids: readonly string[]): ec2.GroupIdentifier[] =>
  ids.map((id) => ({ GroupId: id, GroupName: state.securityGroups[id]?.name ?? '' }));

function association(
  state: VpcState,
  eni: NetworkInterface,
  ip: string | undefined,
): ec2.NetworkInterfaceAssociation | undefined {
  const address = publicAddressOf(state, eni.id, ip);
  if (!address) return undefined;
  return {
    PublicIp: address.publicIp,
    PublicDnsName: publicDnsName(state, eni.vpcId, address.publicIp),
    IpOwnerId: address.allocationId ? state.accountId : 'amazon',
    ...(address.allocationId ? { AllocationId: address.allocationId } : {}),
    ...(address.associationId ? { AssociationId: address.associationId } : {}),
  };
}

const dnsName = (state: VpcState, eni: NetworkInterface, ip: string | undefined) => {
  const name = interfaceDnsName(state, eni, ip);
  return name === undefined ? {} : { PrivateDnsName: name };
};

function privateAddresses(state: VpcState, eni: NetworkInterface): ec2.NetworkInterfacePrivateIpAddress[] {
  return eni.privateIps.map((ip, i) => {
    const with_ = association(state, eni, ip);
    return {
      Primary: i === 0,
      PrivateIpAddress: ip,
      ...dnsName(state, eni, ip),
      ...(with_ ? { Association: with_ } : {}),
    };
  });
}

const ipv6Addresses = (eni: NetworkInterface): ec2.NetworkInterfaceIpv6Address[] =>
  eni.ipv6Addresses.map((ip, i) => ({
    Ipv6Address: ip,
    IsPrimaryIpv6: i === 0 && eni.primaryIpv6 === true,
  }));

export function attachmentAnswer(
  state: VpcState,
  eni: NetworkInterface,
): ec2.NetworkInterfaceAttachment | undefined {
  const { attachment } = eni;
  if (eni.natGatewayId !== undefined)
    return {
      AttachmentId: eni.natGatewayId.replace('nat-', 'ela-attach-'),
      InstanceOwnerId: 'amazon-aws',
      DeviceIndex: 1,
      Status: 'attached',
      DeleteOnTermination: false,
    };
  if (!attachment) return undefined;
  return {
    AttachmentId: attachment.id,
    InstanceId: attachment.instanceId,
    InstanceOwnerId: state.accountId,
    DeviceIndex: attachment.deviceIndex,
    NetworkCardIndex: attachment.networkCardIndex,
    Status: attachment.status,
    AttachTime: new Date(attachment.attachTime),
    DeleteOnTermination: attachment.deleteOnTermination,
  };
}

/** EC2 says `nat_gateway`, and the SDK's list another word. */
const typeAnswer = (type: NetworkInterface['interfaceType']): ec2.NetworkInterfaceType =>
  type as ec2.NetworkInterfaceType;

/** EC2 says `pending` for an interface in the making, though the SDK's list of states leaves it out. */
const statusAnswer = (eni: NetworkInterface): ec2.NetworkInterfaceStatus =>
  eni.status as ec2.NetworkInterfaceStatus;

/** An interface on a trunk shows as a branch, whatever it was made as. */
export const shownType = (state: VpcState, eni: NetworkInterface): NetworkInterface['interfaceType'] =>
  associationOf(state, eni.id) ? 'branch' : eni.interfaceType;

export function interfaceAnswer(state: VpcState, eni: NetworkInterface): ec2.NetworkInterface {
  const primary = eni.privateIps[0];
  const publicSide = association(state, eni, primary);
  const attachment = attachmentAnswer(state, eni);
  return {
    NetworkInterfaceId: eni.id,
    SubnetId: eni.subnetId,
    VpcId: eni.vpcId,
    AvailabilityZone: eni.zone,
    AvailabilityZoneId: zoneId(state, eni.zone),
    Description: eni.description,
    OwnerId: state.accountId,
    RequesterId: eni.requesterId,
    RequesterManaged: eni.natGatewayId !== undefined,
    Status: statusAnswer(eni),
    MacAddress: eni.mac,
    PrivateIpAddress: primary,
    ...dnsName(state, eni, primary),
    SourceDestCheck: eni.sourceDestCheck,
    Groups: groupIdentifiers(state, eni.groupIds),
    InterfaceType: typeAnswer(shownType(state, eni)),
    ...(state.subnets[eni.subnetId]?.ipv6Native ? { Ipv6Native: true } : {}),
    ...(attachment ? { Attachment: attachment } : {}),
    ...(publicSide ? { Association: publicSide } : {}),
    PrivateIpAddresses: privateAddresses(state, eni),
    Ipv6Addresses: ipv6Addresses(eni),
    ...(eni.ipv6Addresses[0] === undefined ? {} : { Ipv6Address: eni.ipv6Addresses[0] }),
    ...(eni.ipv4Prefixes.length ? { Ipv4Prefixes: eni.ipv4Prefixes.map((p) => ({ Ipv4Prefix: p })) } : {}),
    ...(eni.ipv6Prefixes.length ? { Ipv6Prefixes: eni.ipv6Prefixes.map((p) => ({ Ipv6Prefix: p })) } : {}),
    TagSet: tagList(eni.tags),
  };
}

/** The same interface as DescribeInstances prints it. */
export function instanceInterfaceAnswer(
  state: VpcState,
  eni: NetworkInterface,
): ec2.InstanceNetworkInterface {
  const whole = interfaceAnswer(state, eni);
  const short = (a: ec2.NetworkInterfaceAssociation): ec2.InstanceNetworkInterfaceAssociation => ({
    IpOwnerId: a.IpOwnerId,
    PublicDnsName: a.PublicDnsName,
    PublicIp: a.PublicIp,
  });
  const { attachment } = eni;
  return {
    NetworkInterfaceId: eni.id,
    SubnetId: eni.subnetId,
    VpcId: eni.vpcId,
    Description: eni.description,
    OwnerId: state.accountId,
    Status: statusAnswer(eni),
    MacAddress: eni.mac,
    PrivateIpAddress: whole.PrivateIpAddress,
    ...(whole.PrivateDnsName === undefined ? {} : { PrivateDnsName: whole.PrivateDnsName }),
    SourceDestCheck: eni.sourceDestCheck,
    Groups: whole.Groups,
    InterfaceType: typeAnswer(eni.interfaceType),
    ...(whole.Association ? { Association: short(whole.Association) } : {}),
    ...(attachment
      ? {
          Attachment: {
            AttachmentId: attachment.id,
            DeviceIndex: attachment.deviceIndex,
            NetworkCardIndex: attachment.networkCardIndex,
            Status: attachment.status,
            AttachTime: new Date(attachment.attachTime),
            DeleteOnTermination: attachment.deleteOnTermination,
          },
        }
      : {}),
    PrivateIpAddresses: (whole.PrivateIpAddresses ?? []).map(({ Association: a, ...rest }) => ({
      ...rest,
      ...(a ? { Association: short(a) } : {}),
    })),
    Ipv6Addresses: ipv6Addresses(eni),
    ...(eni.ipv4Prefixes.length ? { Ipv4Prefixes: eni.ipv4Prefixes.map((p) => ({ Ipv4Prefix: p })) } : {}),
    ...(eni.ipv6Prefixes.length ? { Ipv6Prefixes: eni.ipv6Prefixes.map((p) => ({ Ipv6Prefix: p })) } : {}),
  };
}
