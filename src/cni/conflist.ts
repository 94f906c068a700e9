// The configuration list that a runtime reads: our plugin first, then the standard ones that are chained to it. Pure;
// `runtime/chained.ts` finds the binaries. Invariant: a list offers only versions that each of its plugins speaks, since a
// runtime takes the greatest for all: Debian 12's portmap (1.1.1) knows nothing above 1.0.0 and would refuse each ADD.
// Below 1.1.0 no runtime asks STATUS and GC: then taint and condition of the Node say what STATUS would.
import { isObject } from './fields.ts';
import type { JsonObject } from './types.ts';
import { compareVersions } from './versions.ts';

const NETWORK_NAME = 'podway';
export const PLUGIN_TYPE = 'podway-cni';

/** A plugin's object in the list. */
export type PluginEntry = JsonObject & { type: string };

/** What a runtime hands each plugin by its capability, and the options that pods of ours need. */
const KNOWN: Record<string, JsonObject> = {
  // snat: a pod that calls its own host port, and 127.0.0.1 on the node, come back by the node.
  portmap: { capabilities: { portMappings: true }, snat: true },
  bandwidth: { capabilities: { bandwidth: true } },
};

/**
 * Plugins by name (`portmap,bandwidth`), or as a JSON list of names and objects, as tuning needs one:
 * `["portmap",{"type":"tuning","sysctl":{"net.core.somaxconn":"500"}}]`. Empty or `none`: nothing is chained.
 * Throws TypeError with what is wrong.
 */
export function parseChain(text: string): PluginEntry[] {
  const trimmed = text.trim();
  if (trimmed === '' || trimmed === 'none') return [];
  const parts = trimmed.startsWith('[') ? listOf(trimmed) : trimmed.split(',').map((one) => one.trim());
  const entries = parts.map(entryOf);
  const twice = entries.find((entry, i) => entries.findIndex(({ type }) => type === entry.type) < i);
  if (twice) throw new TypeError(`names ${twice.type} twice`);
  return entries;
}

function listOf(text: string): unknown[] {
  try {
    return JSON.parse(text) as unknown[];
  } catch (error) {
    throw new TypeError('is neither names with commas between them nor a JSON list', { cause: error });
  }
}

function entryOf(part: unknown): PluginEntry {
  const entry = typeof part === 'string' ? { type: part, ...KNOWN[part] } : part;
  if (!isObject(entry)) throw new TypeError(`has ${JSON.stringify(part)}, neither a name nor an object`);
  const { type } = entry;
  if (typeof type !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(type))
    throw new TypeError(`has ${JSON.stringify(type)}, not the name of a plugin`);
  if (type === PLUGIN_TYPE) throw new TypeError(`has ${PLUGIN_TYPE}, which comes first by itself`);
  if (typeof part === 'string' && !Object.hasOwn(KNOWN, type))
    throw new TypeError(
      `has ${type} by name: by name there are ${Object.keys(KNOWN).join(', ')}, others are JSON objects`,
    );
  return entry as PluginEntry;
}

export type ConflistOptions = {
  agentSocket: string;
  /** Bytes; the ENI's own when absent. */
  mtu?: number;
  /** After our plugin, in this order. */
  chain?: readonly PluginEntry[];
  /** What all chained plugins speak; absent: what ours does. */
  versions?: readonly string[];
};

/** Lists of configurations begin with 1.0.0, which every plugin of the last years speaks. */
const OFFERED = ['1.0.0', '1.1.0'];
/** For chained plugins that are older than that. */
const OLD = ['0.4.0', '0.3.1'];

/** The list as an object: `JSON.stringify` gives the file. RangeError when the plugins have no version in common. */
export function conflist({ agentSocket, mtu, chain = [], versions = OFFERED }: ConflistOptions): JsonObject {
  const offered = OFFERED.filter((version) => versions.includes(version));
  const old = OLD.find((version) => versions.includes(version));
  const [least = old, ...more] = offered;
  if (least === undefined)
    throw new RangeError(
      `the chained plugins ${chain.map(({ type }) => type).join(', ')} speak none of ${[...OLD, ...OFFERED].sort(compareVersions).join(', ')}`,
    );
  return {
    cniVersion: least,
    ...(more.length === 0 ? {} : { cniVersions: offered }),
    name: NETWORK_NAME,
    plugins: [
      {
        type: PLUGIN_TYPE,
        agentSocket,
        ...(mtu === undefined ? {} : { mtu }),
        capabilities: { mac: true },
      },
      ...chain,
    ],
  };
}
