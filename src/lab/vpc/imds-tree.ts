// What an instance's metadata says, as a tree of values computed from the VPC's state. A key that does not apply is
// absent, and so not listed and 404. Source: EC2 user guide, "Instance metadata categories".
import { zoneId } from './actions/account.ts';
import { interfacesOf } from './actions/attachments.ts';
import { instanceAnswer, PROFILE_ID, profileArn } from './actions/instance-answers.ts';
import { privateDnsName, publicAddressOf, publicDnsName, resourceName } from './actions/interface-answers.ts';
import { ipv6CidrsOf } from './ipv6.ts';
import type { RoleCredentials } from './keys.ts';
import { limitsOf } from './limits.ts';
import type { Instance, NetworkInterface, VpcState } from './model.ts';

export type ImdsNode = (() => string) | { [name: string]: ImdsNode | undefined };

export type ImdsSource = {
  now(): number;
  roleName(): string;
  credentials(instanceId: string): RoleCredentials;
};

const leaf =
  (text: string): (() => string) =>
  () =>
    text;
const lines = (items: readonly string[]): (() => string) | undefined =>
  items.length ? leaf(items.join('\n')) : undefined;
const isoSeconds = (ms: number): string => new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');

/** Versions of the service that clients ask for by name (cloud-init for 2009-04-04); all show the same tree. */
export const VERSIONS: readonly string[] = [
  '1.0',
  '2007-01-19',
  '2007-03-01',
  '2007-08-29',
  '2007-10-10',
  '2007-12-15',
  '2008-02-01',
  '2008-09-01',
  '2009-04-04',
  '2011-01-01',
  '2011-05-01',
  '2012-01-12',
  '2014-02-25',
  '2014-11-05',
  '2015-10-20',
  '2016-04-19',
  '2016-06-30',
  '2016-09-02',
  '2018-03-28',
  '2018-08-17',
  '2018-09-24',
  '2019-10-01',
  '2020-10-27',
  '2021-01-03',
  '2021-03-23',
  '2021-07-15',
  '2022-07-09',
  '2022-09-24',
  '2024-04-11',
  'latest',
];

/** `bare`: interfaces of which only the directory is there yet. */
export function imdsTree(
  source: ImdsSource,
  state: VpcState,
  instance: Instance,
  bare: ReadonlySet<string> = new Set(),
): ImdsNode {
  // An interface shows from the moment it is attached until it is gone.
  const enis = interfacesOf(state, instance.id).filter((eni) => eni.attachment?.status !== 'attaching');
  const version: ImdsNode = {
    dynamic: { 'instance-identity': { document: () => identityDocument(state, instance) } },
    'meta-data': metaData(source, state, instance, enis, bare),
    'user-data':
      instance.userData === undefined
        ? undefined
        : leaf(Buffer.from(instance.userData, 'base64').toString('utf8')),
  };
  return Object.fromEntries(VERSIONS.map((name) => [name, version]));
}

function metaData(
  source: ImdsSource,
  state: VpcState,
  instance: Instance,
  enis: NetworkInterface[],
  bare: ReadonlySet<string>,
): ImdsNode {
  const primary = enis[0];
  const ip = primary?.privateIps[0];
  const publicIp = primary && publicAddressOf(state, primary.id, ip)?.publicIp;
  const hostname =
    ip !== undefined
      ? leaf(privateDnsName(state, ip))
      : primary?.ipv6Addresses.length
        ? leaf(resourceName(state, instance.id))
        : undefined;
  return {
    'ami-id': leaf(instance.imageId),
    'ami-launch-index': leaf(String(instance.launchIndex ?? 0)),
    'ami-manifest-path': leaf('(unknown)'),
    'block-device-mapping': { ami: leaf('/dev/xvda'), root: leaf('/dev/xvda') },
    events: { maintenance: { history: leaf('[]'), scheduled: leaf('[]') }, recommendations: {} },
    hostname,
    ipv6: primary?.ipv6Addresses[0] === undefined ? undefined : leaf(primary.ipv6Addresses[0]),
    iam: iam(source, state, instance),
    'instance-action': leaf('none'),
    'instance-id': leaf(instance.id),
    'instance-life-cycle': leaf('on-demand'),
    'instance-type': leaf(instance.instanceType),
    'local-hostname': hostname,
    'local-ipv4': ip === undefined ? undefined : leaf(ip),
    mac: primary && leaf(primary.mac),
    network: {
      interfaces: {
        macs: Object.fromEntries(
          enis.map((eni) => [
            eni.mac,
            bare.has(eni.id) ? { mac: leaf(eni.mac) } : interfaceNode(state, instance, eni),
          ]),
        ),
      },
    },
    placement: {
      'availability-zone': leaf(instance.zone),
      'availability-zone-id': leaf(zoneId(state, instance.zone)),
      region: leaf(state.region),
    },
    profile: leaf('default-hvm'),
    'public-hostname':
      publicIp && primary?.vpcId ? textOrNone(publicDnsName(state, primary.vpcId, publicIp)) : undefined,
    'public-ipv4': publicIp === undefined ? undefined : leaf(publicIp),
    'reservation-id': leaf(instance.reservationId),
    'security-groups': lines(groupNames(state, primary)),
    services: { domain: leaf('amazonaws.com'), partition: leaf('aws') },
    system: leaf('nitro'),
  };
}

const textOrNone = (text: string): (() => string) | undefined => (text === '' ? undefined : leaf(text));
const groupNames = (state: VpcState, eni: NetworkInterface | undefined): string[] =>
  (eni?.groupIds ?? []).map((id) => state.securityGroups[id]?.name ?? id);

function iam(source: ImdsSource, state: VpcState, instance: Instance): ImdsNode {
  const role = source.roleName();
  return {
    info: () =>
      JSON.stringify(
        {
          Code: 'Success',
          LastUpdated: isoSeconds(source.credentials(instance.id).issued),
          InstanceProfileArn: profileArn(state, role),
          InstanceProfileId: PROFILE_ID,
        },
        null,
        2,
      ),
    'security-credentials': {
      [role]: () => {
        const credentials = source.credentials(instance.id);
        return JSON.stringify(
          {
            Code: 'Success',
            LastUpdated: isoSeconds(credentials.issued),
            Type: 'AWS-HMAC',
            AccessKeyId: credentials.accessKeyId,
            SecretAccessKey: credentials.secretAccessKey,
            Token: credentials.token,
            Expiration: isoSeconds(credentials.expires),
          },
          null,
          2,
        );
      },
    },
  };
}

function interfaceNode(state: VpcState, instance: Instance, eni: NetworkInterface): ImdsNode {
  const { attachment } = eni;
  const publics = eni.privateIps.flatMap((ip) => publicAddressOf(state, eni.id, ip) ?? []);
  const vpcCidrs = state.vpcs[eni.vpcId]?.cidrs.map((block) => block.cidr) ?? [];
  const cards = limitsOf(state, instance.instanceType)?.networkCards.length ?? 1;
  const first = eni.privateIps[0];
  const primaryPublic = publics.find((address) => address.privateIp === first)?.publicIp;
  return {
    'device-number': leaf(String(attachment?.deviceIndex ?? 0)),
    'interface-id': leaf(eni.id),
    'ipv4-associations': publics.length
      ? Object.fromEntries(publics.map((address) => [address.publicIp, leaf(address.privateIp ?? '')]))
      : undefined,
    'ipv4-prefix': lines(eni.ipv4Prefixes),
    'ipv6-prefix': lines(eni.ipv6Prefixes),
    ipv6s: lines(eni.ipv6Addresses),
    'local-hostname': first === undefined ? undefined : leaf(privateDnsName(state, first)),
    'local-ipv4s': lines(eni.privateIps),
    mac: leaf(eni.mac),
    'network-card': cards > 1 ? leaf(String(attachment?.networkCardIndex ?? 0)) : undefined,
    'owner-id': leaf(state.accountId),
    'public-hostname':
      primaryPublic === undefined ? undefined : textOrNone(publicDnsName(state, eni.vpcId, primaryPublic)),
    'public-ipv4s': lines(publics.map((address) => address.publicIp)),
    'security-group-ids': lines(eni.groupIds),
    'security-groups': lines(groupNames(state, eni)),
    'subnet-id': leaf(eni.subnetId),
    'subnet-ipv4-cidr-block': lines([state.subnets[eni.subnetId]?.cidr ?? ''].filter((cidr) => cidr !== '')),
    'subnet-ipv6-cidr-blocks': lines(ipv6CidrsOf(state.subnets[eni.subnetId])),
    'vpc-id': leaf(eni.vpcId),
    'vpc-ipv4-cidr-block': lines(vpcCidrs.slice(0, 1)),
    'vpc-ipv4-cidr-blocks': lines(vpcCidrs),
    'vpc-ipv6-cidr-blocks': lines(ipv6CidrsOf(state.vpcs[eni.vpcId])),
  };
}

function identityDocument(state: VpcState, instance: Instance): string {
  const answer = instanceAnswer(state, instance);
  return JSON.stringify(
    {
      accountId: state.accountId,
      architecture: answer.Architecture,
      availabilityZone: instance.zone,
      billingProducts: null,
      devpayProductCodes: null,
      marketplaceProductCodes: null,
      imageId: instance.imageId,
      instanceId: instance.id,
      instanceType: instance.instanceType,
      kernelId: null,
      pendingTime: isoSeconds(instance.launchTime),
      privateIp: answer.PrivateIpAddress ?? null,
      ramdiskId: null,
      region: state.region,
      version: '2017-09-30',
    },
    null,
    2,
  );
}
