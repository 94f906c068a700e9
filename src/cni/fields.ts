// Reading fields out of JSON that others wrote: each reader names the field and what is wrong with it (INVALID_CONFIG).
// null counts as absent, as in Go's decoders, whose callers wrote most of this JSON.
import { PodwayError } from '../base/errors.ts';
import { formatIp, parseCidr, parseInterfaceAddress, parseIp } from '../base/ip.ts';
import type { Json, JsonObject } from './types.ts';

/** Deepest nesting of a config; the plugin has the same bound. */
const MAX_DEPTH = 512;

export function invalid(field: string, problem: string, cause?: unknown): PodwayError {
  return new PodwayError(
    'INVALID_CONFIG',
    `${field} ${problem}`,
    { object: field },
    cause === undefined ? {} : { cause },
  );
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (quoted) {
      if (c === 0x5c) i++;
      else if (c === 0x22) quoted = false;
    } else if (c === 0x22) quoted = true;
    else if (c === 0x7b || c === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (c === 0x7d || c === 0x5d) depth--;
  }
  return deepest;
}

/** Exactly one JSON object, not too deep. Throws BAD_JSON. */
export function parseObject(text: string, what: string): JsonObject {
  let value: unknown;
  try {
    value = text.length > 2 * MAX_DEPTH && depthOf(text) > MAX_DEPTH ? undefined : JSON.parse(text);
  } catch (error) {
    throw new PodwayError('BAD_JSON', `${what} is not JSON`, { object: what }, { cause: error });
  }
  if (!isObject(value)) {
    throw new PodwayError('BAD_JSON', `${what} is not a JSON object of at most ${MAX_DEPTH} levels`, {
      object: what,
    });
  }
  return value;
}

export function objectAt(parent: JsonObject, key: string, path = key): JsonObject | null {
  const value = parent[key];
  if (value === undefined || value === null) return null;
  if (!isObject(value)) throw invalid(path, 'is not an object');
  return value;
}

export function listAt(parent: JsonObject, key: string, path = key): Json[] {
  const value = parent[key];
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(path, 'is not a list');
  return value;
}

export function objectsAt(parent: JsonObject, key: string, path = key): JsonObject[] {
  return listAt(parent, key, path).map((value, i) => {
    if (!isObject(value)) throw invalid(`${path}[${i}]`, 'is not an object');
    return value;
  });
}

export function textsAt(parent: JsonObject, key: string, path = key): string[] {
  return listAt(parent, key, path).map((value, i) => {
    if (typeof value !== 'string') throw invalid(`${path}[${i}]`, 'is not a string');
    return value;
  });
}

/** The empty string counts as absent: Go writes it for what is not set. */
export function textAt(parent: JsonObject, key: string, path = key): string | undefined {
  const value = parent[key];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'string') throw invalid(path, 'is not a string');
  return value;
}

export function integerAt(
  parent: JsonObject,
  key: string,
  range: { min: number; max: number },
  path = key,
): number | undefined {
  const value = parent[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < range.min || value > range.max) {
    throw invalid(path, `is not an integer from ${range.min} to ${range.max}`);
  }
  return value;
}

/** Accepts the strings "true" and "false" too, as config lists always could. */
export function booleanAt(parent: JsonObject, key: string, fallback: boolean, path = key): boolean {
  const value = parent[key];
  if (value === undefined || value === null) return fallback;
  const said = typeof value === 'string' ? value.toLowerCase() : value;
  if (said === true || said === 'true') return true;
  if (said === false || said === 'false') return false;
  throw invalid(path, 'is neither true nor false');
}

function parsed<T>(field: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    throw invalid(field, error instanceof Error ? error.message : 'cannot be read', error);
  }
}

/** Each answers the text it was given once that is known to be what it should be. */
export function checkIp(text: string, field: string): string {
  return parsed(field, text, (t) => formatIp(parseIp(t)));
}

export function checkInterfaceAddress(text: string, field: string): string {
  return parsed(field, text, (t) => {
    const { ip, length } = parseInterfaceAddress(t);
    return `${formatIp(ip)}/${length}`;
  });
}

/** Prefixes are masked, as Go's own reader does. */
export function checkPrefix(text: string, field: string): string {
  return parsed(field, text, (t) => {
    const { ip, length } = parseCidr(t, { mask: true });
    return `${formatIp(ip)}/${length}`;
  });
}

/** The members that are not undefined. */
export function present<T extends object>(object: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
