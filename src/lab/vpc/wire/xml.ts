// Encodes an action's answer (the SDK's own output shape) as EC2's XML, by the action's schema, and errors likewise.
// A member that the schema does not name is a defect of the meaning and throws: the wire stays right by construction.
import type { Shape, StructShape } from './schema.ts';

const NAMESPACE = 'http://ec2.amazonaws.com/doc/2016-11-15/';
const HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n';

export function encodeAnswer(action: string, output: StructShape, answer: object, requestId: string): string {
  const members = output.members();
  // Actions without an output say so in one word.
  const body = members.length === 0 ? '<return>true</return>' : encodeMembers(output, answer);
  return `${HEAD}<${action}Response xmlns="${NAMESPACE}"><requestId>${requestId}</requestId>${body}</${action}Response>`;
}

export function encodeError(code: string, message: string, requestId: string): string {
  return `${HEAD}<Response><Errors><Error><Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error></Errors><RequestID>${requestId}</RequestID></Response>`;
}

/** The same for services of the Query protocol other than EC2. */
export function encodeQueryError(code: string, message: string, requestId: string): string {
  return `${HEAD}<ErrorResponse><Error><Type>Sender</Type><Code>${escapeXml(code)}</Code><Message>${escapeXml(message)}</Message></Error><RequestId>${requestId}</RequestId></ErrorResponse>`;
}

function encodeMembers(shape: StructShape, value: object): string {
  const record = value as Record<string, unknown>;
  let text = '';
  let seen = 0;
  for (const member of shape.members()) {
    if (!Object.hasOwn(record, member.name)) continue;
    seen++;
    const item = record[member.name];
    if (item !== undefined && item !== null)
      text += element(member.xmlName, encode(member.shape(), item, member.name));
  }
  if (seen !== Object.keys(record).length) {
    const known = new Set(shape.members().map((member) => member.name));
    const strange = Object.keys(record).filter((key) => !known.has(key));
    throw new Error(`${shape.name} has no member ${strange.join(', ')}`);
  }
  return text;
}

function encode(shape: Shape, value: unknown, name: string): string {
  switch (shape.kind) {
    case 'struct':
      return encodeMembers(shape, value as object);
    case 'list': {
      const item = shape.item();
      return (value as unknown[]).map((one) => element(shape.itemName, encode(item, one, name))).join('');
    }
    case 'timestamp':
      return (value as Date).toISOString();
    case 'blob':
      return Buffer.from(value as Uint8Array).toString('base64');
    case 'number':
    case 'boolean':
      if (typeof value !== shape.kind) throw new Error(`${name} is a ${typeof value}, not a ${shape.kind}`);
      return String(value);
    case 'string':
      if (typeof value !== 'string') throw new Error(`${name} is a ${typeof value}, not a string`);
      return escapeXml(value);
  }
}

const element = (name: string, content: string): string =>
  content === '' ? `<${name}/>` : `<${name}>${content}</${name}>`;

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that XML forbids
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** XML 1.0 text: markup escaped, what no XML document may hold (section 2.2) left out. */
export function escapeXml(text: string): string {
  if (!/[^ !#-%(-;=?-~]/.test(text)) return text;
  return text
    .toWellFormed()
    .replace(FORBIDDEN, '')
    .replace(/[&<>"']/g, (c) => ENTITIES[c] ?? c)
    .replace(/\r/g, '&#13;');
}
