// Filters of DescribeInstances and DescribeInstanceStatus: all that EC2 documents. What no instance of the lab has
// (volumes, dedicated hosts, Spot requests) is filtered by nothing, and so matches nothing, as on EC2.
import type { Context } from '../context.ts';
import type { Instance } from '../model.ts';
import { absent, type Filters } from '../select.ts';
import { zoneId } from './account.ts';
import { interfacesOf } from './attachments.ts';
import { instanceAnswer, stateAnswer } from './instance-answers.ts';
import { filtersOnInterfacesOf } from './interface-filters.ts';

export function instanceFilters(ctx: Context): Filters<Instance> {
  const { state } = ctx.draft;
  const answer = (instance: Instance) => instanceAnswer(state, instance);
  const enis = (instance: Instance) => interfacesOf(state, instance.id);
  const groups = (instance: Instance) => enis(instance)[0]?.groupIds ?? [];
  return {
    ...filtersOnInterfacesOf(state, enis),
    'instance-id': (i) => i.id,
    'instance-state-name': (i) => i.state,
    'instance-state-code': (i) => stateAnswer(i.state).Code,
    'instance-type': (i) => i.instanceType,
    'image-id': (i) => i.imageId,
    'subnet-id': (i) => answer(i).SubnetId,
    'vpc-id': (i) => answer(i).VpcId,
    'availability-zone': (i) => i.zone,
    'availability-zone-id': (i) => zoneId(state, i.zone),
    'client-token': (i) => i.clientToken,
    'key-name': (i) => i.keyName,
    'reservation-id': (i) => i.reservationId,
    'owner-id': () => state.accountId,
    'private-ip-address': (i) => answer(i).PrivateIpAddress,
    'ipv6-address': (i) => answer(i).Ipv6Address,
    'private-dns-name': (i) => answer(i).PrivateDnsName,
    'ip-address': (i) => answer(i).PublicIpAddress,
    'dns-name': (i) => answer(i).PublicDnsName,
    architecture: (i) => answer(i).Architecture,
    'source-dest-check': (i) => answer(i).SourceDestCheck,
    'launch-time': (i) => new Date(i.launchTime).toISOString(),
    'launch-index': (i) => i.launchIndex ?? 0,
    reason: (i) => answer(i).StateTransitionReason,
    'state-reason-code': (i) => answer(i).StateReason?.Code,
    'state-reason-message': (i) => answer(i).StateReason?.Message,
    'instance.group-id': groups,
    'instance.group-name': (i) => groups(i).map((id) => state.securityGroups[id]?.name),
    'iam-instance-profile.arn': (i) => answer(i).IamInstanceProfile?.Arn,
    'iam-instance-profile.id': (i) => answer(i).IamInstanceProfile?.Id,
    'metadata-options.state': () => 'applied',
    'metadata-options.http-tokens': (i) => i.httpTokens,
    'metadata-options.http-endpoint': (i) => i.httpEndpoint,
    'metadata-options.http-put-response-hop-limit': (i) => i.hopLimit,
    'metadata-options.http-protocol-ipv4': (i) => i.httpEndpoint,
    'metadata-options.http-protocol-ipv6': (i) => i.httpProtocolIpv6 ?? 'disabled',
    'metadata-options.instance-metadata-tags': () => 'disabled',
    'root-device-name': (i) => answer(i).RootDeviceName,
    'root-device-type': (i) => answer(i).RootDeviceType,
    'virtualization-type': (i) => answer(i).VirtualizationType,
    hypervisor: (i) => answer(i).Hypervisor,
    'ena-support': (i) => answer(i).EnaSupport,
    'ebs-optimized': (i) => answer(i).EbsOptimized,
    'monitoring-state': (i) => answer(i).Monitoring?.State,
    tenancy: () => 'default',
    'enclave-options.enabled': () => false,
    'hibernation-options.configured': () => false,
    'maintenance-options.auto-recovery': () => 'default',
    'operator.managed': () => false,
    'platform-details': () => 'Linux/UNIX',
    'usage-operation': () => 'RunInstances',
    'usage-operation-update-time': (i) => new Date(i.launchTime).toISOString(),
    'private-dns-name-options.hostname-type': () => 'ip-name',
    'private-dns-name-options.enable-resource-name-dns-a-record': () => false,
    'private-dns-name-options.enable-resource-name-dns-aaaa-record': () => false,
    'capacity-reservation-specification.capacity-reservation-preference': () => 'open',
    'network-performance-options.bandwidth-weighting': () => 'default',
    ...absent(
      'affinity',
      'block-device-mapping.attach-time',
      'block-device-mapping.delete-on-termination',
      'block-device-mapping.device-name',
      'block-device-mapping.status',
      'block-device-mapping.volume-id',
      'boot-mode',
      'capacity-reservation-id',
      'capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id',
      'capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn',
      'current-instance-boot-mode',
      'host-id',
      'instance-lifecycle',
      'kernel-id',
      'operator.principal',
      'outpost-arn',
      'placement-group-name',
      'placement-partition-number',
      'platform',
      'product-code',
      'product-code.type',
      'ramdisk-id',
      'requester-id',
      'spot-instance-request-id',
      'tpm-support',
    ),
  };
}

const OWN_OF_STATUS = [
  'availability-zone',
  'availability-zone-id',
  'instance-state-code',
  'instance-state-name',
];

/** DescribeInstanceStatus knows a few of them, and the health of an instance, which is good while it runs. */
export function statusFilters(ctx: Context): Filters<Instance> {
  const all = instanceFilters(ctx);
  const running = (i: Instance) => i.state === 'running';
  const health = (i: Instance) => (running(i) ? 'ok' : 'not-applicable');
  const reachability = (i: Instance) => (running(i) ? 'passed' : undefined);
  return {
    ...Object.fromEntries([...OWN_OF_STATUS, 'operator.managed'].map((name) => [name, all[name]!])),
    'instance-status.status': health,
    'system-status.status': health,
    'attached-ebs-status.status': health,
    'instance-status.reachability': reachability,
    'system-status.reachability': reachability,
    ...absent(
      'application-status.status',
      'event.code',
      'event.description',
      'event.instance-event-id',
      'event.not-after',
      'event.not-before',
      'event.not-before-deadline',
      'operator.principal',
    ),
  };
}
