// The runtime side of CNI: what containerd and CRI-O do through libcni, verb by verb over a list of plugins.
// ADD runs forward and hands each plugin the result before it; DEL runs backward with the final one. The cache is
// written when the whole chain has succeeded and removed when all of DEL has; a failed ADD is never undone here: the
// caller DELs. Two verbs on one container must not overlap, nor GC with anything on its network: that is the caller's.
// Fails with CniError: a plugin's own, or one of ours with CNI's number for the cause.
import { asPodwayError } from '../../base/errors.ts';
import { CniError } from '../errors.ts';
import { isObject } from '../fields.ts';
import { isContainerId, isIfname, isNetworkName } from '../request.ts';
import { parseResult, renderResult } from '../result.ts';
import type { Attachment, JsonObject, Result } from '../types.ts';
import { atLeast, type CniVersion, hasVerb, isSupported, LATEST_VERSION, type Verb } from '../versions.ts';
import {
  type CachedAttachment,
  type CniArgs,
  cachedAttachments,
  DEFAULT_CACHE_DIR,
  readCache,
  removeCache,
  writeCache,
} from './cache.ts';
import { type ExecOptions, errorOf, findPlugin, runPlugin } from './exec.ts';
import { type NetworkList, type PluginConf, parseNetworkList } from './list.ts';

export type RuntimeOptions = ExecOptions & {
  /** Where plugins are looked for, in this order; becomes CNI_PATH. */
  binDirs: readonly string[];
  cacheDir?: string;
};

export type RuntimeCall = RuntimeOptions & {
  containerId: string;
  /** Path of the sandbox's namespace; may be empty on DEL. */
  netns: string;
  ifname: string;
  /** CNI_ARGS. */
  args?: CniArgs;
  /** What the runtime offers; a plugin gets what it declares. */
  capabilityArgs?: JsonObject;
};

/** `json` is the result in the list's version, exactly as cached; `result` the same in the shape of 1.1.0. */
export type Added = { json: JsonObject; result: Result };

const cacheOf = (options: RuntimeOptions): string => options.cacheDir ?? DEFAULT_CACHE_DIR;
const keyOf = (list: NetworkList, { containerId, ifname }: RuntimeCall): Attachment => ({
  network: list.name,
  containerId,
  ifname,
});

function validate(list: NetworkList, call: RuntimeCall, needsNetns: boolean): void {
  const refuse = (what: string, text: string) => {
    throw new CniError(4, `BAD_ENVIRONMENT: ${what} ${JSON.stringify(text.slice(0, 64))} is not valid`);
  };
  if (!isNetworkName(list.name)) {
    throw new CniError(
      7,
      `INVALID_CONFIG: network name ${JSON.stringify(list.name.slice(0, 64))} is not valid`,
    );
  }
  if (!isContainerId(call.containerId)) refuse('container id', call.containerId);
  if (!isIfname(call.ifname)) refuse('interface name', call.ifname);
  if (needsNetns ? !call.netns.startsWith('/') : call.netns !== '' && !call.netns.startsWith('/')) {
    refuse('path of a namespace', call.netns);
  }
}

function environment(verb: Verb, options: RuntimeOptions, call?: RuntimeCall): Record<string, string> {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: call?.containerId ?? '',
    CNI_NETNS: call?.netns ?? '',
    CNI_IFNAME: call?.ifname ?? '',
    CNI_ARGS: (call?.args ?? []).map(([key, value]) => `${key}=${value}`).join(';'),
    CNI_PATH: options.binDirs.join(':'),
  };
}

/** The config of one plugin: its own, less `capabilities` and what is reserved, with what the runtime says. */
function configOf(
  list: NetworkList,
  plugin: PluginConf,
  inject: JsonObject,
  offered: JsonObject = {},
): string {
  const { capabilities: _, runtimeConfig: __, prevResult: ___, ...own } = plugin.raw;
  const wanted = plugin.capabilities.filter(
    (name) => Object.hasOwn(offered, name) && offered[name] !== undefined,
  );
  const runtimeConfig = Object.fromEntries(wanted.map((name) => [name, offered[name]!]));
  return JSON.stringify({
    ...own,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(wanted.length > 0 ? { runtimeConfig } : {}),
    ...inject,
  });
}

async function callPlugin(
  verb: Verb,
  list: NetworkList,
  plugin: PluginConf,
  options: RuntimeOptions,
  inject: JsonObject,
  call?: RuntimeCall,
): Promise<string> {
  const file = findPlugin(plugin.type, options.binDirs);
  const config = configOf(list, plugin, inject, call?.capabilityArgs);
  const done = await runPlugin(file, environment(verb, options, call), config, options);
  if (done.exit !== 0) throw errorOf(file, done);
  return done.stdout;
}

const speaks = (list: NetworkList): CniVersion => {
  if (isSupported(list.cniVersion)) return list.cniVersion;
  throw new CniError(
    1,
    `INCOMPATIBLE_VERSION: cniVersion ${list.cniVersion} of ${list.file} is not supported`,
  );
};

/** Reads what a plugin printed on ADD: kept as it is when it is in the list's version, else converted. */
function readResult(text: string, plugin: PluginConf, version: CniVersion): Added {
  try {
    const raw: unknown = JSON.parse(text);
    if (!isObject(raw)) throw new Error('it is not an object');
    const result = parseResult(raw, version, 'result');
    const said = raw['cniVersion'] || version;
    return {
      result,
      json: said === version ? { ...raw, cniVersion: version } : renderResult(result, version),
    };
  } catch (error) {
    const shown = text.trim() === '' ? 'nothing' : JSON.stringify(text.trim().slice(0, 256));
    throw new CniError(
      6,
      `BAD_JSON: plugin ${plugin.type} succeeded and its result cannot be read (${(error as Error).message}): ${shown}`,
    );
  }
}

/** Runs ADD through the list. */
export async function addNetworkList(list: NetworkList, call: RuntimeCall): Promise<Added> {
  validate(list, call, true);
  const version = speaks(list);
  let added: Added | null = null;
  for (const plugin of list.plugins) {
    const inject: JsonObject = added ? { prevResult: added.json } : {};
    added = readResult(await callPlugin('ADD', list, plugin, call, inject, call), plugin, version);
  }
  if (!added) throw new CniError(7, `INVALID_CONFIG: ${list.file} has no plugins`);
  try {
    writeCache(cacheOf(call), {
      ...keyOf(list, call),
      netns: call.netns,
      args: call.args ?? [],
      capabilityArgs: call.capabilityArgs ?? {},
      config: list.text,
      result: added.json,
    });
  } catch (error) {
    throw new CniError(5, `IO_FAILURE: the result of ADD cannot be cached: ${(error as Error).message}`, '', {
      cause: error,
    });
  }
  return added;
}

/** The cached result in the list's version, as plugins get it. Null without one; throws when it cannot be read. */
function previousOf(list: NetworkList, cached: CachedAttachment | null): JsonObject | null {
  if (!cached?.result) return null;
  const version = speaks(list);
  if (cached.result['cniVersion'] === version) {
    parseResult(cached.result, version, 'cached result');
    return cached.result;
  }
  return renderResult(parseResult(cached.result, version, 'cached result'), version);
}

/**
 * Runs DEL through the list, backward. With `asAdded` the config, arguments and capabilities of ADD time are used
 * where the cache has them. Succeeds without a cached result, and with one that cannot be read.
 */
export async function delNetworkList(
  list: NetworkList,
  call: RuntimeCall & { asAdded?: boolean },
): Promise<void> {
  validate(list, call, false);
  const key = keyOf(list, call);
  let cached: CachedAttachment | null = null;
  let previous: JsonObject | null = null;
  let used = list;
  let given: RuntimeCall = call;
  try {
    cached = readCache(cacheOf(call), key);
    if (cached && call.asAdded) {
      if (cached.config) used = listAsAdded(list, cached.config);
      given = {
        ...call,
        args: call.args ?? cached.args,
        capabilityArgs: call.capabilityArgs ?? cached.capabilityArgs,
      };
    }
    previous = atLeast(used.cniVersion, '0.4.0') ? previousOf(used, cached) : null;
  } catch {
    // A cache that cannot be read must not keep anything from being deleted.
    previous = null;
  }
  for (const plugin of used.plugins.toReversed()) {
    await callPlugin('DEL', used, plugin, given, previous ? { prevResult: previous } : {}, given);
  }
  removeCache(cacheOf(call), key);
}

/** The list of ADD time when its text still makes one with plugins; plugins of the sibling directory are today's. */
function listAsAdded(list: NetworkList, config: string): NetworkList {
  const single =
    !('plugins' in (JSON.parse(config) as JsonObject)) &&
    list.file !== '' &&
    !list.file.endsWith('.conflist');
  const before = parseNetworkList(config, { file: list.file, single });
  if (before.name !== list.name) return list;
  const siblings = before.loadOnlyInlinedPlugins ? [] : siblingsOf(list);
  const plugins = [...before.plugins, ...siblings];
  return plugins.length > 0 ? { ...before, plugins } : list;
}

function siblingsOf(list: NetworkList): PluginConf[] {
  if (list.loadOnlyInlinedPlugins) return [];
  const inlined = (JSON.parse(list.text) as JsonObject)['plugins'];
  return list.plugins.slice(Array.isArray(inlined) ? inlined.length : 0);
}

/** Runs CHECK through the list. Does nothing where the list says disableCheck. */
export async function checkNetworkList(list: NetworkList, call: RuntimeCall): Promise<void> {
  validate(list, call, true);
  if (!hasVerb(list.cniVersion, 'CHECK')) {
    throw new CniError(
      1,
      `INCOMPATIBLE_VERSION: CHECK needs cniVersion 0.4.0, ${list.file} says ${list.cniVersion}`,
    );
  }
  if (list.disableCheck) return;
  let previous: JsonObject | null;
  try {
    previous = previousOf(list, readCache(cacheOf(call), keyOf(list, call)));
  } catch (error) {
    throw new CniError(
      7,
      `INVALID_CONFIG: the cached result of ADD cannot be read: ${(error as Error).message}`,
      '',
      { cause: error },
    );
  }
  if (!previous)
    throw new CniError(7, `INVALID_CONFIG: no cached result of ADD for ${call.containerId} ${call.ifname}`);
  for (const plugin of list.plugins)
    await callPlugin('CHECK', list, plugin, call, { prevResult: previous }, call);
}

export type ValidAttachment = { containerId: string; ifname: string };

/**
 * DELs what the cache holds of this network and `valid` does not name, then runs GC where the version has it.
 * `valid: null` gives the plugins no list (they refuse). Goes on after a failure; all failures are told in one error.
 */
export async function gcNetworkList(
  list: NetworkList,
  options: RuntimeOptions & { valid: readonly ValidAttachment[] | null },
): Promise<void> {
  if (list.disableGC) return;
  if (!isNetworkName(list.name))
    throw new CniError(7, `INVALID_CONFIG: network name ${JSON.stringify(list.name)} is not valid`);
  const { valid, ...runtime } = options;
  const errors: CniError[] = [];
  const collect = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work();
    } catch (error) {
      runtime.signal?.throwIfAborted();
      errors.push(
        error instanceof CniError
          ? error
          : new CniError(asPodwayError(error).cni, `${what}: ${(error as Error).message}`),
      );
    }
  };
  const lives = new Set((valid ?? []).map(({ containerId, ifname }) => `${containerId}/${ifname}`));
  for (const { containerId, ifname, netns, args, capabilityArgs } of cachedAttachments(cacheOf(options), {
    network: list.name,
  })) {
    if (lives.has(`${containerId}/${ifname}`)) continue;
    await collect(`DEL of ${containerId} ${ifname}`, () =>
      delNetworkList(list, { ...runtime, containerId, ifname, netns, args, capabilityArgs }),
    );
  }
  if (hasVerb(list.cniVersion, 'GC')) {
    const attachments = valid?.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
    // The specification once named the second key; plugins of that time read it.
    const inject: JsonObject = attachments
      ? { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments }
      : {};
    for (const plugin of list.plugins) {
      await collect(`GC of ${plugin.type}`, () => callPlugin('GC', list, plugin, runtime, inject));
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new CniError(errors[0]!.code, errors.map(({ msg }) => msg).join('; '));
}

/** Runs STATUS through the list; the first failure is the answer. Before 1.1.0 there is nothing to ask. */
export async function statusNetworkList(list: NetworkList, options: RuntimeOptions): Promise<void> {
  if (!hasVerb(list.cniVersion, 'STATUS')) return;
  for (const plugin of list.plugins) await callPlugin('STATUS', list, plugin, options, {});
}

/** The versions that a plugin says it supports. One too old for the question supports 0.1.0. */
export async function versionOf(type: string, options: RuntimeOptions): Promise<string[]> {
  const file = findPlugin(type, options.binDirs);
  // Old plugins check variables that this verb has no use for.
  const dummies = { CNI_NETNS: 'dummy', CNI_IFNAME: 'dummy', CNI_CONTAINERID: 'dummy', CNI_PATH: 'dummy' };
  const env = { ...environment('VERSION', options), ...dummies };
  const done = await runPlugin(file, env, JSON.stringify({ cniVersion: LATEST_VERSION }), options);
  if (done.exit !== 0) {
    const error = errorOf(file, done);
    if (error.msg.includes('unknown CNI_COMMAND: VERSION')) return ['0.1.0'];
    throw error;
  }
  let answer: unknown;
  try {
    answer = JSON.parse(done.stdout);
  } catch (error) {
    throw new CniError(6, `BAD_JSON: plugin ${type} answered VERSION with no JSON`, '', { cause: error });
  }
  const supported = isObject(answer) ? answer['supportedVersions'] : undefined;
  if (Array.isArray(supported) && supported.length > 0) return supported.filter((v) => typeof v === 'string');
  if (isObject(answer) && answer['cniVersion'] === '0.2.0') return ['0.1.0', '0.2.0'];
  throw new CniError(6, `BAD_JSON: plugin ${type} answered VERSION without supportedVersions`);
}

/** What keeps the list from working: plugins that are missing or do not speak its version. Empty when nothing does. */
export async function validateNetworkList(list: NetworkList, options: RuntimeOptions): Promise<CniError[]> {
  const errors: CniError[] = [];
  for (const { type } of list.plugins) {
    try {
      const versions = await versionOf(type, options);
      if (!versions.includes(list.cniVersion)) {
        errors.push(
          new CniError(
            1,
            `INCOMPATIBLE_VERSION: plugin ${type} does not support cniVersion ${list.cniVersion}`,
          ),
        );
      }
    } catch (error) {
      if (!(error instanceof CniError)) throw error;
      errors.push(error);
    }
  }
  return errors;
}
