// The shape of a lab as a value: VPCs, subnets, route tables, security groups, instances, settings. Pods are not shape.
// Built from flags (`defaultShape`) or from lab.yaml (yaml.ts), recorded in the lab's folder, compared here.
import { LabError } from '../daemon/errors.ts';
import type { FaultRequest, Rate } from '../vpc/faults/index.ts';
import { readSettings, type Settings, type SettingTexts, settingRows } from './settings.ts';

/** Targets of routes that are no instances; the second is of IPv6 alone. */
export const EGRESS_ONLY = 'egress-only';
export const GATEWAYS = ['internet', EGRESS_ONLY];
/** `via`: one of GATEWAYS, or the name of a NAT gateway of the VPC or of an instance. */
export type RouteShape = { to: string; via: string };
export type RouteTableShape = { name: string; routes: RouteShape[] };
/** A NAT gateway in the subnet of that name, with an Elastic IP of its own unless it is private. */
export type NatGatewayShape = { name: string; subnet: string; private?: true };
export type RuleShape = {
  protocol: 'all' | 'tcp' | 'udp' | 'icmp' | 'icmpv6';
  fromPort?: number;
  toPort?: number;
  /** A CIDR, or the name of a security group of the same VPC. */
  peer: string;
};
export type SecurityGroupShape = { name: string; ingress: RuleShape[]; egress: RuleShape[] };
export type ReservationShape = { cidr: string; type: 'prefix' | 'explicit' };
export type SubnetShape = {
  name: string;
  /** Empty when the subnet is IPv6-only. */
  cidr: string;
  ipv6Native?: true;
  /** The resolver makes IPv6 addresses for names of IPv4 alone. */
  dns64?: true;
  zone: string;
  routeTable?: string;
  /** Besides Name. */
  tags?: Record<string, string>;
  reservations?: ReservationShape[];
  /** Addresses that an interface without an instance holds, once: what breaks a subnet's /28s. */
  held?: string[];
};
export type VpcShape = {
  name: string;
  cidrs: string[];
  subnets: SubnetShape[];
  routeTables: RouteTableShape[];
  natGateways?: NatGatewayShape[];
  securityGroups: SecurityGroupShape[];
};
export type InstanceShape = {
  name: string;
  type: string;
  subnet: string;
  agent: 'podway' | 'none';
  publicAddress: boolean;
  securityGroups: string[];
  /** The pods' built-in server runs on it: true on its own port, or on this one. */
  serve: boolean | number;
};
/** What the lab's EC2 says of a type instead of the table. */
export type InstanceTypeShape = { enis?: number; ipv4PerEni?: number };
/** An object of the lab's Kubernetes API, with names for ids. */
export type EniConfigShape = { name: string; subnet: string; securityGroups: string[] };
/** The same, of namespace `default`; all of the labels must match. */
export type GroupPolicyShape = { name: string; podLabels: Record<string, string>; securityGroups: string[] };
export type KubernetesShape = {
  /** As v1.36.3. */
  version: string;
  /** Folder of the user's with Kubernetes' programs. */
  binDir?: string;
};
export type Shape = {
  region: string;
  zones: string[];
  instanceTypes?: Record<string, InstanceTypeShape>;
  vpcs: VpcShape[];
  instances: InstanceShape[];
  settings: SettingTexts;
  /** A real Kubernetes instead of the embedded cluster. */
  kubernetes?: KubernetesShape;
  /** Made when the lab is. Not compared: their objects may change later. */
  eniConfigs?: EniConfigShape[];
  securityGroupPolicies?: GroupPolicyShape[];
  /** What `lab up --demo` runs instead of the demo pods. */
  demo?: 'security-groups';
  /** What `lab fault add` and `lab throttle` do, done once when the lab is made. Not compared: both change them later. */
  faults?: FaultRequest[];
  throttle?: (Rate & { action: string })[];
};

export const MAX_NODES = 50;
export const INTERNET_HOST = '203.0.113.10';
export const INTERNET_HOST6 = '2001:db8:113::10';
export const DEFAULT_TYPE = 'm5.large';
export const DB_TYPE = 't3.small';
export const CONTROL_PLANE_TYPE = 'm5.large';

export type ShapeFlags = {
  nodes?: number;
  instanceType?: string;
  demo?: boolean;
  settings?: SettingTexts;
  kubernetes?: KubernetesShape;
};

/** Two subnets in two zones, nodes round robin over them, and `db` for the demo. */
export function defaultShape(flags: ShapeFlags = {}): Shape {
  const subnets: SubnetShape[] = [
    { name: 'subnet-a', cidr: '10.0.0.0/19', zone: 'us-west-2a' },
    { name: 'subnet-b', cidr: '10.0.32.0/19', zone: 'us-west-2b' },
  ];
  const nodes = Array.from({ length: flags.nodes ?? 2 }, (_, index) =>
    nodeInstance(
      `node-${index + 1}`,
      flags.instanceType ?? DEFAULT_TYPE,
      subnets[index % subnets.length]!.name,
    ),
  );
  return {
    region: 'us-west-2',
    zones: ['us-west-2a', 'us-west-2b'],
    vpcs: [
      {
        name: 'vpc',
        cidrs: ['10.0.0.0/16'],
        subnets,
        routeTables: [],
        securityGroups: [
          {
            name: 'nodes',
            ingress: [{ protocol: 'all', peer: 'nodes' }],
            egress: everywhere(flags.settings ?? {}).map((peer) => ({ protocol: 'all', peer })),
          },
        ],
      },
    ],
    instances: flags.demo ? [...nodes, demoInstance()] : nodes,
    settings: flags.settings ?? {},
  };
}

/** The shape's settings; a lab in which no instance has an agent runs no controller unless it is asked to. */
export function settingsOf({ settings: texts, instances }: Shape): Settings {
  const settings = readSettings(texts);
  const hasAgents = instances.some(({ agent }) => agent === 'podway');
  return hasAgents || texts.controller !== undefined ? settings : { ...settings, controller: 'none' };
}

/** Whether the lab's VPCs have IPv6. */
export const hasIpv6 = (settings: SettingTexts): boolean => readSettings(settings).families !== 'ipv4';

/** Every address, of each family that the lab has. */
export const everywhere = (settings: SettingTexts): string[] => [
  '0.0.0.0/0',
  ...(hasIpv6(settings) ? ['::/0'] : []),
];

const nodeInstance = (name: string, type: string, subnet: string): InstanceShape => ({
  name,
  type,
  subnet,
  agent: 'podway',
  publicAddress: true,
  securityGroups: ['nodes'],
  serve: false,
});
const demoInstance = (): InstanceShape => ({
  name: 'db',
  type: DB_TYPE,
  subnet: 'subnet-a',
  agent: 'none',
  publicAddress: false,
  securityGroups: ['nodes'],
  serve: true,
});

/** `db` joins the first subnet and the first node's groups of any shape that lacks an instance of its name. */
export function withDemo(shape: Shape): Shape {
  if (shape.demo !== undefined || shape.instances.some((instance) => instance.name === 'db')) return shape;
  const first = shape.instances.find((instance) => instance.agent === 'podway') ?? shape.instances[0];
  const subnet = first?.subnet ?? shape.vpcs[0]!.subnets[0]!.name;
  const db = { ...demoInstance(), subnet, securityGroups: first?.securityGroups ?? [] };
  return { ...shape, instances: [...shape.instances, db] };
}

/** The instance that the control plane of a real Kubernetes runs on, in the first node's subnet and groups. */
export function withControlPlane(shape: Shape, kubernetes: KubernetesShape, name: string): Shape {
  const made = { ...shape, kubernetes };
  if (shape.instances.some((instance) => instance.name === name)) return made;
  const first = shape.instances.find((instance) => instance.agent === 'podway') ?? shape.instances[0];
  const instance: InstanceShape = {
    name,
    type: CONTROL_PLANE_TYPE,
    subnet: first?.subnet ?? shape.vpcs[0]!.subnets[0]!.name,
    agent: 'none',
    publicAddress: false,
    securityGroups: first?.securityGroups ?? [],
    serve: false,
  };
  return { ...made, instances: [...shape.instances, instance] };
}

/** Throws LabError for instances that a real Kubernetes of the lab cannot have: it is reached by IPv4. */
export function checkCluster(shape: Shape): void {
  if (shape.kubernetes === undefined) return;
  const native = shape.vpcs.flatMap((vpc) => vpc.subnets).filter((subnet) => subnet.ipv6Native);
  const alone = shape.instances.find((each) => native.some((subnet) => subnet.name === each.subnet));
  if (alone === undefined) return;
  throw new LabError(
    'BAD_SHAPE',
    `instance ${alone.name} has IPv6 alone, and the control plane of a real Kubernetes is reached by IPv4`,
    `put it into a subnet with IPv4, or leave --kubernetes away`,
    { exit: 2 },
  );
}

/** What flags ask for that the lab is not, one sentence each; a flag that is not given asks for nothing. */
export function flagDifferences(present: Shape, flags: ShapeFlags): string[] {
  const differences: string[] = [];
  const nodes = present.instances.filter((instance) => instance.agent === 'podway');
  if (flags.nodes !== undefined && flags.nodes !== nodes.length) {
    differences.push(`the lab has ${nodes.length} nodes, asked for ${flags.nodes}`);
  }
  const other =
    flags.instanceType === undefined ? undefined : nodes.find((node) => node.type !== flags.instanceType);
  if (other) differences.push(`${other.name} is ${other.type}, asked for ${flags.instanceType}`);
  if (flags.kubernetes !== undefined) compareKubernetes(present.kubernetes, flags.kubernetes, differences);
  compareSettings(present.settings, { ...present.settings, ...flags.settings }, differences);
  return differences;
}

function compareKubernetes(
  is: KubernetesShape | undefined,
  asked: KubernetesShape | undefined,
  out: string[],
): void {
  const text = (each: KubernetesShape | undefined) =>
    each ? `Kubernetes ${each.version}${each.binDir ? ` of ${each.binDir}` : ''}` : 'the embedded one';
  if (text(is) !== text(asked)) out.push(`the cluster is ${text(is)}, asked for ${text(asked)}`);
}

function compareSettings(is: SettingTexts, asked: SettingTexts, out: string[]): void {
  const [now, wanted] = [readSettings(is), readSettings(asked)] as Record<string, unknown>[];
  for (const key of new Set([...Object.keys(is), ...Object.keys(asked)]) as Set<keyof SettingTexts>) {
    const field = settingField(key);
    if (JSON.stringify(now?.[field]) === JSON.stringify(wanted?.[field])) continue;
    out.push(
      `setting ${key} is ${is[key] ?? `${settingRows[key].fallback} (default)`}, asked for ${asked[key] ?? `${settingRows[key].fallback} (default)`}`,
    );
  }
}

const settingField = (key: keyof SettingTexts): string =>
  key === 'cooldown' || key === 'idleRelease' || key === 'ec2Consistency' ? `${key}Ms` : key;

/** What of `wanted`, a whole shape, differs from `present`. Demo parts that are present and not wanted are no difference. */
export function shapeDifferences(present: Shape, wanted: Shape): string[] {
  const differences: string[] = [];
  const compare = (what: string, is: unknown, asked: unknown) => {
    if (JSON.stringify(is) !== JSON.stringify(asked))
      differences.push(`${what} is ${show(is)}, asked for ${show(asked)}`);
  };
  compare('the region', present.region, wanted.region);
  compare('what EC2 says of types', typeTexts(present), typeTexts(wanted));
  const byName = <T extends { name: string }>(list: T[]) => new Map(list.map((item) => [item.name, item]));
  named('VPC', byName(present.vpcs), byName(wanted.vpcs), differences, (is, asked) => {
    compare(`VPC ${is.name}: CIDRs`, is.cidrs, asked.cidrs);
    compare(`VPC ${is.name}: NAT gateways`, is.natGateways ?? [], asked.natGateways ?? []);
    named('subnet', byName(is.subnets), byName(asked.subnets), differences, (a, b) => {
      compare(`subnet ${a.name}`, `${a.cidr} in ${a.zone}`, `${b.cidr} in ${b.zone}`);
      compare(`subnet ${a.name}: DNS64`, a.dns64 ?? false, b.dns64 ?? false);
      compare(`subnet ${a.name}: tags`, sorted(a.tags ?? {}), sorted(b.tags ?? {}));
      compare(`subnet ${a.name}: reservations`, reservationTexts(a), reservationTexts(b));
      compare(`subnet ${a.name}: held`, [...(a.held ?? [])].sort(), [...(b.held ?? [])].sort());
    });
  });
  const nodes = (shape: Shape) => shape.instances.filter((instance) => instance.agent === 'podway').length;
  if (nodes(present) !== nodes(wanted)) compare('the number of nodes', nodes(present), nodes(wanted));
  else {
    const kept = present.instances.filter(
      (instance) => !instance.serve || wanted.instances.some((other) => other.name === instance.name),
    );
    named('instance', byName(kept), byName(wanted.instances), differences, (is, asked) => {
      compare(`instance ${is.name}: type`, is.type, asked.type);
      compare(`instance ${is.name}: subnet`, is.subnet, asked.subnet);
      compare(`instance ${is.name}: agent`, is.agent, asked.agent);
    });
  }
  compareKubernetes(present.kubernetes, wanted.kubernetes, differences);
  compareSettings(present.settings, wanted.settings, differences);
  return differences;
}

const sorted = (tags: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1)));
const typeTexts = (shape: Shape): string[] =>
  Object.entries(shape.instanceTypes ?? {})
    .map(([type, { enis, ipv4PerEni }]) => `${type} enis=${enis ?? ''} ipv4PerEni=${ipv4PerEni ?? ''}`)
    .sort();
const reservationTexts = (subnet: SubnetShape): string[] =>
  (subnet.reservations ?? []).map((each) => `${each.cidr} ${each.type}`).sort();

function named<T>(
  what: string,
  is: Map<string, T>,
  asked: Map<string, T>,
  out: string[],
  both: (is: T, asked: T) => void,
): void {
  for (const [name, value] of asked) {
    const present = is.get(name);
    if (present === undefined) out.push(`${what} ${name} is not there, asked for`);
    else both(present, value);
  }
  for (const name of is.keys()) if (!asked.has(name)) out.push(`${what} ${name} is there, not asked for`);
}

const show = (value: unknown): string =>
  typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
