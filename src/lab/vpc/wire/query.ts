// Decodes an EC2 Query request ("Filter.1.Value.2=x") into the SDK's own input shape, by the action's schema.
// Accepts nothing that the schema does not name (UnknownParameter), no bad number, boolean or time
// (InvalidParameterValue), and bounds count, depth and length of what it reads.
import { Ec2Error, invalidValue, missing } from '../errors.ts';
import type { Shape, StructShape } from './schema.ts';

/** More parameters than a request of 1 MiB for a real action carries. */
const MAX_PARAMETERS = 20_000;
const MAX_DEPTH = 12;

/** Of the protocol and of signing, not of an action. */
const COMMON = new Set(['Action', 'Version', 'AWSAccessKeyId', 'Timestamp', 'Expires', 'Signature']);
const isCommon = (key: string): boolean => COMMON.has(key) || /^(X-Amz-|Signature|SecurityToken$)/i.test(key);

type Node = { value?: string; children: Map<string, Node> };
const newNode = (): Node => ({ children: new Map() });

function treeOf(parameters: URLSearchParams): Node {
  const root = newNode();
  let count = 0;
  for (const [key, value] of parameters) {
    if (++count > MAX_PARAMETERS)
      throw new Ec2Error('MalformedQueryString', `More than ${MAX_PARAMETERS} parameters`);
    if (isCommon(key)) continue;
    const path = key.split('.');
    if (path.length > MAX_DEPTH)
      throw new Ec2Error('MalformedQueryString', `The parameter ${key.slice(0, 80)} is too deep`);
    let node = root;
    for (const step of path) {
      let next = node.children.get(step);
      if (!next) {
        next = newNode();
        node.children.set(step, next);
      }
      node = next;
    }
    node.value = value;
  }
  return root;
}

/** The SDK-shaped input of an action. */
export function decodeQuery(input: StructShape, parameters: URLSearchParams): Record<string, unknown> {
  return decodeStruct(input, treeOf(parameters), '');
}

function decodeStruct(shape: StructShape, node: Node, path: string): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  const members = shape.members();
  const known = new Set<string>();
  for (const member of members) {
    known.add(member.queryName);
    const child = node.children.get(member.queryName);
    if (child) value[member.name] = decode(member.shape(), child, path + member.queryName);
    // An empty list is not sent at all: whether that is wrong, and in which words, is for the action to say.
    else if (member.required && member.shape().kind !== 'list') throw missing(path + member.queryName);
  }
  for (const key of node.children.keys()) {
    if (!known.has(key))
      throw new Ec2Error('UnknownParameter', `The parameter ${path}${key} is not recognized`);
  }
  return value;
}

function decode(shape: Shape, node: Node, path: string): unknown {
  if (shape.kind === 'struct') {
    if (node.children.size === 0 && node.value !== undefined && node.value !== '') throw badForm(path);
    return decodeStruct(shape, node, `${path}.`);
  }
  if (shape.kind === 'list') return decodeList(shape, node, path);
  if (node.children.size > 0) throw badForm(path);
  const text = node.value ?? '';
  switch (shape.kind) {
    case 'string':
      return text;
    case 'number': {
      const number = Number(text);
      if (text.trim() === '' || !Number.isFinite(number))
        throw invalidValue(`Invalid value '${text}' for ${path}.`);
      return number;
    }
    case 'boolean':
      if (/^true$/i.test(text)) return true;
      if (/^false$/i.test(text)) return false;
      throw invalidValue(`Invalid value '${text}' for ${path}. Must be true or false.`);
    case 'timestamp': {
      const date = new Date(text);
      if (Number.isNaN(date.getTime()))
        throw invalidValue(`Invalid value '${text}' for ${path}. Must be a time.`);
      return date;
    }
    case 'blob':
      return Uint8Array.from(Buffer.from(text, 'base64'));
  }
}

function decodeList(shape: Extract<Shape, { kind: 'list' }>, node: Node, path: string): unknown[] {
  // An empty list may be sent as the bare name.
  if (node.children.size === 0 && (node.value === undefined || node.value === '')) return [];
  const entries = [...node.children].map(([key, child]) => {
    if (!/^[0-9]{1,9}$/.test(key))
      throw new Ec2Error('UnknownParameter', `The parameter ${path}.${key} is not recognized`);
    return { index: Number(key), child };
  });
  if (entries.length === 0) throw badForm(path);
  entries.sort((a, b) => a.index - b.index);
  return entries.map(({ index, child }) => decode(shape.item(), child, `${path}.${index}`));
}

const badForm = (path: string): Ec2Error =>
  new Ec2Error('MalformedQueryString', `The parameter ${path} has the wrong form`);
