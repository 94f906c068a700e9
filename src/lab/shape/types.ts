// The instance types that a shape may name, with their limits, from data/instance-limits.json.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { limitsFromTable } from '../../cloud/limits.ts';
import { readEnvironment } from '../../ipam/config/incumbent-env.ts';
import { maxPods, PREFIX_POD_CAP } from '../../ipam/config/max-pods.ts';
import { packageRoot } from '../daemon/parts.ts';
import type { Settings } from './settings.ts';

let table: Record<string, unknown> | undefined;

const limits = (): Record<string, unknown> => {
  table ??= JSON.parse(readFileSync(join(packageRoot, 'data', 'instance-limits.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  return table;
};

export const instanceTypeExists = (type: string): boolean => Object.hasOwn(limits(), type);

/** Pods that a node of the type takes, with what the settings say of its addresses: its kubelet's max-pods. */
export function podLimitOf(type: string, { addressing, env }: Pick<Settings, 'addressing' | 'env'>): number {
  const row = limitsFromTable(type);
  if (!row) return PREFIX_POD_CAP;
  const { variables, usesPrefixes, customNetworking, maxEnis } = readEnvironment(env).pool;
  return variables.length === 0
    ? maxPods(row, { prefixes: addressing !== 'secondary' })
    : maxPods(row, { prefixes: usesPrefixes, customNetworking: customNetworking !== null, maxEnis });
}
