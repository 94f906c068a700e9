// The subnets of a lab or an AWS account as `ipam subnets` and `ipam defrag plan` show them: EC2's describes beside what
// the lab's agents have idle. Pure but for `survey`. Of AWS alone, without agents to ask, nothing is known to be idle.
import { compareIp, formatCidr, formatIp, type Ipv4, parseIpv4 } from '../base/ip.ts';
import { defaultCredentials, fixedCredentials } from '../cloud/credentials.ts';
import type { Ec2Options } from '../cloud/ec2.ts';
import { createImds } from '../cloud/imds.ts';
import { type SurveyedSubnet, surveySubnets } from '../cloud/survey.ts';
import { addressesByOwner, type DefragStep, type IdleOf, planDefrag } from '../ipam/views/defrag.ts';
import { type SubnetSpace, spaceFigures, subnetSpace } from '../ipam/views/subnet-space.ts';
import type { IpamNode } from '../lab/daemon/protocol.ts';
import { usageError } from './errors.ts';
import { ec2Of, type LabOptions, openLab } from './labs.ts';
import { type SubnetJson, subnetsOf } from './sysdump/cloud-part.ts';
import { Dump } from './sysdump/dump.ts';

export type SubnetOptions = LabOptions & { aws?: boolean; region?: string; vpc?: string; subnet?: string[] };

/** Subnets as EC2 has them now, and the nodes' pools. */
export type Survey = { subnets: SurveyedSubnet[]; nodes: IpamNode[] };

/** `nodes` is empty for AWS. */
export async function survey(options: SubnetOptions): Promise<Survey> {
  if (options.from !== undefined) return ofDump(options.from, options);
  if (options.aws) return { subnets: await surveyed(options), nodes: [] };
  if (options.region !== undefined) throw usageError('--region is of AWS', 'add --aws, or leave it out');
  const { control } = await openLab(options);
  const [subnets, nodes] = await Promise.all([
    surveyed(options),
    control.call<IpamNode[]>('GET', '/v1/ipam'),
  ]);
  return { subnets, nodes };
}

/** EC2's side alone, of AWS or of a lab. */
export async function surveyed(options: SubnetOptions): Promise<SurveyedSubnet[]> {
  const scope = { vpcId: options.vpc, subnetIds: options.subnet };
  if (options.aws) return (await surveySubnets(ofAws(options), scope)).sort(inOrder);
  const { lab, paths } = await openLab(options);
  const { endpoint, region, keys } = ec2Of(lab, paths);
  return (await surveySubnets({ endpoint, region, credentials: fixedCredentials(keys) }, scope)).sort(
    inOrder,
  );
}

/** What was surveyed for a dump. Throws NOT_IN_DUMP, USAGE. */
function ofDump(file: string, { aws, region, vpc, subnet }: SubnetOptions): Survey {
  if (aws || region !== undefined) throw usageError('--from and --aws name two places', 'give one of them');
  const dump = Dump.open(file);
  const isAsked = ({ id, vpcId }: SurveyedSubnet) =>
    (vpc === undefined || vpcId === vpc) && (subnet === undefined || subnet.includes(id));
  return {
    subnets: subnetsOf(dump.answer<SubnetJson[]>('cloud/subnets.json')).filter(isAsked),
    nodes: dump.place.kind === 'lab' ? dump.answer<IpamNode[]>('lab/ipam.json') : [],
  };
}

const inOrder = (a: SurveyedSubnet, b: SurveyedSubnet): number =>
  a.vpcId.localeCompare(b.vpcId) || compareIp(a.cidr.ip, b.cidr.ip);

function ofAws({ region: asked }: SubnetOptions): Ec2Options {
  const region = asked ?? process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'];
  if (!region) throw usageError('no region is named', 'give --region, or set AWS_REGION');
  return { region, credentials: defaultCredentials({ imds: createImds({}), region }) };
}

export type SubnetReport = {
  id: string;
  vpcId: string;
  cidr: string;
  zone: string;
  /** All addresses of the CIDR, and those that AWS does not keep. */
  size: number;
  usable: number;
  /** EC2's count of available addresses. */
  free: number;
  largestFreeRun: number;
  freePrefixes: number;
  /** Null when EC2 does not let the caller ask. */
  reserved: { prefix: number; explicit: number } | null;
  idle: { node: string; addresses: number }[];
  exhaustedInSeconds?: number;
};

export function reportSubnet(subnet: SurveyedSubnet, nodes: readonly IpamNode[]): SubnetReport {
  const { usable, largestFreeRun, freePrefixes, reserved } = spaceFigures(spaceOf(subnet));
  return {
    id: subnet.id,
    vpcId: subnet.vpcId,
    cidr: formatCidr(subnet.cidr),
    zone: subnet.zone,
    size: 2 ** (32 - subnet.cidr.length),
    usable,
    free: subnet.available,
    largestFreeRun,
    freePrefixes,
    reserved: subnet.reservations === null ? null : reserved,
    idle: nodes.flatMap((node) => {
      const count = idleSingles(node, subnet.id).length + idleInPrefixes(node, subnet.id);
      return count > 0 ? [{ node: node.node, addresses: count }] : [];
    }),
  };
}

/** Adds when each subnet is full, if it goes on as it went from `before` (seconds ago) to now. */
export function withForecast(
  reports: readonly SubnetReport[],
  before: readonly SurveyedSubnet[],
  seconds: number,
): SubnetReport[] {
  return reports.map((report) => {
    const earlier = before.find((one) => one.id === report.id);
    const taken = earlier ? earlier.available - report.free : 0;
    return taken > 0
      ? { ...report, exhaustedInSeconds: Math.round((report.free / taken) * seconds) }
      : report;
  });
}

/** The commands that follow a plan. An interface of nobody whose own address is in the way can only be deleted. */
export function commandsOf(
  { subnets }: Survey,
  plans: readonly { steps: readonly DefragStep[] }[],
  flag: string,
): string[] {
  const primaries = new Map(
    subnets.flatMap((subnet) => subnet.interfaces.map((eni) => [eni.id, formatIp(eni.primary)] as const)),
  );
  return addressesByOwner(plans.flatMap((plan) => plan.steps)).map(({ owner, addresses }) => {
    if ('node' in owner) return `podway ipam release-idle ${addresses.join(' ')} --node ${owner.node}${flag}`;
    const id = owner.interface;
    return addresses.includes(primaries.get(id) ?? '')
      ? `aws ec2 delete-network-interface --network-interface-id ${id}`
      : `aws ec2 unassign-private-ip-addresses --network-interface-id ${id} --private-ip-addresses ${addresses.join(' ')}`;
  });
}

export function defragOf(subnet: SurveyedSubnet, nodes: readonly IpamNode[]) {
  // EC2 may have taken or pinned what a pool has idle: only what both say is idle counts.
  const returnable = new Set(
    subnet.interfaces.flatMap((eni) => eni.secondary.filter((one) => !one.public).map((one) => one.ip)),
  );
  const idle: IdleOf[] = nodes.map((node) => {
    const wantsPrefixes = node.addressing !== 'secondary';
    const spare = wantsPrefixes ? Number.POSITIVE_INFINITY : Math.max(0, node.totals.free - node.warm.target);
    return {
      owner: { node: node.node },
      idle: idleSingles(node, subnet.id).filter((ip) => returnable.has(ip)),
      spare,
    };
  });
  const ofNobody = subnet.interfaces
    .filter((eni) => eni.isIdle)
    .map((eni) => ({
      owner: { interface: eni.id },
      idle: [eni.primary, ...eni.secondary.map((one) => one.ip)],
      spare: Number.POSITIVE_INFINITY,
    }));
  return {
    id: subnet.id,
    cidr: formatCidr(subnet.cidr),
    ...planDefrag(spaceOf(subnet), [...idle, ...ofNobody]),
  };
}

const spaceOf = ({ cidr, reservations, interfaces }: SurveyedSubnet): SubnetSpace =>
  subnetSpace({
    cidr,
    reservations: reservations ?? [],
    addresses: interfaces.flatMap((eni) => [eni.primary, ...eni.secondary.map((one) => one.ip)]),
    prefixes: interfaces.flatMap((eni) => eni.prefixes),
  });

const idleSingles = (node: IpamNode, subnetId: string): Ipv4[] =>
  node.enis
    .filter((eni) => eni.subnetId === subnetId)
    .flatMap((eni) => eni.addresses)
    .filter((each) => each.state === 'free' && !each.leaving && !each.missing)
    .map((each) => parseIpv4(each.ip));

const idleInPrefixes = (node: IpamNode, subnetId: string): number =>
  node.enis
    .filter((eni) => eni.subnetId === subnetId)
    .flatMap((eni) => eni.prefixes)
    .reduce((sum, prefix) => sum + prefix.free, 0);
