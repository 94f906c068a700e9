// Limits of EC2 instance types, from data/instance-limits.json: what AttachNetworkInterface and
// AssignPrivateIpAddresses check. A type that is not in the file does not exist in the lab.
import data from '../../../data/instance-limits.json' with { type: 'json' };
import { Ec2Error } from './errors.ts';

export type InstanceLimits = {
  /** Over all network cards. */
  maxENIs: number;
  /** Private IPv4 slots of one interface, the primary address included; a /28 prefix takes one slot. */
  ipv4PerENI: number;
  defaultNetworkCard: number;
  networkCards: { index: number; maxENIs: number }[];
  hypervisor: string;
  isBareMetal: boolean;
  /** Null: nobody has said. */
  trunkCompatible: boolean | null;
  branchENIs: number | null;
};

const table = data as Record<string, InstanceLimits>;

/** What a lab says of a type instead of the table. */
export type TypeOverride = { enis?: number; ipv4PerEni?: number };
/** Of a state: it knows what the lab overrides. */
type Known = { readonly typeOverrides: Readonly<Record<string, TypeOverride>> };

export const instanceTypes = (): string[] => Object.keys(table).sort();

export function limitsOf(state: Known, instanceType: string): InstanceLimits | undefined {
  const row = Object.hasOwn(table, instanceType) ? table[instanceType] : undefined;
  const override = Object.hasOwn(state.typeOverrides, instanceType)
    ? state.typeOverrides[instanceType]
    : undefined;
  if (!row || !override) return row;
  const { enis = row.maxENIs, ipv4PerEni = row.ipv4PerENI } = override;
  const networkCards = row.networkCards.map((card) =>
    card.index === row.defaultNetworkCard ? { ...card, maxENIs: enis } : card,
  );
  return { ...row, maxENIs: enis, ipv4PerENI: ipv4PerEni, networkCards };
}

/** Interfaces that one card of the type takes; 0 for a card that it does not have. */
export const cardLimit = (type: InstanceLimits, card: number): number =>
  type.networkCards.find((c) => c.index === card)?.maxENIs ?? 0;

/** Prefixes, and Elastic Fabric Adapters, need the Nitro hypervisor or bare metal. */
export const isNitro = (type: InstanceLimits): boolean => type.hypervisor === 'nitro' || type.isBareMetal;

/** Whether the type takes the addresses and prefixes of one interface; `has` of them are there, `prefixes` of all. */
export function checkSlots(
  type: InstanceLimits,
  instanceType: string,
  eni: { id: string; has: number; added: number; prefixes: number },
): void {
  if (eni.prefixes > 0 && !isNitro(type)) {
    throw new Ec2Error(
      'InvalidParameterCombination',
      `IPv4 prefixes are not supported by the instance type ${instanceType}. (${eni.id}, ${eni.prefixes} asked for; only types of the Nitro system take them)`,
    );
  }
  if (eni.has + eni.added > type.ipv4PerENI) throw tooMany(eni, instanceType, type.ipv4PerENI);
}

/** Families from before the VPC had IPv6; all others take as many IPv6 as IPv4 addresses. EC2 user guide, "IPv6". */
const WITHOUT_IPV6 = /^(t1|m[123]|c1|cc2|cr1|g2|hi1|hs1)\./;

/** IPv6 slots of one interface, a /80 prefix taking one as an address does. */
export const ipv6PerEni = (type: InstanceLimits, instanceType: string): number =>
  WITHOUT_IPV6.test(instanceType) ? 0 : type.ipv4PerENI;

/** Whether the type takes the IPv6 addresses and prefixes of one interface. */
export function checkIpv6Slots(
  type: InstanceLimits,
  instanceType: string,
  eni: { id: string; has: number; added: number; prefixes: number },
): void {
  const limit = ipv6PerEni(type, instanceType);
  const all = eni.has + eni.added;
  if (all > 0 && limit === 0)
    throw new Ec2Error(
      'InvalidParameterCombination',
      `IPv6 is not supported for the instance type '${instanceType}'`,
    );
  if (eni.prefixes > 0 && !isNitro(type)) {
    throw new Ec2Error(
      'InvalidParameterCombination',
      `IPv6 prefixes are not supported by the instance type ${instanceType}. (${eni.id}, ${eni.prefixes} asked for; only types of the Nitro system take them)`,
    );
  }
  if (all > limit) throw tooMany(eni, instanceType, limit, 'IPv6');
}

export const tooMany = (
  eni: { id: string; has: number; added: number },
  instanceType: string | undefined,
  limit: number,
  of: 'private' | 'IPv6' = 'private',
): Ec2Error =>
  new Ec2Error(
    'PrivateIpAddressLimitExceeded',
    `Number of ${of} addresses will exceed limit. (${eni.id} has ${eni.has}, ${eni.added} more asked for, the limit${instanceType === undefined ? '' : ` of ${instanceType}`} is ${limit})`,
  );
