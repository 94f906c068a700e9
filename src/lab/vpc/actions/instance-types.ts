// Instance types and where they are offered: everywhere in the lab, which has those of data/instance-limits.json.
// Fails with InvalidInstanceType for a type that is not among them.
import type * as ec2 from '@aws-sdk/client-ec2';
import { Ec2Error, invalidValue } from '../errors.ts';
import { hardwareOf } from '../hardware.ts';
import { instanceTypes, ipv6PerEni, limitsOf } from '../limits.ts';
import type { VpcState } from '../model.ts';
import { select } from '../select.ts';
import { zoneId } from './account.ts';
import { architectureOf } from './instance-answers.ts';
import type { Meanings } from './types.ts';

const typeInfo = (state: VpcState, name: string): ec2.InstanceTypeInfo => {
  const limits = limitsOf(state, name);
  if (!limits)
    throw new Ec2Error(
      'InvalidInstanceType',
      `The following supplied instance types do not exist: [${name}]`,
    );
  return {
    InstanceType: name as ec2._InstanceType,
    CurrentGeneration: !PREVIOUS.has(name.slice(0, name.indexOf('.'))),
    BareMetal: limits.isBareMetal,
    ...(limits.hypervisor === 'nitro' || limits.hypervisor === 'xen'
      ? { Hypervisor: limits.hypervisor as ec2.InstanceTypeHypervisor }
      : {}),
    SupportedRootDeviceTypes: ['ebs'],
    SupportedUsageClasses: ['on-demand'],
    SupportedVirtualizationTypes: ['hvm'],
    ProcessorInfo: { SupportedArchitectures: [architectureOf(name)] },
    ...hardwareOf(name),
    NetworkInfo: {
      MaximumNetworkInterfaces: limits.networkCards.reduce((sum, card) => sum + card.maxENIs, 0),
      MaximumNetworkCards: limits.networkCards.length,
      DefaultNetworkCardIndex: limits.defaultNetworkCard,
      NetworkCards: limits.networkCards.map((card) => ({
        NetworkCardIndex: card.index,
        MaximumNetworkInterfaces: card.maxENIs,
      })),
      Ipv4AddressesPerInterface: limits.ipv4PerENI,
      Ipv6AddressesPerInterface: ipv6PerEni(limits, name),
      Ipv6Supported: ipv6PerEni(limits, name) > 0,
    },
  };
};

/** Families of which EC2 says that they are no longer the current generation. */
const PREVIOUS = new Set(['t1', 'm1', 'm2', 'm3', 'c1', 'c3', 'cc2', 'cr1', 'g2', 'hs1', 'i2', 'r3']);
const MAX_TYPES = 100;

export const instanceTypeActions: Meanings<'DescribeInstanceTypes' | 'DescribeInstanceTypeOfferings'> = {
  DescribeInstanceTypes: (ctx, input) => {
    const names = input.InstanceTypes?.length ? (input.InstanceTypes as string[]) : instanceTypes();
    const { items, nextToken } = select<ec2.InstanceTypeInfo>(
      {
        items: names.map((name) => typeInfo(ctx.draft.state, name)),
        idOf: (type) => type.InstanceType ?? '',
        maxPage: MAX_TYPES,
        unknown: UNKNOWN_FILTERS,
        filters: {
          'instance-type': (type) => type.InstanceType,
          'bare-metal': (type) => type.BareMetal,
          hypervisor: (type) => type.Hypervisor,
          'current-generation': (type) => type.CurrentGeneration,
          'network-info.maximum-network-interfaces': (type) => type.NetworkInfo?.MaximumNetworkInterfaces,
          'network-info.maximum-network-cards': (type) => type.NetworkInfo?.MaximumNetworkCards,
          'network-info.ipv4-addresses-per-interface': (type) => type.NetworkInfo?.Ipv4AddressesPerInterface,
          'network-info.ipv6-supported': (type) => type.NetworkInfo?.Ipv6Supported,
          'network-info.ipv6-addresses-per-interface': (type) => type.NetworkInfo?.Ipv6AddressesPerInterface,
          'processor-info.supported-architecture': (type) => type.ProcessorInfo?.SupportedArchitectures,
          'supported-root-device-type': (type) => type.SupportedRootDeviceTypes,
          'supported-usage-class': (type) => type.SupportedUsageClasses,
          'supported-virtualization-type': (type) => type.SupportedVirtualizationTypes,
          'vcpu-info.default-vcpus': (type) => type.VCpuInfo?.DefaultVCpus,
          'vcpu-info.default-cores': (type) => type.VCpuInfo?.DefaultCores,
          'vcpu-info.default-threads-per-core': (type) => type.VCpuInfo?.DefaultThreadsPerCore,
          'memory-info.size-in-mib': (type) => type.MemoryInfo?.SizeInMiB,
        },
      },
      { ...input, MaxResults: input.MaxResults ?? MAX_TYPES },
    );
    return { InstanceTypes: items, ...(nextToken ? { NextToken: nextToken } : {}) };
  },

  DescribeInstanceTypeOfferings: (ctx, input) => {
    const { state } = ctx.draft;
    const places: Record<string, string[]> = {
      region: [state.region],
      'availability-zone': state.zones,
      'availability-zone-id': state.zones.map((zone) => zoneId(state, zone)),
    };
    const kind = (input.LocationType as string | undefined) ?? 'region';
    const locations = Object.hasOwn(places, kind) ? places[kind] : undefined;
    if (!locations) throw invalidValue(`Value (${kind}) for parameter locationType is invalid.`);
    const { items, nextToken } = select<ec2.InstanceTypeOffering>(
      {
        items: instanceTypes().flatMap((type) =>
          locations.map((Location) => ({
            InstanceType: type as ec2._InstanceType,
            LocationType: kind as ec2.LocationType,
            Location,
          })),
        ),
        idOf: (offering) => `${offering.InstanceType}/${offering.Location}`,
        filters: {
          'instance-type': (offering) => offering.InstanceType,
          location: (offering) => offering.Location,
        },
      },
      input,
    );
    return { InstanceTypeOfferings: items, ...(nextToken ? { NextToken: nextToken } : {}) };
  },
};

/** On what each type has and data/instance-limits.json says nothing of. */
const UNKNOWN_FILTERS = [
  'auto-recovery-supported',
  'burstable-performance-supported',
  'dedicated-hosts-supported',
  'ebs-info.attachment-limit-type',
  'ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps',
  'ebs-info.ebs-optimized-info.baseline-iops',
  'ebs-info.ebs-optimized-info.baseline-throughput-in-mbps',
  'ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps',
  'ebs-info.ebs-optimized-info.maximum-iops',
  'ebs-info.ebs-optimized-info.maximum-throughput-in-mbps',
  'ebs-info.ebs-optimized-support',
  'ebs-info.encryption-support',
  'ebs-info.maximum-ebs-attachments',
  'ebs-info.nvme-support',
  'free-tier-eligible',
  'hibernation-supported',
  'instance-storage-info.disk.count',
  'instance-storage-info.disk.size-in-gb',
  'instance-storage-info.disk.type',
  'instance-storage-info.encryption-support',
  'instance-storage-info.nvme-support',
  'instance-storage-info.total-size-in-gb',
  'instance-storage-supported',
  'network-info.bandwidth-weightings',
  'network-info.efa-info.maximum-efa-interfaces',
  'network-info.efa-supported',
  'network-info.ena-support',
  'network-info.encryption-in-transit-supported',
  'network-info.flexible-ena-queues-support',
  'network-info.network-performance',
  'nitro-enclaves-support',
  'nitro-tpm-info.supported-versions',
  'nitro-tpm-support',
  'processor-info.supported-features',
  'processor-info.sustained-clock-speed-in-ghz',
  'reboot-migration-support',
  'supported-boot-mode',
  'vcpu-info.valid-cores',
  'vcpu-info.valid-threads-per-core',
];
