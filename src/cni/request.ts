// Environment and stdin of a call, read into one of six typed requests, or refused with the cause that CNI numbers.
// Owns every rule of the process contract that can be judged without the node's state. Pure. The order of checks is the
// plugin's own (environment, JSON, name, version, the verb's fields), so that both say the same of a bad call.
// DEL is refused for nothing but its key: arguments, prevResult and wishes that cannot be read are left out.
import { PodwayError } from '../base/errors.ts';
import { checkArgs, parseArgs, podOf } from './args.ts';
import { invalid, isObject, objectAt, objectsAt, parseObject, textAt } from './fields.ts';
import { parseResult } from './result.ts';
import type { Attachment, CniRequest, JsonObject, NetConf, Result } from './types.ts';
import { LATEST_VERSION, parseVersion, VERBS, type Verb, versionFor } from './versions.ts';
import { noWishes, wishesOf } from './wishes.ts';

/** Characters: id, separator and interface name must fit in a file name. */
const MAX_CONTAINER_ID = 200;
const MAX_NAME = 255;
/** Bytes: IFNAMSIZ less the NUL. */
const MAX_IFNAME = 15;

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export const isContainerId = (text: string): boolean => text.length <= MAX_CONTAINER_ID && NAME.test(text);
export const isNetworkName = (text: string): boolean => text.length <= MAX_NAME && NAME.test(text);
/** The rule of CNI, and what Linux would not take or, of `%`, would take for a template of another name. */
export const isIfname = (text: string): boolean =>
  text !== '' &&
  !['.', '..', 'all', 'default'].includes(text) &&
  Buffer.byteLength(text) <= MAX_IFNAME &&
  // U+FFFD is what bytes that are no UTF-8 became: two of them could be one name.
  !/[/:%\s\p{Cc}\ufffd]/u.test(text);

const required: Record<Verb, readonly string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
  VERSION: [],
};

export function badEnvironment(variable: string, message: string): PodwayError {
  return new PodwayError('BAD_ENVIRONMENT', message, { object: variable });
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 64));

type Environment = ReadonlyMap<string, string>;

function checkEnvironment(env: Environment): Verb {
  const command = env.get('CNI_COMMAND') ?? '';
  const verb = VERBS.find((known) => known === command);
  if (!verb) throw badEnvironment('CNI_COMMAND', `unknown CNI_COMMAND: ${command.slice(0, 64)}`);
  const missing = required[verb].filter((name) => !env.get(name));
  if (missing.length > 0)
    throw badEnvironment(missing[0]!, `required variables are missing: ${missing.join(', ')}`);
  if (required[verb].length === 0) return verb;
  const id = env.get('CNI_CONTAINERID')!;
  const ifname = env.get('CNI_IFNAME')!;
  if (!isContainerId(id)) {
    throw badEnvironment(
      'CNI_CONTAINERID',
      `CNI_CONTAINERID ${shown(id)} is not a container id: a letter or digit, then letters, digits, _ . -, at most ${MAX_CONTAINER_ID}`,
    );
  }
  if (!isIfname(ifname)) {
    throw badEnvironment(
      'CNI_IFNAME',
      `CNI_IFNAME ${shown(ifname)} is not an interface name: 1 to ${MAX_IFNAME} bytes of text, no / : % or white space, not . .. all or default`,
    );
  }
  return verb;
}

function nameOf(raw: JsonObject): string {
  const name = raw['name'];
  if (name === undefined || name === null || name === '')
    throw invalid('name', 'is missing: the config has no network name');
  if (typeof name !== 'string' || !isNetworkName(name)) {
    throw invalid(
      'name',
      `${JSON.stringify(name).slice(0, 66)} is not a network name: a letter or digit, then letters, digits, _ . -`,
    );
  }
  return name;
}

/** What `read` answers, or for a DEL `otherwise` when it throws. */
function lenient<T>(verb: Verb, read: () => T, otherwise: T): T {
  if (verb !== 'DEL') return read();
  try {
    return read();
  } catch {
    return otherwise;
  }
}

function previousResult(verb: Verb, raw: JsonObject, version: NetConf['cniVersion']): Result | null {
  return lenient(
    verb,
    () => {
      const previous = objectAt(raw, 'prevResult');
      return previous ? parseResult(previous, version) : null;
    },
    null,
  );
}

/** The attachments that live on. `null` stands for a list without items; a missing key is refused (G03). */
function validAttachments(raw: JsonObject, network: string): Attachment[] {
  // Early callers write only the second key.
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find((name) => name in raw);
  if (!key)
    throw invalid(
      'cni.dev/valid-attachments',
      'is missing: without the list of what lives on nothing is removed',
    );
  return objectsAt(raw, key).map((one, i) => {
    const containerId = textAt(one, 'containerID', `${key}[${i}].containerID`);
    const ifname = textAt(one, 'ifname', `${key}[${i}].ifname`);
    if (!containerId || !isContainerId(containerId))
      throw invalid(`${key}[${i}].containerID`, 'is not a container id');
    if (!ifname || !isIfname(ifname)) throw invalid(`${key}[${i}].ifname`, 'is not an interface name');
    return { network, containerId, ifname };
  });
}

/** Reads one call. Throws PodwayError: BAD_ENVIRONMENT, BAD_JSON, INVALID_CONFIG, INCOMPATIBLE_VERSION. */
export function decodeRequest(
  env: Environment | Record<string, string | undefined>,
  stdin: Uint8Array | string,
): CniRequest {
  const variables: Environment =
    env instanceof Map
      ? env
      : new Map(Object.entries(env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v] as const])));
  const verb = checkEnvironment(variables);
  if (verb === 'VERSION') return { verb, cniVersion: versionOfStdin(stdin, LATEST_VERSION) };
  const args = argsOf(verb, variables.get('CNI_ARGS') ?? '');
  const raw = parseObject(textOf(stdin), 'stdin');
  const name = nameOf(raw);
  const cniVersion = versionFor(verb, raw['cniVersion']);
  if (verb === 'ADD' || verb === 'CHECK') checkArgs(args);
  const conf: NetConf = {
    cniVersion,
    name,
    type: typeof raw['type'] === 'string' ? raw['type'] : '',
    wishes: lenient(verb, () => wishesOf(raw, args), noWishes()),
    prevResult: previousResult(verb, raw, cniVersion),
    raw,
  };
  if (verb === 'GC') return { verb, conf, valid: validAttachments(raw, name) };
  if (verb === 'STATUS') return { verb, conf };
  const of = {
    containerId: variables.get('CNI_CONTAINERID')!,
    ifname: variables.get('CNI_IFNAME')!,
    conf,
    pod: podOf(args),
  };
  const netns = variables.get('CNI_NETNS') ?? '';
  if (verb === 'DEL') return { verb, netns: netns || null, ...of };
  if (verb === 'ADD') return { verb, netns, ...of };
  if (!conf.prevResult) throw invalid('prevResult', 'is missing: CHECK compares with the result of ADD');
  return { verb, netns, prevResult: conf.prevResult, ...of };
}

/** Of an attachment's verbs; DEL takes those that can be read, and GC and STATUS have none. */
function argsOf(verb: Verb, text: string): ReadonlyMap<string, string> {
  if (verb === 'GC' || verb === 'STATUS') return new Map();
  return lenient(verb, () => parseArgs(text), new Map());
}

const textOf = (stdin: Uint8Array | string): string =>
  typeof stdin === 'string'
    ? stdin
    : Buffer.from(stdin.buffer, stdin.byteOffset, stdin.byteLength).toString('utf8');

/** The cniVersion that an answer to this stdin names, however bad the rest is: 0.1.0 when the config says none. */
export function versionOfStdin(stdin: Uint8Array | string, otherwise: string = '0.1.0'): string {
  try {
    const raw: unknown = JSON.parse(textOf(stdin));
    if (!isObject(raw)) return LATEST_VERSION;
    const said = raw['cniVersion'];
    if (said === undefined || said === null || said === '') return otherwise;
    return typeof said === 'string' && parseVersion(said) ? said : LATEST_VERSION;
  } catch {
    return LATEST_VERSION;
  }
}
