// What an instance type allows: ENIs per card and addresses per ENI. The table holds 1,392 types; one is read out of
// it and the rest is never parsed or kept. A type that the table lacks is asked of EC2.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cloud, InstanceTypeDescription } from './port.ts';

export type InstanceLimits = {
  instanceType: string;
  /** ENIs on the default network card, the primary one included. */
  enis: number;
  /** IPv4 addresses per ENI, its primary one included. */
  ipv4PerEni: number;
  ipv6PerEni: number;
  defaultCard: number;
  networkCards: readonly { index: number; enis: number }[];
  /** Pods that the type's table allows: ENIs x (addresses - 1) + 2 on the host network. */
  pods: number;
  /** Prefixes need the Nitro hypervisor or bare metal. */
  prefixes: boolean;
  branchEnis: number;
};

type TableRow = {
  branchENIs: number | null;
  defaultNetworkCard: number;
  hypervisor: string;
  ipv4PerENI: number;
  isBareMetal: boolean;
  maxENIs: number;
  networkCards: { index: number; maxENIs: number }[];
  trunkCompatible: boolean | null;
};

export const podsOf = (enis: number, ipv4PerEni: number): number => enis * (ipv4PerEni - 1) + 2;

/** The limits of a type, or null when the table lacks it. */
export function limitsFromTable(instanceType: string, tablePath = findTable()): InstanceLimits | null {
  const table = readFileSync(tablePath);
  const start = table.indexOf(`\n "${instanceType}": {`);
  if (start < 0) return null;
  const end = table.indexOf('\n }', start);
  const json = table.toString('utf8', table.indexOf('{', start), end + 3);
  const row = JSON.parse(json) as TableRow;
  return {
    instanceType,
    enis: row.maxENIs,
    ipv4PerEni: row.ipv4PerENI,
    ipv6PerEni: row.ipv4PerENI,
    defaultCard: row.defaultNetworkCard,
    networkCards: row.networkCards.map((card) => ({ index: card.index, enis: card.maxENIs })),
    pods: podsOf(row.maxENIs, row.ipv4PerENI),
    prefixes: row.hypervisor === 'nitro' || row.isBareMetal,
    branchEnis: row.trunkCompatible ? (row.branchENIs ?? 0) : 0,
  };
}

/** The limits of a type, from the table or else from EC2. */
export async function loadLimits(
  instanceType: string,
  cloud: Cloud,
  signal?: AbortSignal,
): Promise<InstanceLimits> {
  const known = limitsFromTable(instanceType);
  if (known) return known;
  return limitsFrom(await cloud.describeInstanceType(instanceType, signal), {
    defaultCard: 0,
    branchEnis: 0,
  });
}

/** The limits that EC2 describes; what it does not say is as given. */
export function limitsFrom(
  { instanceType, enis: ofAllCards, ipv4PerEni, ipv6PerEni, networkCards, ...rest }: InstanceTypeDescription,
  { defaultCard, branchEnis }: Pick<InstanceLimits, 'defaultCard' | 'branchEnis'>,
): InstanceLimits {
  const enis = networkCards.find((one) => one.index === defaultCard)?.enis ?? ofAllCards;
  return {
    ...{ instanceType, enis, ipv4PerEni, ipv6PerEni, defaultCard, networkCards, branchEnis },
    pods: podsOf(enis, ipv4PerEni),
    prefixes: rest.hypervisor === 'nitro' || rest.bareMetal,
  };
}

/** The table stands in `data/` of the package, above this file both in the checkout and in the build. */
function findTable(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    const path = join(dir, 'data', 'instance-limits.json');
    if (existsSync(path)) return path;
    if (dir === dirname(dir)) throw new Error('data/instance-limits.json is missing from the package');
  }
}
