// Structural schemas of CustomResourceDefinitions: prune what they do not know, fill their defaults, and say what is
// wrong with an object in the words of kube-apiserver. CEL rules (x-kubernetes-validations) are not evaluated.
import { isDeepStrictEqual } from 'node:util';
import { parseCidr, parseIp } from '../../../base/ip.ts';
import { invalidValue, required, type StatusCause } from './errors.ts';

export type Schema = {
  type?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: string[];
  default?: unknown;
  enum?: unknown[];
  nullable?: boolean;
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  minProperties?: number;
  maxProperties?: number;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  not?: Schema;
  description?: string;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-embedded-resource'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: string[];
};

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

const join = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`);

/** Drops unknown fields in place and names them. `root`: apiVersion, kind and metadata are always known. */
export function prune(value: unknown, schema: Schema, path = '', root = true): string[] {
  const dropped: string[] = [];
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items)
      for (const [i, item] of value.entries()) dropped.push(...prune(item, items, `${path}[${i}]`, false));
    return dropped;
  }
  if (!isFields(value)) return dropped;
  const top = root || schema['x-kubernetes-embedded-resource'] === true;
  for (const key of Object.keys(value)) {
    if (top && (key === 'apiVersion' || key === 'kind' || key === 'metadata')) continue;
    const known = Object.hasOwn(schema.properties ?? {}, key) ? schema.properties![key] : undefined;
    if (known) dropped.push(...prune(value[key], known, join(path, key), false));
    else if (isFields(schema.additionalProperties)) {
      dropped.push(...prune(value[key], schema.additionalProperties as Schema, join(path, key), false));
    } else if (schema.additionalProperties !== true && !schema['x-kubernetes-preserve-unknown-fields']) {
      dropped.push(join(path, key));
      delete value[key];
    }
  }
  return dropped;
}

/** Fills defaults in place; a null where null is not allowed and a default is known counts as absent. */
export function fillDefaults(value: unknown, schema: Schema): void {
  if (Array.isArray(value)) {
    if (schema.items) for (const item of value) fillDefaults(item, schema.items);
    return;
  }
  if (!isFields(value)) return;
  for (const [key, child] of Object.entries(schema.properties ?? {})) {
    const absent = !Object.hasOwn(value, key) || (value[key] === null && !child.nullable);
    if (absent && child.default !== undefined) value[key] = structuredClone(child.default);
    if (value[key] !== undefined) fillDefaults(value[key], child);
  }
  if (isFields(schema.additionalProperties)) {
    for (const [key, child] of Object.entries(value)) {
      if (!Object.hasOwn(schema.properties ?? {}, key))
        fillDefaults(child, schema.additionalProperties as Schema);
    }
  }
}

export function validate(value: unknown, schema: Schema, path = ''): StatusCause[] {
  const causes: StatusCause[] = [];
  check(value, schema, path, causes);
  return causes;
}

const typeNames: Record<string, (value: unknown) => boolean> = {
  object: isFields,
  array: Array.isArray,
  string: (v) => typeof v === 'string',
  boolean: (v) => typeof v === 'boolean',
  integer: (v) => Number.isInteger(v),
  number: (v) => typeof v === 'number',
};

const describe = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'array'
      : typeof value === 'number' && Number.isInteger(value)
        ? 'integer'
        : typeof value;

function check(value: unknown, schema: Schema, path: string, causes: StatusCause[]): void {
  const say = (text: string, shown: unknown = value) =>
    causes.push(invalidValue(path === '' ? '<nil>' : path, shown, `${path} in body ${text}`));
  if (value === null) {
    if (!schema.nullable) {
      causes.push(
        invalidValue(path, 'null', `${path} in body must be of type ${schema.type ?? 'object'}: "null"`),
      );
    }
    return;
  }
  if (schema['x-kubernetes-int-or-string']) {
    if (typeof value !== 'string' && !Number.isInteger(value))
      say('must be of type integer or string', describe(value));
  } else if (schema.type !== undefined && !(typeNames[schema.type]?.(value) ?? true)) {
    say(`must be of type ${schema.type}: "${describe(value)}"`, describe(value));
    return;
  }
  if (schema.enum && !schema.enum.some((each) => isDeepStrictEqual(each, value))) {
    const supported = schema.enum.map((each) => JSON.stringify(each)).join(', ');
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported}`,
      field: path,
    });
  }
  if (typeof value === 'string') checkText(value, schema, say);
  else if (typeof value === 'number') checkNumber(value, schema, say);
  else if (Array.isArray(value)) checkList(value, schema, path, causes, say);
  else if (isFields(value)) checkFields(value, schema, path, causes, say);
  checkCombined(value, schema, path, causes, say);
}

type Say = (text: string, shown?: unknown) => void;

const patterns = new Map<string, RegExp | null>();

function patternOf(text: string): RegExp | null {
  let known = patterns.get(text);
  if (known === undefined) {
    try {
      known = new RegExp(text, 'u');
    } catch {
      // RE2 syntax that JavaScript does not have: such a pattern is not checked.
      known = null;
    }
    if (patterns.size > 1000) patterns.clear();
    patterns.set(text, known);
  }
  return known;
}

const formats: Record<string, (text: string) => boolean> = {
  'date-time': (t) =>
    /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(t) &&
    !Number.isNaN(Date.parse(t)),
  date: (t) => /^\d{4}-\d\d-\d\d$/.test(t),
  ipv4: (t) => !t.includes(':') && parses(() => parseIp(t)),
  ipv6: (t) => t.includes(':') && parses(() => parseIp(t)),
  ip: (t) => parses(() => parseIp(t)),
  cidr: (t) => parses(() => parseCidr(t, { mask: true })),
  mac: (t) => /^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$/.test(t),
  uuid: (t) => /^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$/.test(t),
  uri: (t) => URL.canParse(t),
  email: (t) => /^[^@\s]+@[^@\s]+$/.test(t),
  byte: (t) => /^[A-Za-z0-9+/]*={0,2}$/.test(t) && t.length % 4 === 0,
  duration: (t) => /^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$/.test(t) || t === '0',
};

function parses(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}

function checkText(value: string, schema: Schema, say: Say): void {
  const length = [...value].length;
  if (schema.minLength !== undefined && length < schema.minLength)
    say(`should be at least ${schema.minLength} chars long`);
  if (schema.maxLength !== undefined && length > schema.maxLength)
    say(`should be at most ${schema.maxLength} chars long`);
  if (schema.pattern !== undefined && !(patternOf(schema.pattern)?.test(value) ?? true))
    say(`should match '${schema.pattern}'`);
  if (schema.format !== undefined && !(formats[schema.format]?.(value) ?? true))
    say(`must be of type ${schema.format}: "${value}"`);
}

function checkNumber(value: number, schema: Schema, say: Say): void {
  const { minimum, maximum, multipleOf } = schema;
  if (minimum !== undefined) {
    if (schema.exclusiveMinimum ? value <= minimum : value < minimum) {
      say(`should be greater than ${schema.exclusiveMinimum ? '' : 'or equal to '}${minimum}`);
    }
  }
  if (maximum !== undefined) {
    if (schema.exclusiveMaximum ? value >= maximum : value > maximum) {
      say(`should be less than ${schema.exclusiveMaximum ? '' : 'or equal to '}${maximum}`);
    }
  }
  if (multipleOf !== undefined && multipleOf > 0 && !Number.isInteger(value / multipleOf))
    say(`should be a multiple of ${multipleOf}`);
  if (schema.format === 'int32' && (value > 2147483647 || value < -2147483648)) say('must be of type int32');
}

function checkList(value: unknown[], schema: Schema, path: string, causes: StatusCause[], say: Say): void {
  if (schema.minItems !== undefined && value.length < schema.minItems)
    say(`should have at least ${schema.minItems} items`);
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    causes.push({
      reason: 'FieldValueTooMany',
      message: `Too many: ${value.length}: must have at most ${schema.maxItems} items`,
      field: path,
    });
  }
  const { 'x-kubernetes-list-type': kind, 'x-kubernetes-list-map-keys': keys = [] } = schema;
  if (kind === 'set' || kind === 'map' || schema.uniqueItems) {
    const seen = new Set<string>();
    value.forEach((item, i) => {
      const id = JSON.stringify(
        kind === 'map' ? keys.map((key) => (isFields(item) ? item[key] : null)) : item,
      );
      if (seen.has(id)) {
        const shown =
          kind === 'map'
            ? Object.fromEntries(keys.map((key) => [key, isFields(item) ? item[key] : null]))
            : item;
        causes.push({
          reason: 'FieldValueDuplicate',
          message: `Duplicate value: ${JSON.stringify(shown)}`,
          field: `${path}[${i}]`,
        });
      }
      seen.add(id);
    });
  }
  const { items } = schema;
  if (items) for (const [i, item] of value.entries()) check(item, items, `${path}[${i}]`, causes);
}

function checkFields(value: Fields, schema: Schema, path: string, causes: StatusCause[], say: Say): void {
  for (const key of schema.required ?? []) {
    if (!Object.hasOwn(value, key)) causes.push(required(join(path, key)));
  }
  const size = Object.keys(value).length;
  if (schema.minProperties !== undefined && size < schema.minProperties)
    say(`should have at least ${schema.minProperties} properties`);
  if (schema.maxProperties !== undefined && size > schema.maxProperties)
    say(`should have at most ${schema.maxProperties} properties`);
  for (const [key, child] of Object.entries(value)) {
    const known = Object.hasOwn(schema.properties ?? {}, key) ? schema.properties![key] : undefined;
    if (known) check(child, known, join(path, key), causes);
    else if (isFields(schema.additionalProperties))
      check(child, schema.additionalProperties as Schema, join(path, key), causes);
  }
}

function checkCombined(value: unknown, schema: Schema, path: string, causes: StatusCause[], say: Say): void {
  const fits = (each: Schema) => validate(value, each, path).length === 0;
  for (const each of schema.allOf ?? []) check(value, each, path, causes);
  if (schema.anyOf && !schema.anyOf.some(fits)) say('must validate at least one schema (anyOf)');
  if (schema.oneOf && schema.oneOf.filter(fits).length !== 1)
    say('must validate one and only one schema (oneOf)');
  if (schema.not && fits(schema.not)) say('must not validate the schema (not)');
}

/** What makes a schema not structural, after the rules of apiextensions.k8s.io/v1. */
export function structuralProblems(schema: Schema, path: string, root = true): StatusCause[] {
  const causes: StatusCause[] = [];
  const forbidden = (field: string, why: string) =>
    causes.push({ reason: 'FieldValueForbidden', message: `Forbidden: ${why}`, field });
  if (!isFields(schema)) return [invalidValue(path, schema, 'must be a schema')];
  if (root && schema.type !== 'object') {
    causes.push(
      schema.type === undefined
        ? required(`${path}.type`, 'must not be empty at the root')
        : invalidValue(`${path}.type`, schema.type, 'must be object at the root'),
    );
  }
  const open = schema['x-kubernetes-int-or-string'] || schema['x-kubernetes-preserve-unknown-fields'];
  if (!root && schema.type === undefined && !open) {
    causes.push(required(`${path}.type`, 'must not be empty for specified object fields'));
  }
  if (schema.type !== undefined && !Object.hasOwn(typeNames, schema.type)) {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(schema.type)}: supported values: "array", "boolean", "integer", "number", "object", "string"`,
      field: `${path}.type`,
    });
  }
  if ('$ref' in schema) forbidden(`${path}.$ref`, '$ref is not supported');
  if (schema.uniqueItems)
    forbidden(
      `${path}.uniqueItems`,
      'uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    );
  if (schema.additionalProperties === false)
    forbidden(`${path}.additionalProperties`, 'additionalProperties cannot be set to false');
  if (schema.properties && schema.additionalProperties)
    forbidden(`${path}.additionalProperties`, 'additionalProperties and properties are mutual exclusive');
  if (schema.type === 'array' && !schema.items) causes.push(required(`${path}.items`, 'must be specified'));
  for (const [key, child] of Object.entries(schema.properties ?? {})) {
    if (root && (key === 'metadata' || key === 'apiVersion' || key === 'kind')) continue;
    causes.push(...structuralProblems(child, `${path}.properties[${key}]`, false));
  }
  if (schema.items) causes.push(...structuralProblems(schema.items, `${path}.items`, false));
  if (isFields(schema.additionalProperties)) {
    causes.push(
      ...structuralProblems(schema.additionalProperties as Schema, `${path}.additionalProperties`, false),
    );
  }
  if (schema.default !== undefined) {
    causes.push(...validate(schema.default, schema, `${path}.default`));
  }
  return causes;
}
