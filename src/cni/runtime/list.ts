// Network configuration lists as a runtime reads them: files in lexical order, plugins inlined or from the sibling
// directory named after the network, one version chosen from cniVersion and cniVersions.
// A file is either a list that can be run or an error that says what is wrong with it (ListError); nothing is repaired.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { booleanAt, isObject, objectAt, parseObject } from '../fields.ts';
import type { JsonObject } from '../types.ts';
import { compareVersions, LATEST_VERSION, parseVersion } from '../versions.ts';

/** Bytes of one file. */
const MAX_FILE = 4 << 20;

export type PluginConf = {
  type: string;
  /** Capabilities that the plugin declares true. */
  capabilities: string[];
  /** The plugin's object as the file has it. */
  raw: JsonObject;
};

export type NetworkList = {
  name: string;
  /** What the plugins see; need not be one that we speak, should the file have no choice. */
  cniVersion: string;
  disableCheck: boolean;
  disableGC: boolean;
  loadOnlyInlinedPlugins: boolean;
  plugins: PluginConf[];
  /** The text of the file, which the result cache keeps. */
  text: string;
  file: string;
};

export type ListOptions = {
  /** The greatest version that the caller speaks. */
  maxVersion?: string;
};

export class ListError extends Error {
  override name = 'ListError';
  readonly code = 'CNI_CONFIG_INVALID';
}

const within = <T>(file: string, read: () => T): T => {
  try {
    return read();
  } catch (error) {
    if (error instanceof ListError) throw error;
    throw new ListError(`${file}: ${(error as Error).message}`, { cause: error });
  }
};

function pluginOf(raw: unknown, where: string): PluginConf {
  if (!isObject(raw)) throw new ListError(`${where} is not an object`);
  const type = raw['type'];
  if (typeof type !== 'string' || type === '') throw new ListError(`${where} has no type`);
  const declared = objectAt(raw, 'capabilities') ?? {};
  return { type, capabilities: Object.keys(declared).filter((key) => booleanAt(declared, key, false)), raw };
}

/** The greatest candidate not above `maxVersion`. */
function chooseVersion(raw: JsonObject, file: string, maxVersion: string): string {
  const one = raw['cniVersion'] ?? '';
  const more = raw['cniVersions'] ?? [];
  if (typeof one !== 'string') throw new ListError(`${file}: cniVersion is not a string`);
  if (!Array.isArray(more)) throw new ListError(`${file}: cniVersions is not a list`);
  const candidates = [...more, ...(one ? [one] : [])].map((version) => {
    if (typeof version !== 'string' || !parseVersion(version)) {
      throw new ListError(`${file}: ${JSON.stringify(version)} is not a CNI version`);
    }
    return version;
  });
  if (candidates.length === 0) return '0.1.0';
  const usable = candidates
    .filter((version) => compareVersions(version, maxVersion) <= 0)
    .sort(compareVersions);
  const chosen = usable.at(-1);
  if (!chosen)
    throw new ListError(
      `${file}: none of its CNI versions (${candidates.join(', ')}) is ${maxVersion} or earlier`,
    );
  return chosen;
}

function nameOf(raw: JsonObject, file: string): string {
  const name = raw['name'];
  if (typeof name !== 'string' || name === '') throw new ListError(`${file}: has no network name`);
  return name;
}

/** A list without what the sibling directory adds; `single` for the legacy form of one bare plugin. */
export function parseNetworkList(
  text: string,
  {
    file = 'the list',
    single = false,
    maxVersion = LATEST_VERSION,
  }: ListOptions & { file?: string; single?: boolean } = {},
): NetworkList {
  return within(file, () => {
    const raw = parseObject(text, file);
    const common = { name: nameOf(raw, file), cniVersion: chooseVersion(raw, file, maxVersion), text, file };
    if (single) {
      const plugin = pluginOf(raw, `${file}: the plugin`);
      return {
        ...common,
        disableCheck: false,
        disableGC: false,
        loadOnlyInlinedPlugins: true,
        plugins: [plugin],
      };
    }
    const loadOnlyInlinedPlugins = booleanAt(raw, 'loadOnlyInlinedPlugins', false);
    const inlined = raw['plugins'];
    if (inlined === undefined && loadOnlyInlinedPlugins) {
      throw new ListError(`${file}: loadOnlyInlinedPlugins is true and there are no plugins`);
    }
    if (inlined !== undefined && (!Array.isArray(inlined) || inlined.length === 0)) {
      throw new ListError(`${file}: plugins is not a list of at least one plugin`);
    }
    return {
      ...common,
      disableCheck: booleanAt(raw, 'disableCheck', false),
      disableGC: booleanAt(raw, 'disableGC', false),
      loadOnlyInlinedPlugins,
      plugins: (inlined ?? []).map((plugin, i) => pluginOf(plugin, `${file}: plugins[${i}]`)),
    };
  });
}

function readText(file: string): string {
  return within(file, () => {
    if (statSync(file).size > MAX_FILE) throw new ListError(`${file}: is larger than ${MAX_FILE} bytes`);
    return readFileSync(file, 'utf8');
  });
}

/** Paths of the files of a directory with one of the extensions, in lexical order; none when there is no directory. */
export function filesOf(dir: string, extensions: readonly string[]): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && extensions.includes(extname(entry.name)))
      .map((entry) => join(dir, entry.name))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new ListError(`${dir}: ${(error as Error).message}`, { cause: error });
  }
}

function loadFile(file: string, options: ListOptions): NetworkList {
  const single = extname(file) !== '.conflist';
  const list = parseNetworkList(readText(file), { ...options, file, single });
  if (!list.loadOnlyInlinedPlugins && basename(list.name) === list.name) {
    for (const sibling of filesOf(join(dirname(file), list.name), ['.conf'])) {
      list.plugins.push(within(sibling, () => pluginOf(parseObject(readText(sibling), sibling), sibling)));
    }
  }
  if (list.plugins.length === 0) throw new ListError(`${file}: has no plugins`);
  return list;
}

/**
 * Loads one list: of a file, or of a directory the first that can be run (the first named `name`, when given).
 * Files that cannot are named in `skipped`. Throws ListError when nothing is left.
 */
export function loadNetworkList(
  path: string,
  { name, ...options }: ListOptions & { name?: string } = {},
): NetworkList & { skipped: ListError[] } {
  const skipped: ListError[] = [];
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (error) {
    throw new ListError(`${path}: ${(error as Error).message}`, { cause: error });
  }
  if (!isDirectory) return { ...loadFile(path, options), skipped };
  for (const file of filesOf(path, ['.conf', '.conflist', '.json'])) {
    try {
      const list = loadFile(file, options);
      if (name === undefined || list.name === name) return { ...list, skipped };
    } catch (error) {
      if (!(error instanceof ListError)) throw error;
      skipped.push(error);
    }
  }
  const why = skipped.length > 0 ? `: ${skipped.map((error) => error.message).join('; ')}` : '';
  throw new ListError(
    `${path} has no network configuration${name === undefined ? '' : ` named ${name}`}${why}`,
  );
}
