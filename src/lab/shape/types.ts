// The instance types that a shape may name, with their limits, from data/instance-limits.json.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../daemon/parts.ts';

type Limits = { maxENIs: number; ipv4PerENI: number; maxPodsFile?: number };
let table: Record<string, Limits> | undefined;

const limits = (): Record<string, Limits> => {
  table ??= JSON.parse(readFileSync(join(packageRoot, 'data', 'instance-limits.json'), 'utf8')) as Record<
    string,
    Limits
  >;
  return table;
};

export const instanceTypeExists = (type: string): boolean => Object.hasOwn(limits(), type);

/** Pods that a node of the type takes: secondary addresses of all its ENIs, and two for the host network. */
export function podLimitOf(type: string): number {
  const row = limits()[type];
  if (!row) return 110;
  return row.maxPodsFile ?? row.maxENIs * (row.ipv4PerENI - 1) + 2;
}
