// What EC2 tells of subnets: their size, what is reserved in them, and which interfaces hold which addresses. For
// operators' commands; the agent asks for much less. Bounded: paged by EC2, subnets asked one after another, at most
// MOST_SUBNETS. Fails with CloudError.
import { type Cidr, type Ipv4, parseCidr, parseIpv4 } from '../base/ip.ts';
import type { Ec2Options } from './ec2.ts';
import { serviceEndpoint } from './endpoint.ts';
import { CloudError } from './port.ts';
import { callPaged, createQueryClient, type QueryClient, type QueryValue } from './query.ts';
import { itemsAt, textAt, type XmlElement } from './xml.ts';

/** Subnets of one survey; a VPC has 200 unless AWS has raised its quota. */
const MOST_SUBNETS = 500;
const PAGE = 1000;

export type SurveyedInterface = {
  id: string;
  instanceId: string | null;
  /** Attached to nothing, made by no AWS service, and not being made by a node of ours. */
  isIdle: boolean;
  primary: Ipv4;
  /** Secondary ones; `public`: a public address maps to it. */
  secondary: { ip: Ipv4; public: boolean }[];
  prefixes: Cidr[];
};

export type SurveyedSubnet = {
  id: string;
  vpcId: string;
  zone: string;
  cidr: Cidr;
  /** EC2's AvailableIpAddressCount. */
  available: number;
  /** Null when the caller may not ask. */
  reservations: { cidr: Cidr; kind: 'prefix' | 'explicit' }[] | null;
  interfaces: SurveyedInterface[];
};

export type SurveyScope = { vpcId?: string | undefined; subnetIds?: readonly string[] | undefined };

export async function surveySubnets(
  options: Ec2Options,
  scope: SurveyScope,
  signal?: AbortSignal,
): Promise<SurveyedSubnet[]> {
  const endpoint = options.endpoint ?? serviceEndpoint('ec2', options.region, options.domain);
  const client = createQueryClient({ ...options, endpoint });
  const described = await describeSubnets(client, scope, signal);
  const surveyed: SurveyedSubnet[] = [];
  for (const subnet of described) {
    const interfaces = await describeInterfaces(client, subnet.id, signal);
    surveyed.push({ ...subnet, reservations: await reservationsOf(client, subnet.id, signal), interfaces });
  }
  return surveyed;
}

async function describeSubnets(client: QueryClient, { vpcId, subnetIds }: SurveyScope, signal?: AbortSignal) {
  const filters = vpcId === undefined ? [] : [filter('vpc-id', vpcId)];
  // EC2 does not page what is asked for by id.
  const params: Record<string, QueryValue> =
    subnetIds && subnetIds.length > 0
      ? { SubnetId: subnetIds, Filter: filters }
      : { Filter: filters, MaxResults: PAGE };
  const call = { action: 'DescribeSubnets', params, repeatable: true, signal };
  const found = await callPaged(client, call, 'subnetSet', (item) => ({
    id: textAt(item, 'subnetId'),
    vpcId: textAt(item, 'vpcId'),
    zone: textAt(item, 'availabilityZone'),
    cidr: parseCidr(textAt(item, 'cidrBlock')),
    available: Number(textAt(item, 'availableIpAddressCount')),
  }));
  if (found.length > MOST_SUBNETS)
    throw new CloudError('DescribeSubnets', 'TooMany', `${found.length} subnets of at most ${MOST_SUBNETS}`);
  return found;
}

function describeInterfaces(client: QueryClient, subnetId: string, signal?: AbortSignal) {
  const params = { Filter: [filter('subnet-id', subnetId)], MaxResults: PAGE };
  const call = { action: 'DescribeNetworkInterfaces', params, repeatable: true, signal };
  return callPaged(client, call, 'networkInterfaceSet', readInterface);
}

async function reservationsOf(client: QueryClient, subnetId: string, signal?: AbortSignal) {
  const params = { SubnetId: subnetId };
  try {
    const call = { action: 'GetSubnetCidrReservations', params, repeatable: true, signal };
    return await callPaged(client, call, 'subnetIpv4CidrReservationSet', (item) => ({
      cidr: parseCidr(textAt(item, 'cidr')),
      kind: textAt(item, 'reservationType') === 'prefix' ? ('prefix' as const) : ('explicit' as const),
    }));
  } catch (error) {
    // Many roles that may describe may not ask for reservations.
    if (error instanceof CloudError && error.code === 'CLOUD_DENIED') return null;
    throw error;
  }
}

const filter = (Name: string, value: string): QueryValue => ({ Name, Value: [value] });

/** An ENI that a node of ours is making, or about to delete, is its own business. */
const isOurs = (item: XmlElement): boolean =>
  itemsAt(item, 'tagSet').some((tag) => textAt(tag, 'key').startsWith('podway.io/'));

function readInterface(item: XmlElement): SurveyedInterface {
  const addresses = itemsAt(item, 'privateIpAddressesSet').map((one) => ({
    ip: parseIpv4(textAt(one, 'privateIpAddress')),
    primary: textAt(one, 'primary') === 'true',
    public: textAt(one, 'association', 'publicIp') !== '',
  }));
  return {
    id: textAt(item, 'networkInterfaceId'),
    instanceId: textAt(item, 'attachment', 'instanceId') || null,
    isIdle:
      textAt(item, 'status') === 'available' && textAt(item, 'requesterManaged') !== 'true' && !isOurs(item),
    primary: parseIpv4(textAt(item, 'privateIpAddress')),
    secondary: addresses
      .filter((one) => !one.primary)
      .map(({ ip, public: isPublic }) => ({ ip, public: isPublic })),
    prefixes: itemsAt(item, 'ipv4PrefixSet').map((one) => parseCidr(textAt(one, 'ipv4Prefix'))),
  };
}
