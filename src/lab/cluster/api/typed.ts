// Decodes objects of built-in kinds as the API server's Go types do: unknown fields are dropped and named, nulls are
// absent, a value of the wrong type is a bad request. The types are those of models.ts.
import { badRequest } from './errors.ts';
import type { Any, Problems } from './kinds.ts';
import { type Field, type FieldType, type Model, modelOf, modelOfKind } from './models.ts';

/** Quantities: text for whoever reads them, and a number is as good when written. */
const quantityMaps = new Set([
  'requests',
  'limits',
  'capacity',
  'allocatable',
  'hard',
  'used',
  'overhead',
  'default',
  'defaultRequest',
  'max',
  'min',
  'maxLimitRequestRatio',
  'allocatedResources',
  'podFixed',
]);
const quantities = new Set([
  'divisor',
  'sizeLimit',
  'maximumVolumeSize',
  'value',
  'averageValue',
  'capacity',
]);
/** `value` and `capacity` are text in most places and a quantity in these models. */
const quantityModels = new Set(['V2MetricTarget', 'V2MetricValueStatus', 'V1CSIStorageCapacity']);

type Walk = { unknown: string[]; kind: string; version: string };

/** A kind without a model is taken as it comes. */
export function decoderOf(group: string, version: string, kind: string): (object: Any) => Problems {
  let model: Model | null | undefined;
  return (object) => {
    if (model === undefined) model = modelOfKind(group, version, kind);
    const walk: Walk = { unknown: [], kind, version };
    if (model !== null) decodeModel(walk, object, model, '');
    return { causes: [], unknown: walk.unknown };
  };
}

function decodeModel(walk: Walk, object: Record<string, unknown>, model: Model, path: string): void {
  for (const key in object) {
    const field = model.fields.get(key);
    const value = object[key];
    if (field === undefined) {
      // Server-owned and legacy parts of metadata, which every client may send back.
      if (key !== 'managedFields' && key !== 'selfLink')
        walk.unknown.push(`unknown field "${join(path, key)}"`);
      delete object[key];
    } else if (value === null) delete object[key];
    else object[key] = decodeField(walk, value, field, model, join(path, key));
  }
}

const join = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`);

function decodeField(walk: Walk, value: unknown, field: Field, model: Model, path: string): unknown {
  if (field.type.kind === 'map' && field.type.of.kind === 'string' && quantityMaps.has(field.name)) {
    const map = mapOf(walk, value, path);
    for (const key in map) if (typeof map[key] === 'number') map[key] = String(map[key]);
    return map;
  }
  if (
    typeof value === 'number' &&
    quantities.has(field.name) &&
    (quantityModels.has(model.name) || (field.name !== 'value' && field.name !== 'capacity'))
  ) {
    return String(value);
  }
  // A model that is a map in JSON (its Go type is json.RawMessage or the like) has no fields to speak of.
  return decodeValue(walk, value, field.type, path, field.format);
}

function decodeValue(walk: Walk, value: unknown, type: FieldType, path: string, format = ''): unknown {
  switch (type.kind) {
    case 'any':
      return value;
    case 'string':
      if (typeof value !== 'string') throw wrongType(walk, value, path, 'string');
      return value;
    case 'date':
      if (typeof value !== 'string' || (value !== '' && Number.isNaN(Date.parse(value)))) {
        throw wrongType(walk, value, path, 'Time');
      }
      return value;
    case 'boolean':
      if (typeof value !== 'boolean') throw wrongType(walk, value, path, 'bool');
      return value;
    case 'number': {
      const whole = format.startsWith('int');
      if (typeof value !== 'number' || (whole && !Number.isInteger(value)))
        throw wrongType(walk, value, path, format || 'number');
      return value;
    }
    case 'int-or-string':
      if (typeof value !== 'string' && !Number.isInteger(value))
        throw wrongType(walk, value, path, 'IntOrString');
      return value;
    case 'list': {
      if (!Array.isArray(value)) throw wrongType(walk, value, path, 'list');
      const list = value as unknown[];
      for (let i = 0; i < list.length; i++) {
        const item = list[i];
        list[i] =
          item === null && type.of.kind !== 'model'
            ? null
            : decodeValue(walk, item, type.of, `${path}[${i}]`);
      }
      return list;
    }
    case 'map': {
      const map = mapOf(walk, value, path);
      for (const key in map) {
        if (map[key] === null && type.of.kind === 'string') map[key] = '';
        else map[key] = decodeValue(walk, map[key], type.of, `${path}.${key}`);
      }
      return map;
    }
    case 'model': {
      const model = modelOf(type.name);
      const object = mapOf(walk, value, path);
      if (model !== null) decodeModel(walk, object, model, path);
      return object;
    }
  }
}

function mapOf(walk: Walk, value: unknown, path: string): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw wrongType(walk, value, path, 'object');
  return value as Record<string, unknown>;
}

function wrongType({ kind, version }: Walk, value: unknown, path: string, wanted: string) {
  const is = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const found = is === 'boolean' ? 'bool' : is;
  return badRequest(
    `${kind} in version "${version}" cannot be handled as a ${kind}: json: cannot unmarshal ${found} into Go struct field ${kind}.${path} of type ${wanted}`,
  );
}
