// Results of ADD kept for DEL, CHECK and GC, in the format and place that every CNI runtime shares (cniCacheV1):
// DIR/results/NETWORK-CONTAINER-IFNAME, mode 0600 in a directory 0700. Reading also knows the older format, a bare
// result. Writing is aside and renamed; what cannot be read is told apart from what is not there.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isObject, parseObject } from '../fields.ts';
import type { Attachment, JsonObject } from '../types.ts';

export const CACHE_KIND = 'cniCacheV1';
export const DEFAULT_CACHE_DIR = '/var/lib/cni';

export type CniArgs = readonly (readonly [string, string])[];

export type CachedAttachment = {
  network: string;
  containerId: string;
  ifname: string;
  netns: string;
  args: CniArgs;
  capabilityArgs: JsonObject;
  /** The text of the list at the time of ADD; empty in the older format. */
  config: string;
  result: JsonObject | null;
};

const directoryOf = (cacheDir: string): string => join(cacheDir, 'results');
const fileOf = (cacheDir: string, { network, containerId, ifname }: Attachment): string =>
  join(directoryOf(cacheDir), `${network}-${containerId}-${ifname}`);

function argsOf(value: unknown): CniArgs {
  if (!Array.isArray(value)) return [];
  return value.flatMap((pair: unknown) =>
    Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string'
      ? [[pair[0], pair[1]] as const]
      : [],
  );
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

function parseEntry(text: string, key: Attachment | null): CachedAttachment | null {
  const raw = parseObject(text, 'the cached result');
  if (raw['kind'] !== CACHE_KIND) {
    // The older format is a result and names nothing, so it is of use only to who knows the key.
    return key && { ...key, netns: '', args: [], capabilityArgs: {}, config: '', result: raw };
  }
  return {
    network: textOf(raw['networkName']),
    containerId: textOf(raw['containerId']),
    ifname: textOf(raw['ifName']),
    netns: textOf(raw['netns']),
    args: argsOf(raw['cniArgs']),
    capabilityArgs: isObject(raw['capabilityArgs']) ? raw['capabilityArgs'] : {},
    config: Buffer.from(textOf(raw['config']), 'base64').toString('utf8'),
    result: isObject(raw['result']) ? raw['result'] : null,
  };
}

/** What ADD left, null when there is nothing. Throws when there is something that cannot be read. */
export function readCache(cacheDir: string, key: Attachment): CachedAttachment | null {
  let text: string;
  try {
    text = readFileSync(fileOf(cacheDir, key), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const entry = parseEntry(text, key);
  const same =
    entry?.network === key.network && entry.containerId === key.containerId && entry.ifname === key.ifname;
  return same ? entry : null;
}

export function writeCache(cacheDir: string, entry: CachedAttachment): void {
  const dir = directoryOf(cacheDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const text = JSON.stringify({
    kind: CACHE_KIND,
    containerId: entry.containerId,
    config: Buffer.from(entry.config).toString('base64'),
    ifName: entry.ifname,
    networkName: entry.network,
    ...(entry.netns ? { netns: entry.netns } : {}),
    ...(entry.args.length > 0 ? { cniArgs: entry.args } : {}),
    ...(Object.keys(entry.capabilityArgs).length > 0 ? { capabilityArgs: entry.capabilityArgs } : {}),
    ...(entry.result ? { result: entry.result } : {}),
  });
  const aside = asideOf(cacheDir, entry);
  writeFileSync(aside, text, { mode: 0o600 });
  renameSync(aside, fileOf(cacheDir, entry));
}

/** A network's name never begins with a dot, so nobody takes the file for an entry. */
const asideOf = (cacheDir: string, { containerId, ifname }: Attachment): string =>
  join(directoryOf(cacheDir), `.${containerId}-${ifname}`);

/** Also what a kill left of writing it. */
export function removeCache(cacheDir: string, key: Attachment): void {
  rmSync(asideOf(cacheDir, key), { force: true });
  rmSync(fileOf(cacheDir, key), { force: true });
}

/** All attachments of the cache that can be read and name themselves, in the order of their files. */
export function cachedAttachments(
  cacheDir: string,
  { network, containerId }: { network?: string; containerId?: string } = {},
): CachedAttachment[] {
  let names: string[];
  try {
    names = readdirSync(directoryOf(cacheDir)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names.flatMap((name) => {
    if (name.startsWith('.')) return [];
    try {
      const entry = parseEntry(readFileSync(join(directoryOf(cacheDir), name), 'utf8'), null);
      if (!entry?.network || !entry.containerId || !entry.ifname) return [];
      if (network !== undefined && entry.network !== network) return [];
      return containerId !== undefined && entry.containerId !== containerId ? [] : [entry];
    } catch {
      return [];
    }
  });
}
