// Reads the protobuf bodies that Go clients send for built-in kinds (application/vnd.kubernetes.protobuf) into the
// objects that JSON would have said. Answers are JSON, which those clients accept beside it.
// Field numbers and names are data (data/kube-protobuf.txt, made by tools/kube-protobuf.ts from the Go types).
// Fails with 400 on bytes that do not decode, 415 on a kind that is not in the data.
import { readFileSync } from 'node:fs';
import { dataFile } from './data-file.ts';
import { ApiError, badRequest } from './errors.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** Bytes before the envelope (runtime.Unknown of apimachinery). */
const MAGIC = Buffer.from('6b387300', 'hex');
const MAX_DEPTH = 64;

type FieldSpec = { name: string; type: string; many: '' | '[' | '{'; omitZero: boolean };
type Message = Map<number, FieldSpec>;
type Fields = Record<string, unknown>;

let table: Map<string, Message> | null = null;

function messages(): Map<string, Message> {
  if (table !== null) return table;
  table = new Map();
  for (const line of readFileSync(dataFile('kube-protobuf.txt'), 'utf8').split('\n')) {
    if (line === '') continue;
    const [name, ...fields] = line.split('|') as [string, ...string[]];
    const message: Message = new Map();
    for (const text of fields) {
      const [number, json, type] = text.split(':') as [string, string, string];
      const many = type[0] === '[' || type[0] === '{' ? type[0] : '';
      message.set(Number(number), {
        name: json,
        type: type.slice(many.length).replace('?', ''),
        many,
        omitZero: type.endsWith('?'),
      });
    }
    table.set(name, message);
  }
  return table;
}

const folders: Record<string, string> = {
  '': 'core',
  'rbac.authorization.k8s.io': 'rbac',
  'events.k8s.io': 'events',
};

export function decodeProtobuf(bytes: Buffer): unknown {
  if (!bytes.subarray(0, 4).equals(MAGIC))
    throw badRequest('the protobuf body does not begin with the magic of Kubernetes');
  let apiVersion = '';
  let kind = '';
  let raw: Buffer = Buffer.alloc(0);
  for (const { number, value } of fieldsOf(bytes.subarray(4))) {
    if (number === 2 && Buffer.isBuffer(value)) raw = value;
    if (number !== 1 || !Buffer.isBuffer(value)) continue;
    for (const inner of fieldsOf(value)) {
      if (inner.number === 1) apiVersion = String(inner.value);
      if (inner.number === 2) kind = String(inner.value);
    }
  }
  const slash = apiVersion.indexOf('/');
  const group = slash < 0 ? '' : apiVersion.slice(0, slash);
  const folder = folders[group] ?? group.split('.')[0]!;
  const name =
    kind === 'DeleteOptions' ? 'meta/v1.DeleteOptions' : `${folder}/${apiVersion.slice(slash + 1)}.${kind}`;
  if (!messages().has(name)) {
    throw new ApiError(
      415,
      'UnsupportedMediaType',
      `no protobuf encoding of ${kind} in ${apiVersion} is known here, send JSON`,
    );
  }
  return { apiVersion, kind, ...decodeMessage(raw, name, 0) };
}

type Wire = { number: number; value: number | bigint | Buffer };

function* fieldsOf(bytes: Buffer): Generator<Wire> {
  const bad = () => badRequest('the protobuf body is cut short or malformed');
  let at = 0;
  const varint = (): bigint => {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw bad();
      result |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, result);
    }
    throw bad();
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        if (at + 8 > bytes.length) throw bad();
        yield { number, value: bytes.readDoubleLE(at) };
        at += 8;
        break;
      case 2: {
        const length = Number(varint());
        if (at + length > bytes.length) throw bad();
        yield { number, value: bytes.subarray(at, at + length) };
        at += length;
        break;
      }
      case 5:
        if (at + 4 > bytes.length) throw bad();
        yield { number, value: bytes.readFloatLE(at) };
        at += 4;
        break;
      default:
        throw bad();
    }
  }
}

function decodeMessage(bytes: Buffer, name: string, depth: number): Fields {
  if (depth > MAX_DEPTH) throw badRequest(`the protobuf body nests deeper than ${MAX_DEPTH} levels`);
  const message = messages().get(name);
  const out: Fields = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const field = message?.get(number);
    if (field === undefined) continue;
    const { name: json, type, many, omitZero } = field;
    if (many === '[') {
      out[json] ??= [];
      (out[json] as unknown[]).push(decodeValue(value, type, depth));
    } else if (many === '{') {
      let key = '';
      let item: unknown = type === 's' ? '' : null;
      for (const entry of fieldsOf(bytesOf(value))) {
        if (entry.number === 1) key = String(entry.value);
        if (entry.number === 2) item = decodeValue(entry.value, type, depth);
      }
      out[json] ??= {};
      if (key !== '__proto__') (out[json] as Fields)[key] = item;
    } else {
      const decoded = decodeValue(value, type, depth);
      if (json === '') Object.assign(out, decoded);
      else if (decoded === undefined || (omitZero && (decoded === '' || decoded === 0 || decoded === false)))
        continue;
      else out[json] = decoded;
    }
  }
  return out;
}

function bytesOf(value: Wire['value']): Buffer {
  if (!Buffer.isBuffer(value))
    throw badRequest('the protobuf body has a field of another type than its kind says');
  return value;
}

const signed = (value: Wire['value']): number =>
  Number(typeof value === 'bigint' ? BigInt.asIntN(64, value) : value);

function decodeValue(value: Wire['value'], type: string, depth: number): unknown {
  switch (type) {
    case 's':
      return bytesOf(value).toString('utf8');
    case 'b':
      return signed(value) !== 0;
    case 'i':
      return signed(value);
    case 'd':
      return Number(value);
    case 'y':
      return bytesOf(value).toString('base64');
    case 'Q':
      return textIn(bytesOf(value), 1);
    case 'L':
      return [...fieldsOf(bytesOf(value))].map((field) => String(field.value));
    case 'R':
      return JSON.parse(textIn(bytesOf(value), 1) || 'null') as unknown;
    case 'T':
    case 'U':
      return timeIn(bytesOf(value), type === 'U');
    case 'D':
      return `${numberIn(bytesOf(value), 1) / 1e9}s`;
    case 'B':
    case 'A':
    case 'P':
      return alternativeIn(bytesOf(value), type, depth + 1);
    case 'I': {
      const bytes = bytesOf(value);
      return numberIn(bytes, 1) === 0 ? numberIn(bytes, 2) : textIn(bytes, 3);
    }
    default:
      return decodeMessage(bytesOf(value), type, depth + 1);
  }
}

const SCHEMA = 'apiextensions/v1.JSONSchemaProps';

/** A schema, or what may stand in its place: a bool (`B`), a list of schemas (`A`), a list of text (`P`). */
function alternativeIn(bytes: Buffer, type: 'A' | 'B' | 'P', depth: number): unknown {
  const fields = [...fieldsOf(bytes)];
  const at = (number: number) => fields.filter((field) => field.number === number).map(({ value }) => value);
  const [schema] = at(type === 'B' ? 2 : 1);
  const list = type === 'B' ? [] : at(2);
  if (list.length > 0) return list.map((each) => decodeValue(each, type === 'A' ? SCHEMA : 's', depth));
  if (schema !== undefined) return decodeMessage(bytesOf(schema), SCHEMA, depth);
  return type === 'B' ? at(1).some((allows) => signed(allows) !== 0) : null;
}

function textIn(bytes: Buffer, number: number): string {
  for (const field of fieldsOf(bytes)) if (field.number === number) return String(field.value);
  return '';
}

function numberIn(bytes: Buffer, number: number): number {
  for (const field of fieldsOf(bytes)) if (field.number === number) return signed(field.value);
  return 0;
}

/** Undefined for the zero time, which JSON says as null. */
function timeIn(bytes: Buffer, micro: boolean): string | undefined {
  if (bytes.length === 0) return undefined;
  const date = new Date(numberIn(bytes, 1) * 1000);
  if (Number.isNaN(date.getTime())) throw badRequest('the protobuf body has a time out of range');
  const text = date.toISOString().slice(0, 19);
  const micros = String(Math.floor(numberIn(bytes, 2) / 1000)).padStart(6, '0');
  return micro ? `${text}.${micros}Z` : `${text}Z`;
}
