// The contract of security groups per pod, as EKS has it, whoever writes it: SecurityGroupPolicy and CNINode
// (deploy/crds), the resource of a node and of a pod, and the pod's annotation. Agent and controller share this file.
// Decoding fails with a TypeError that names the field, its value and the rule.
import {
  type Cidr,
  formatCidr,
  formatIp,
  type Ipv4,
  type Ipv6,
  parseCidr,
  parseIpv4,
  parseIpv6,
} from '../base/ip.ts';
import { type Mac, parseMac } from '../base/mac.ts';
import { resource } from './resources.ts';
import type { KubeObject, LabelSelector, Pod } from './types.ts';

/** Of a node: branches that its trunk takes. Of a pod: 1. And the name of the pod's annotation. */
export const POD_ENI = 'vpc.amazonaws.com/pod-eni';
/** Of a pod that waits for its branch: why it has none yet, as `CODE: text`. The controller's. */
export const POD_ENI_CAUSE = 'podway.dev/pod-eni-cause';

/** IEEE 802.1Q: 0 is no VLAN, 4095 is reserved. */
export const MAX_VLAN = 4094;
/** As the definition of SecurityGroupPolicy. */
export const MAX_GROUPS = 16;

export type SecurityGroupPolicy = KubeObject & {
  spec?: {
    podSelector?: LabelSelector;
    serviceAccountSelector?: LabelSelector;
    securityGroups?: { groupIds?: string[] };
  };
};
export const securityGroupPolicies = resource<SecurityGroupPolicy>(
  'vpcresources.k8s.aws/v1beta1',
  'securitygrouppolicies',
  'SecurityGroupPolicy',
  'Namespaced',
);

/**
 * Named as the Node. Whoever makes branches keeps one for each node; a node asks for a trunk by a feature, once an ENI
 * slot is free for it.
 */
export type CniNode = KubeObject & {
  spec?: { features?: { name?: string; value?: string }[]; tags?: Record<string, string> };
};
export const cniNodes = resource<CniNode>('vpcresources.k8s.aws/v1alpha1', 'cninodes', 'CNINode', 'Cluster');
/** Labels of a CNINode that Podway's controller made: the branches are its. */
export const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'podway' };

export const isOurCniNode = ({ metadata }: Pick<CniNode, 'metadata'>): boolean =>
  Object.entries(MANAGED_BY).every(([key, value]) => metadata.labels?.[key] === value);

/** The feature of a CNINode by which a node asks for a trunk; its value is empty. */
export const SECURITY_GROUPS_FOR_PODS = 'SecurityGroupsForPods';

export const asksForTrunk = ({ spec }: Pick<CniNode, 'spec'>): boolean =>
  spec?.features?.some(({ name }) => name === SECURITY_GROUPS_FOR_PODS) ?? false;

/** A branch interface as a pod's annotation tells it. */
export type PodEni = {
  eniId: string;
  mac: Mac;
  vlanId: number;
  /** Null in a subnet without IPv4, and so on. */
  ip: Ipv4 | null;
  ip6: Ipv6 | null;
  subnet: Cidr | null;
  subnet6: Cidr | null;
  associationId: string;
};

/** The annotation's text: a list of one object per branch. */
export const encodePodEnis = (enis: readonly PodEni[]): string =>
  JSON.stringify(
    enis.map((one) => ({
      eniId: one.eniId,
      ifAddress: one.mac,
      privateIp: one.ip === null ? '' : formatIp(one.ip),
      ipv6Addr: one.ip6 === null ? '' : formatIp(one.ip6),
      vlanId: one.vlanId,
      subnetCidr: one.subnet === null ? '' : formatCidr(one.subnet),
      subnetV6Cidr: one.subnet6 === null ? '' : formatCidr(one.subnet6),
      associationID: one.associationId,
    })),
  );

/** As JSON libraries of Go read it: the case of a field's name does not count, so that `vlanID` is `vlanId`. */
export function decodePodEnis(text: string): PodEni[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw wrong(`is no JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(list) || list.length === 0) throw wrong('is not a list of at least one interface');
  return list.map(decodeOne);
}

function decodeOne(value: unknown, index: number): PodEni {
  const at = `[${index}]`;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw wrong(`${at} is no object`);
  const fields = new Map(
    Object.entries(value).map(([name, field]) => [name.toLowerCase(), field as unknown]),
  );
  const text = (name: string): string => {
    const field = fields.get(name.toLowerCase()) ?? '';
    if (typeof field !== 'string') throw wrong(`${at}.${name} is ${JSON.stringify(field)}, not text`);
    return field;
  };
  const read = <T>(name: string, parse: (text: string) => T): T | null => {
    const found = text(name);
    try {
      return found === '' ? null : parse(found);
    } catch (error) {
      throw wrong(`${at}.${name}: ${(error as Error).message}`);
    }
  };
  const needed = <T>(name: string, parse: (text: string) => T): T => {
    const found = read(name, parse);
    if (found === null) throw wrong(`${at}.${name} is missing`);
    return found;
  };
  const vlanId = fields.get('vlanid');
  if (typeof vlanId !== 'number' || !Number.isInteger(vlanId) || vlanId < 1 || vlanId > MAX_VLAN)
    throw wrong(`${at}.vlanId is ${JSON.stringify(vlanId)}, not a number from 1 to ${MAX_VLAN}`);
  const ip = read('privateIp', parseIpv4);
  const ip6 = read('ipv6Addr', parseIpv6);
  if (ip === null && ip6 === null) throw wrong(`${at} has neither privateIp nor ipv6Addr`);
  return {
    eniId: needed('eniId', (id) => id),
    mac: needed('ifAddress', parseMac),
    vlanId,
    ip,
    ip6,
    subnet: read('subnetCidr', parseCidr),
    subnet6: read('subnetV6Cidr', parseCidr),
    associationId: text('associationID'),
  };
}

const wrong = (what: string): TypeError => new TypeError(`the annotation ${POD_ENI} ${what}`);

/** True for a pod that asks for a branch: any of its containers names the resource. */
export const asksForBranch = ({ spec }: Pick<Pod, 'spec'>): boolean =>
  [...spec.containers, ...(spec.initContainers ?? [])].some(({ resources }) =>
    [resources?.limits, resources?.requests].some((amounts) => Number(amounts?.[POD_ENI] ?? 0) > 0),
  );
