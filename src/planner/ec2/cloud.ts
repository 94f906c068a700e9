// The modelled EC2 as the pool sees it: the same port that the agent's EC2 client has.
import { type Cidr, formatCidr, type Ipv4 } from '../../base/ip.ts';
import { type Cloud, CloudError, type EniDescription } from '../../cloud/port.ts';
import { GROUP, type ModelEc2, ZONE } from './model.ts';

export function cloudOf(ec2: ModelEc2): Cloud {
  const describeSubnet = (id: string) => {
    const subnet = ec2.subnet(id, 'DescribeSubnets');
    return { id, zone: ZONE, cidr: subnet.cidr, ipv6Cidr: null, availableIps: subnet.free, tags: {} };
  };
  const refuseSix = () => {
    throw new CloudError('AssignIpv6Addresses', 'UnsupportedOperation', 'IPv6 is not modelled');
  };
  return {
    describeNetworkInterfaces: (filter, signal) =>
      ec2.call(
        'DescribeNetworkInterfaces',
        () => {
          if (filter.kind === 'ids')
            return filter.ids.map((id) => copy(ec2.eni(id, 'DescribeNetworkInterfaces')));
          if (filter.kind === 'instance')
            return ec2.isRunning(filter.instanceId)
              ? [...ec2.instance(filter.instanceId, '').enis.values()].map(copy)
              : [];
          const all = [...ec2.enis.values()];
          if (filter.kind === 'subnet')
            return all.filter((eni) => eni.subnetId === filter.subnetId).map(copy);
          if (filter.kind === 'addresses')
            return all
              .filter((eni) => eni.subnetId === filter.subnetId)
              .filter((eni) => eni.addresses.some((one) => filter.ips.includes(one.ip)))
              .map(copy);
          const wanted = Object.entries(filter.tags);
          return all.filter((eni) => wanted.every(([key, value]) => eni.tags[key] === value)).map(copy);
        },
        signal,
      ),
    createNetworkInterface: (request, signal) =>
      ec2.call('CreateNetworkInterface', () => copy(ec2.make(request)), signal),
    attachNetworkInterface: ({ eniId, instanceId, deviceIndex }, signal) =>
      ec2.call('AttachNetworkInterface', () => ec2.attach(eniId, instanceId, deviceIndex), signal),
    detachNetworkInterface: (attachmentId, signal) =>
      ec2.call('DetachNetworkInterface', () => ec2.detach(attachmentId), signal),
    deleteNetworkInterface: (eniId, signal) =>
      ec2.call('DeleteNetworkInterface', () => ec2.remove(eniId), signal),
    setDeleteOnTermination: (eniId, attachmentId, signal) =>
      ec2.call(
        'ModifyNetworkInterfaceAttribute',
        () => {
          const { attachment } = ec2.eni(eniId, 'ModifyNetworkInterfaceAttribute');
          if (attachment?.id !== attachmentId)
            throw new CloudError(
              'ModifyNetworkInterfaceAttribute',
              'InvalidAttachmentID.NotFound',
              `${attachmentId} does not exist`,
            );
          attachment.deleteOnTermination = true;
        },
        signal,
      ),
    assignPrivateIps: (eniId, count, signal) =>
      ec2.call('AssignPrivateIpAddresses', () => ec2.assign(eniId, count), signal),
    assignTheseIps: (eniId, ips, signal) =>
      ec2.call('AssignPrivateIpAddresses', () => ec2.assignThese(eniId, ips), signal),
    assignPrefixes: (eniId, count, signal) =>
      ec2.call('AssignPrivateIpAddresses', () => ec2.assignBlocks(eniId, count), signal),
    assignThesePrefixes: (eniId, prefixes) => {
      // Only a restored prefix is asked for by name, and nothing takes prefixes from a simulated node.
      const text = `${eniId}: ${prefixes.map(formatCidr).join(', ')}: prefixes by name are not modelled`;
      throw new CloudError('AssignPrivateIpAddresses', 'UnsupportedOperation', text);
    },
    assignIpv6Prefixes: refuseSix,
    assignTheseIpv6Prefixes: refuseSix,
    async unassign(eniId, { ips, prefixes }, signal) {
      const none = new Set<Ipv4>();
      const action = 'UnassignPrivateIpAddresses';
      if (ips.length > 0)
        await ec2.call(action, () => ec2.unassign(eniId, new Set(ips as Ipv4[]), none), signal);
      if (prefixes.length === 0) return;
      const blocks = new Set(prefixes.map((one: Cidr) => one.ip as Ipv4));
      await ec2.call(action, () => ec2.unassign(eniId, none, blocks), signal);
    },
    describeSubnets: (ids, signal) => ec2.call('DescribeSubnets', () => ids.map(describeSubnet), signal),
    describeVpcSubnets: (_vpcId, _zone, signal) =>
      ec2.call('DescribeSubnets', () => ec2.o.subnets.map((one) => describeSubnet(one.id)), signal),
    describeSecurityGroups: (_vpcId, signal) =>
      ec2.call('DescribeSecurityGroups', () => [{ id: GROUP, tags: {} }], signal),
    setSecurityGroups: (eniId, groupIds, signal) =>
      ec2.call(
        'ModifyNetworkInterfaceAttribute',
        () => {
          ec2.eni(eniId, 'ModifyNetworkInterfaceAttribute').groupIds = [...groupIds];
        },
        signal,
      ),
    createTags: (eniId, tags, signal) =>
      ec2.call(
        'CreateTags',
        () => {
          const eni = ec2.eni(eniId, 'CreateTags');
          eni.tags = { ...eni.tags, ...tags };
        },
        signal,
      ),
    describeInstanceType: (instanceType, signal) =>
      ec2.call(
        'DescribeInstanceTypes',
        () => {
          const { enis, ipv4PerEni, ipv6PerEni, networkCards } = ec2.o.limits;
          const cards = [...networkCards];
          return {
            instanceType,
            enis,
            ipv4PerEni,
            ipv6PerEni,
            networkCards: cards,
            hypervisor: 'nitro',
            bareMetal: false,
          };
        },
        signal,
      ),
  };
}

const copy = (eni: EniDescription): EniDescription => ({
  ...eni,
  groupIds: [...eni.groupIds],
  addresses: [...eni.addresses],
  ipv4Prefixes: [...eni.ipv4Prefixes],
  attachment: eni.attachment && { ...eni.attachment },
});
