// Which of the wanted plugins are on the node, and which versions they have in common: what src/cni/conflist.ts is told.
// A binary that does not answer VERSION (another machine's, a wrapper that fails) counts as one that speaks 1.0.0.
import type { PluginEntry } from '../conflist.ts';
import { SUPPORTED_VERSIONS } from '../versions.ts';
import { findPlugin } from './exec.ts';
import { type RuntimeOptions, versionOf } from './verbs.ts';

/** VERSION reads nothing and waits for nobody. */
const VERSION_TIMEOUT_MS = 5000;
const UNTOLD = ['0.4.0', '1.0.0'];

export type Chained = {
  chain: PluginEntry[];
  /** Names of wanted plugins without a binary. */
  missing: string[];
  /** Spoken by all of the chain and by our own plugin. */
  versions: string[];
};

export async function chainedPlugins(
  wanted: readonly PluginEntry[],
  options: Omit<RuntimeOptions, 'cacheDir' | 'timeoutMs'>,
): Promise<Chained> {
  const chain = wanted.filter(({ type }) => isThere(type, options.binDirs));
  const spoken = await Promise.all(
    chain.map(({ type }) =>
      versionOf(type, { ...options, timeoutMs: VERSION_TIMEOUT_MS }).catch(() => UNTOLD),
    ),
  );
  return {
    chain,
    missing: wanted.filter((entry) => !chain.includes(entry)).map(({ type }) => type),
    versions: SUPPORTED_VERSIONS.filter((version) => spoken.every((each) => each.includes(version))),
  };
}

function isThere(type: string, binDirs: readonly string[]): boolean {
  try {
    findPlugin(type, binDirs);
    return true;
  } catch {
    return false;
  }
}
