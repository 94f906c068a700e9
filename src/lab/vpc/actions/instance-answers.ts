// How instances look in answers, and the names that EC2 has for their states.
import type * as ec2 from '@aws-sdk/client-ec2';
import type { Instance, InstanceState, VpcState } from '../model.ts';
import { zoneId } from './account.ts';
import { interfacesOf } from './attachments.ts';
import {
  groupIdentifiers,
  instanceInterfaceAnswer,
  privateDnsName,
  publicAddressOf,
  publicDnsName,
  resourceName,
} from './interface-answers.ts';
import { tagsWhenAny } from './tags.ts';

const CODES: Record<InstanceState, number> = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
};
export const stateAnswer = (state: InstanceState): ec2.InstanceState => ({ Code: CODES[state], Name: state });

const REASONS: Partial<Record<InstanceState, { code: string; message: string }>> = {
  stopping: {
    code: 'Client.UserInitiatedShutdown',
    message: 'Client.UserInitiatedShutdown: User initiated shutdown',
  },
  stopped: {
    code: 'Client.UserInitiatedShutdown',
    message: 'Client.UserInitiatedShutdown: User initiated shutdown',
  },
  'shutting-down': {
    code: 'Client.UserInitiatedShutdown',
    message: 'Client.UserInitiatedShutdown: User initiated shutdown',
  },
  terminated: {
    code: 'Client.UserInitiatedShutdown',
    message: 'Client.UserInitiatedShutdown: User initiated shutdown',
  },
  pending: { code: 'pending', message: 'pending' },
};

/** EC2's words for who ended the instance and when: `User initiated (2026-01-02 03:04:05 GMT)`. */
const endedWords = ({ endedByUserAt: at }: Instance): string =>
  at === undefined ? '' : `User initiated (${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} GMT)`;

export const PROFILE_ID = 'AIPAPODWAYNODEPROFILE';
export const profileArn = (state: VpcState, name: string): string =>
  `arn:aws:iam::${state.accountId}:instance-profile/${name}`;
const profile = (state: VpcState, name: string): ec2.IamInstanceProfile => ({
  Arn: profileArn(state, name),
  Id: PROFILE_ID,
});

/** A `g` after the generation's number is Graviton: c7gn, m6gd; `g5g` too, `g5` not. */
export const architectureOf = (instanceType: string): 'arm64' | 'x86_64' =>
  /^(a1|[a-z]+[0-9]+g)/.test(instanceType) ? 'arm64' : 'x86_64';

export const ROOT_DEVICE = '/dev/xvda';

export const metadataOptions = (instance: Instance): ec2.InstanceMetadataOptionsResponse => ({
  State: 'applied',
  HttpTokens: instance.httpTokens,
  HttpPutResponseHopLimit: instance.hopLimit,
  HttpEndpoint: instance.httpEndpoint,
  HttpProtocolIpv6: instance.httpProtocolIpv6 ?? 'disabled',
  InstanceMetadataTags: 'disabled',
});

export function instanceAnswer(state: VpcState, instance: Instance): ec2.Instance {
  const enis = interfacesOf(state, instance.id);
  const primary = enis[0];
  const primaryIp = primary?.privateIps[0];
  const publicIp = primary && publicAddressOf(state, primary.id, primaryIp)?.publicIp;
  const reason = REASONS[instance.state];
  return {
    InstanceId: instance.id,
    ImageId: instance.imageId,
    InstanceType: instance.instanceType as ec2._InstanceType,
    State: stateAnswer(instance.state),
    StateTransitionReason: endedWords(instance),
    ...(reason ? { StateReason: { Code: reason.code, Message: reason.message } } : {}),
    LaunchTime: new Date(instance.launchTime),
    AmiLaunchIndex: instance.launchIndex ?? 0,
    ...(instance.instanceProfile === undefined
      ? {}
      : { IamInstanceProfile: profile(state, instance.instanceProfile) }),
    ...(instance.keyName === undefined ? {} : { KeyName: instance.keyName }),
    Placement: {
      AvailabilityZone: instance.zone,
      AvailabilityZoneId: zoneId(state, instance.zone),
      GroupName: '',
      Tenancy: 'default',
    },
    Monitoring: { State: 'disabled' },
    ProductCodes: [],
    BlockDeviceMappings: [],
    Architecture: architectureOf(instance.instanceType),
    Hypervisor: 'xen',
    VirtualizationType: 'hvm',
    EnaSupport: true,
    EbsOptimized: false,
    RootDeviceName: ROOT_DEVICE,
    RootDeviceType: 'ebs',
    ...(instance.state === 'terminated' ? {} : { SubnetId: instance.subnetId, VpcId: instance.vpcId }),
    PrivateDnsName:
      primaryIp !== undefined
        ? privateDnsName(state, primaryIp)
        : primary?.ipv6Addresses.length
          ? resourceName(state, instance.id)
          : '',
    PublicDnsName: publicIp === undefined ? '' : publicDnsName(state, instance.vpcId, publicIp),
    ...(primaryIp === undefined ? {} : { PrivateIpAddress: primaryIp }),
    ...(primary?.ipv6Addresses[0] === undefined ? {} : { Ipv6Address: primary.ipv6Addresses[0] }),
    ...(publicIp === undefined ? {} : { PublicIpAddress: publicIp }),
    ...(primary ? { SourceDestCheck: primary.sourceDestCheck } : {}),
    SecurityGroups: groupIdentifiers(state, primary?.groupIds ?? []),
    NetworkInterfaces: enis.map((eni) => instanceInterfaceAnswer(state, eni)),
    MetadataOptions: metadataOptions(instance),
    ...(instance.clientToken === undefined ? {} : { ClientToken: instance.clientToken }),
    ...tagsWhenAny(instance.tags),
  };
}
