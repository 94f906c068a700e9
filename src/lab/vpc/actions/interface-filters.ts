// Filters on interfaces: those of DescribeNetworkInterfaces, and those on an instance's interfaces that DescribeInstances
// knows as `network-interface.…`. What both document alike stands once.
import type { NetworkInterface, PublicAddress, VpcState } from '../model.ts';
import { absent, type Filters, type FilterValue } from '../select.ts';
import { zoneId } from './account.ts';
import {
  attachmentAnswer,
  interfaceDnsName,
  publicAddressOf,
  publicDnsName,
  shownType,
} from './interface-answers.ts';

function commonFilters(state: VpcState): Filters<NetworkInterface> {
  const publics = (eni: NetworkInterface): PublicAddress[] =>
    eni.privateIps.flatMap((ip) => publicAddressOf(state, eni.id, ip) ?? []);
  const primaryPublic = (eni: NetworkInterface) => publicAddressOf(state, eni.id, eni.privateIps[0]);
  return {
    'network-interface-id': (eni) => eni.id,
    'subnet-id': (eni) => eni.subnetId,
    'vpc-id': (eni) => eni.vpcId,
    'availability-zone': (eni) => eni.zone,
    status: (eni) => eni.status,
    description: (eni) => eni.description,
    'mac-address': (eni) => eni.mac,
    'owner-id': () => state.accountId,
    'requester-id': (eni) => eni.requesterId,
    'requester-managed': (eni) => eni.natGatewayId !== undefined,
    'source-dest-check': (eni) => eni.sourceDestCheck,
    'group-id': (eni) => eni.groupIds,
    'group-name': (eni) => eni.groupIds.map((id) => state.securityGroups[id]?.name),
    'private-ip-address': (eni) => eni.privateIps,
    'private-dns-name': (eni) => interfaceDnsName(state, eni, eni.privateIps[0]),
    'addresses.private-ip-address': (eni) => eni.privateIps,
    'addresses.primary': (eni) => eni.privateIps.map((_, i) => i === 0),
    'addresses.association.public-ip': (eni) => publics(eni).map((a) => a.publicIp),
    'association.public-ip': (eni) => primaryPublic(eni)?.publicIp,
    'association.public-dns-name': (eni) =>
      publics(eni).map((a) => publicDnsName(state, eni.vpcId, a.publicIp)),
    'association.allocation-id': (eni) => publics(eni).map((a) => a.allocationId),
    'association.association-id': (eni) => publics(eni).map((a) => a.associationId),
    'association.ip-owner-id': (eni) => publics(eni).map((a) => ownerOf(state, a)),
    'attachment.attachment-id': (eni) => attachmentAnswer(state, eni)?.AttachmentId,
    'attachment.attach-time': (eni) =>
      eni.attachment ? new Date(eni.attachment.attachTime).toISOString() : undefined,
    'attachment.instance-id': (eni) => eni.attachment?.instanceId,
    'attachment.instance-owner-id': (eni) => attachmentAnswer(state, eni)?.InstanceOwnerId,
    'attachment.device-index': (eni) => attachmentAnswer(state, eni)?.DeviceIndex,
    'attachment.network-card-index': (eni) => eni.attachment?.networkCardIndex,
    'attachment.status': (eni) => attachmentAnswer(state, eni)?.Status ?? 'detached',
    'attachment.delete-on-termination': (eni) => attachmentAnswer(state, eni)?.DeleteOnTermination,
    'ipv6-addresses.ipv6-address': (eni) => eni.ipv6Addresses,
    'operator.managed': () => false,
    ...absent('operator.principal'),
  };
}

const ownerOf = (state: VpcState, address: PublicAddress): string =>
  address.allocationId ? state.accountId : 'amazon';

export function interfaceFilters(state: VpcState): Filters<NetworkInterface> {
  return {
    ...commonFilters(state),
    'availability-zone-id': (eni) => zoneId(state, eni.zone),
    'interface-type': (eni) => shownType(state, eni),
    'addresses.association.owner-id': (eni) =>
      eni.privateIps.flatMap((ip) => {
        const address = publicAddressOf(state, eni.id, ip);
        return address ? ownerOf(state, address) : [];
      }),
  };
}

/** The same on an instance, by the interfaces that it has: `network-interface.subnet-id` and so on. */
export function filtersOnInterfacesOf<T>(
  state: VpcState,
  interfaces: (item: T) => readonly NetworkInterface[],
): Filters<T> {
  const common = commonFilters(state);
  const of = (name: string) => common[name]!;
  const all: Filters<NetworkInterface> = {
    ...common,
    'addresses.association.allocation-id': of('association.allocation-id'),
    'addresses.association.association-id': of('association.association-id'),
    'addresses.association.ip-owner-id': of('association.ip-owner-id'),
    'addresses.association.public-dns-name': of('association.public-dns-name'),
    'addresses.private-dns-name': (eni) => eni.privateIps.map((ip) => interfaceDnsName(state, eni, ip)),
    'public-dns-name': of('association.public-dns-name'),
    'ipv4-prefixes.ipv4-prefix': (eni) => eni.ipv4Prefixes,
    'ipv6-prefixes.ipv6-prefix': (eni) => eni.ipv6Prefixes,
    'ipv6-address': of('ipv6-addresses.ipv6-address'),
    'ipv6-native': (eni) => state.subnets[eni.subnetId]?.ipv6Native ?? false,
    'ipv6-addresses.is-primary-ipv6': (eni) =>
      eni.ipv6Addresses.map((_, i) => i === 0 && eni.primaryIpv6 === true),
    'deny-all-igw-traffic': () => false,
    'tag-key': (eni) => Object.keys(eni.tags),
    'tag-value': (eni) => Object.values(eni.tags),
    ...absent(
      'addresses.association.carrier-ip',
      'addresses.association.customer-owned-ip',
      'association.carrier-ip',
      'association.customer-owned-ip',
      'outpost-arn',
    ),
  };
  return Object.fromEntries(
    Object.entries(all).map(([name, valuesOf]) => [
      `network-interface.${name}`,
      (item: T): FilterValue[] => interfaces(item).flatMap((eni) => valuesOf(eni)),
    ]),
  );
}
