// The Cloud port over EC2: the dozen actions of an allocator, their parameters and the parts of their answers we read.
// Nothing is kept between calls but the credentials. Fails as query.ts does, with CloudError.
import type { Clock } from '../base/clock.ts';
import {
  type Cidr,
  familyOf,
  formatCidr,
  formatIp,
  type Ipv4,
  type Ipv6,
  parseCidr,
  parseIpv4,
  parseIpv6,
} from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import type { CredentialSource } from './credentials.ts';
import { serviceEndpoint } from './endpoint.ts';
import { groupCalls } from './group-rules.ts';
import {
  type Cloud,
  CloudError,
  type CreateEni,
  type EniAttachment,
  type EniDescription,
  type EniFilter,
  type EniId,
  type SubnetDescription,
  type Tags,
  type TrunkCloud,
} from './port.ts';
import { type CallObserver, callPaged, createQueryClient, type QueryValue } from './query.ts';
import { trunkCalls } from './trunks.ts';
import { at, itemsAt, textAt, type XmlElement } from './xml.ts';

const PAGE = 1000;

export type Ec2Options = {
  region: string;
  /** The partition's, such as amazonaws.com; absent: by the region's name. */
  domain?: string | undefined;
  credentials: CredentialSource;
  /** Default: AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL, else the region's under `domain`. */
  endpoint?: string | undefined;
  clock?: Clock | undefined;
  timeoutMs?: number | undefined;
  onCall?: CallObserver | undefined;
};

export function createEc2Cloud(options: Ec2Options): Cloud & TrunkCloud {
  const endpoint = options.endpoint ?? serviceEndpoint('ec2', options.region, options.domain);
  const client = createQueryClient({ ...options, endpoint });
  const read = (action: string, params: Record<string, QueryValue>, signal?: AbortSignal) =>
    client.call({ action, params, repeatable: true, signal });
  const change = (
    action: string,
    params: Record<string, QueryValue>,
    repeatable: boolean,
    signal?: AbortSignal,
  ) => client.call({ action, params, repeatable, signal });

  return {
    async describeNetworkInterfaces(filter, signal) {
      const params = filterParams(filter);
      const found = await callPaged(
        client,
        { action: 'DescribeNetworkInterfaces', params, repeatable: true, once: isOnce(filter), signal },
        'networkInterfaceSet',
        readEni,
      );
      if (filter.kind === 'ids' && filter.absent !== 'skip') allOf(filter.ids, found);
      return found;
    },
    async createNetworkInterface(request, signal) {
      const answer = await change(
        'CreateNetworkInterface',
        {
          SubnetId: request.subnetId,
          Description: request.description,
          SecurityGroupId: request.groupIds,
          SecondaryPrivateIpAddressCount:
            request.secondaryCount > 0 && !request.ips ? request.secondaryCount : undefined,
          PrivateIpAddresses: request.ips?.map((ip, index) => ({
            PrivateIpAddress: formatIp(ip),
            Primary: index === 0,
          })),
          Ipv4PrefixCount: request.prefixCount ? request.prefixCount : undefined,
          Ipv6PrefixCount: request.ipv6PrefixCount ? request.ipv6PrefixCount : undefined,
          ...ipv6Params(request.ipv6s),
          InterfaceType: request.interfaceType,
          ClientToken: request.clientToken,
          TagSpecification: [{ ResourceType: 'network-interface', Tag: tagParams(request.tags) }],
        },
        true,
        signal,
      );
      return readEni(required(answer, 'CreateNetworkInterface', 'networkInterface'));
    },
    async attachNetworkInterface(request, signal) {
      const answer = await change(
        'AttachNetworkInterface',
        {
          NetworkInterfaceId: request.eniId,
          InstanceId: request.instanceId,
          DeviceIndex: request.deviceIndex,
          NetworkCardIndex: request.networkCard > 0 ? request.networkCard : undefined,
        },
        false,
        signal,
      );
      return textAt(answer, 'attachmentId');
    },
    async detachNetworkInterface(attachmentId, signal) {
      await change('DetachNetworkInterface', { AttachmentId: attachmentId }, true, signal);
    },
    async deleteNetworkInterface(eniId, signal) {
      await change('DeleteNetworkInterface', { NetworkInterfaceId: eniId }, true, signal);
    },
    async setDeleteOnTermination(eniId, attachmentId, signal) {
      await change(
        'ModifyNetworkInterfaceAttribute',
        { NetworkInterfaceId: eniId, Attachment: { AttachmentId: attachmentId, DeleteOnTermination: true } },
        true,
        signal,
      );
    },
    async assignPrivateIps(eniId, count, signal) {
      const answer = await change(
        'AssignPrivateIpAddresses',
        { NetworkInterfaceId: eniId, SecondaryPrivateIpAddressCount: count },
        false,
        signal,
      );
      return itemsAt(answer, 'assignedPrivateIpAddressesSet').map((item) =>
        parseIpv4(textAt(item, 'privateIpAddress')),
      );
    },
    async assignTheseIps(eniId, ips, signal) {
      await change(
        'AssignPrivateIpAddresses',
        { NetworkInterfaceId: eniId, PrivateIpAddress: ips.map((ip) => formatIp(ip)) },
        true,
        signal,
      );
    },
    async assignPrefixes(eniId, count, signal) {
      const answer = await change(
        'AssignPrivateIpAddresses',
        { NetworkInterfaceId: eniId, Ipv4PrefixCount: count },
        false,
        signal,
      );
      return itemsAt(answer, 'assignedIpv4PrefixSet').map((item) => parseCidr(textAt(item, 'ipv4Prefix')));
    },
    async assignThesePrefixes(eniId, prefixes, signal) {
      await change(
        'AssignPrivateIpAddresses',
        { NetworkInterfaceId: eniId, Ipv4Prefix: prefixes.map(formatCidr) },
        true,
        signal,
      );
    },
    async assignIpv6Prefixes(eniId, count, signal) {
      const answer = await change(
        'AssignIpv6Addresses',
        { NetworkInterfaceId: eniId, Ipv6PrefixCount: count },
        false,
        signal,
      );
      return itemsAt(answer, 'assignedIpv6PrefixSet').map((item) => parseCidr(textAt(item)));
    },
    async assignTheseIpv6Prefixes(eniId, prefixes, signal) {
      const params = { NetworkInterfaceId: eniId, Ipv6Prefix: prefixes.map(formatCidr) };
      await change('AssignIpv6Addresses', params, true, signal);
    },
    async unassign(eniId, { ips, prefixes }, signal) {
      const drop = (action: string, params: Record<string, QueryValue>) =>
        change(action, { NetworkInterfaceId: eniId, ...params }, true, signal);
      const [ips4, ips6] = [4, 6].map((family) => ips.filter((ip) => familyOf(ip) === family).map(formatIp));
      const [prefixes4, prefixes6] = [4, 6].map((family) =>
        prefixes.filter(({ ip }) => familyOf(ip) === family).map(formatCidr),
      );
      if (ips4!.length > 0) await drop('UnassignPrivateIpAddresses', { PrivateIpAddress: ips4! });
      if (prefixes4!.length > 0) await drop('UnassignPrivateIpAddresses', { Ipv4Prefix: prefixes4! });
      const six = {
        ...(ips6!.length > 0 ? { Ipv6Addresses: ips6! } : {}),
        ...(prefixes6!.length > 0 ? { Ipv6Prefix: prefixes6! } : {}),
      };
      if (Object.keys(six).length > 0) await drop('UnassignIpv6Addresses', six);
    },
    async describeSubnets(ids, signal) {
      const answer = await read('DescribeSubnets', { SubnetId: ids }, signal);
      return itemsAt(answer, 'subnetSet').map(readSubnet);
    },
    async describeVpcSubnets(vpcId, zone, signal) {
      const params = {
        Filter: [named('vpc-id', [vpcId]), named('availability-zone', [zone])],
        MaxResults: PAGE,
      };
      const request = { action: 'DescribeSubnets', params, repeatable: true, signal };
      return callPaged(client, request, 'subnetSet', readSubnet);
    },
    async describeSecurityGroups(vpcId, signal) {
      const params = { Filter: [named('vpc-id', [vpcId])], MaxResults: PAGE };
      const request = { action: 'DescribeSecurityGroups', params, repeatable: true, signal };
      const read = (item: XmlElement) => ({ id: textAt(item, 'groupId'), tags: readTags(item) });
      return callPaged(client, request, 'securityGroupInfo', read);
    },
    async setSecurityGroups(eniId, groupIds, signal) {
      const params = { NetworkInterfaceId: eniId, SecurityGroupId: groupIds };
      await change('ModifyNetworkInterfaceAttribute', params, true, signal);
    },
    async createTags(eniId, tags, signal) {
      const Tag = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
      await change('CreateTags', { ResourceId: [eniId], Tag }, true, signal);
    },
    async describeInstanceType(instanceType, signal) {
      const answer = await read('DescribeInstanceTypes', { InstanceType: [instanceType] }, signal);
      const found = itemsAt(answer, 'instanceTypeSet')[0];
      const network = at(found, 'networkInfo');
      const enis = Number(textAt(network, 'maximumNetworkInterfaces'));
      const ipv4PerEni = Number(textAt(network, 'ipv4AddressesPerInterface'));
      if (!(enis > 0) || !(ipv4PerEni > 0)) {
        throw new CloudError(
          'DescribeInstanceTypes',
          'InvalidInstanceType',
          `EC2 gives no limits for ${instanceType}`,
        );
      }
      return {
        instanceType,
        enis,
        ipv4PerEni,
        ipv6PerEni: Number(textAt(network, 'ipv6AddressesPerInterface')),
        networkCards: itemsAt(network, 'networkCards').map((card) => ({
          index: Number(textAt(card, 'networkCardIndex')),
          enis: Number(textAt(card, 'maximumNetworkInterfaces')),
        })),
        hypervisor: textAt(found, 'hypervisor'),
        bareMetal: textAt(found, 'bareMetal') === 'true',
      };
    },
    ...trunkCalls(client),
    ...groupCalls(client),
  };
}

const isOnce = (filter: EniFilter): boolean => filter.kind === 'ids' && filter.once === true;

/** By filter and page always, also for ids: EC2 has a smaller bucket for describes that name neither. */
const filterParams = (filter: EniFilter): Record<string, QueryValue> => ({
  Filter: filtersOf(filter),
  MaxResults: PAGE,
});

/** Throws for the first id that was not found, as EC2 does when it is asked for ids. */
function allOf(ids: readonly EniId[], found: readonly EniDescription[]): void {
  const absent = ids.find((id) => !found.some((eni) => eni.id === id));
  if (absent === undefined) return;
  throw new CloudError(
    'DescribeNetworkInterfaces',
    'InvalidNetworkInterfaceID.NotFound',
    `The networkInterface ID '${absent}' does not exist`,
  );
}

const named = (Name: string, Value: readonly string[]): QueryValue => ({ Name, Value });

function filtersOf(filter: EniFilter): QueryValue[] {
  switch (filter.kind) {
    case 'ids':
      return [named('network-interface-id', filter.ids)];
    case 'instance':
      return [named('attachment.instance-id', [filter.instanceId])];
    case 'addresses':
      return [
        named('subnet-id', [filter.subnetId]),
        named('addresses.private-ip-address', filter.ips.map(formatIp)),
      ];
    case 'subnet':
      return [named('subnet-id', [filter.subnetId])];
    case 'tags':
      return [
        ...Object.entries(filter.tags).map(([key, value]) => named(`tag:${key}`, [value].flat())),
        ...(filter.loose ? [named('status', ['available'])] : []),
      ];
  }
}

const ipv6Params = (ipv6s: CreateEni['ipv6s'] = 0): Record<string, QueryValue> =>
  typeof ipv6s === 'number'
    ? ipv6s > 0
      ? { Ipv6AddressCount: ipv6s }
      : {}
    : { Ipv6Addresses: ipv6s.map((ip) => ({ Ipv6Address: formatIp(ip) })) };

const tagParams = (tags: Tags): QueryValue[] => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

const readTags = (element: XmlElement): Tags =>
  Object.fromEntries(itemsAt(element, 'tagSet').map((tag) => [textAt(tag, 'key'), textAt(tag, 'value')]));

export function readSubnet(item: XmlElement): SubnetDescription {
  const associated = itemsAt(item, 'ipv6CidrBlockAssociationSet').find((one) =>
    ['associating', 'associated'].includes(textAt(one, 'ipv6CidrBlockState', 'state')),
  );
  const ipv6Cidr = associated ? parseCidr(textAt(associated, 'ipv6CidrBlock')) : null;
  const text = textAt(item, 'cidrBlock');
  return {
    id: textAt(item, 'subnetId'),
    zone: textAt(item, 'availabilityZone'),
    cidr: text === '' && ipv6Cidr ? ipv6Cidr : parseCidr(text),
    ipv6Cidr,
    availableIps: Number(textAt(item, 'availableIpAddressCount')),
    tags: readTags(item),
  };
}

function required(element: XmlElement, action: string, name: string): XmlElement {
  const found = at(element, name);
  if (!found) throw new CloudError(action, 'Unavailable', `the answer has no <${name}>`, true);
  return found;
}

export function readEni(item: XmlElement): EniDescription {
  const prefixes = (list: string, name: string): Cidr[] =>
    itemsAt(item, list).map((one) => parseCidr(textAt(one, name)));
  return {
    id: textAt(item, 'networkInterfaceId') as EniId,
    mac: parseMac(textAt(item, 'macAddress')),
    subnetId: textAt(item, 'subnetId'),
    vpcId: textAt(item, 'vpcId'),
    zone: textAt(item, 'availabilityZone'),
    description: textAt(item, 'description'),
    interfaceType: textAt(item, 'interfaceType') || 'interface',
    status: textAt(item, 'status'),
    groupIds: itemsAt(item, 'groupSet').map((group) => textAt(group, 'groupId')),
    addresses: readAddresses(item),
    ipv6Addresses: itemsAt(item, 'ipv6AddressesSet').map(
      (one): Ipv6 => parseIpv6(textAt(one, 'ipv6Address')),
    ),
    ipv4Prefixes: prefixes('ipv4PrefixSet', 'ipv4Prefix'),
    ipv6Prefixes: prefixes('ipv6PrefixSet', 'ipv6Prefix'),
    attachment: readAttachment(at(item, 'attachment')),
    requesterId: textAt(item, 'requesterId'),
    tags: readTags(item),
  };
}

function readAddresses(item: XmlElement): EniDescription['addresses'] {
  const all = itemsAt(item, 'privateIpAddressesSet').map((one) => ({
    ip: parseIpv4(textAt(one, 'privateIpAddress')) as Ipv4,
    primary: textAt(one, 'primary') === 'true',
    public: textAt(one, 'association', 'publicIp') !== '',
  }));
  return all.sort((a, b) => Number(b.primary) - Number(a.primary));
}

function readAttachment(item: XmlElement | undefined): EniAttachment | null {
  if (!item || textAt(item, 'attachmentId') === '') return null;
  return {
    id: textAt(item, 'attachmentId'),
    instanceId: textAt(item, 'instanceId'),
    deviceIndex: Number(textAt(item, 'deviceIndex')),
    networkCard: Number(textAt(item, 'networkCardIndex') || 0),
    status: textAt(item, 'status') as EniAttachment['status'],
    deleteOnTermination: textAt(item, 'deleteOnTermination') === 'true',
  };
}
