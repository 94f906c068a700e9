// Limits of EC2 instance types, from data/instance-limits.json: what AttachNetworkInterface and
// AssignPrivateIpAddresses check. A type that is not in the file does not exist in the lab.
import data from '../../../data/instance-limits.json' with { type: 'json' };

export type InstanceLimits = {
  /** Over all network cards. */
  maxENIs: number;
  /** Private IPv4 slots of one interface, the primary address included; a /28 prefix takes one slot. */
  ipv4PerENI: number;
  defaultNetworkCard: number;
  networkCards: { index: number; maxENIs: number }[];
  hypervisor: string;
  isBareMetal: boolean;
};

const limits = data as Record<string, InstanceLimits>;

export const instanceTypes = (): string[] => Object.keys(limits).sort();
export const limitsOf = (instanceType: string): InstanceLimits | undefined =>
  Object.hasOwn(limits, instanceType) ? limits[instanceType] : undefined;

/** Interfaces that one card of the type takes; 0 for a card that it does not have. */
export const cardLimit = (type: InstanceLimits, card: number): number =>
  type.networkCards.find((c) => c.index === card)?.maxENIs ?? 0;
