// The fields of the built-in kinds, with their types, descriptions and required marks: kube-models.txt, made by
// tools/kube-models.ts from the generated models of @kubernetes/client-node. Right by construction for every kind and
// field of its Kubernetes release, the same in a checkout and in the package, and read when first needed.
import { readFileSync } from 'node:fs';
import { dataFile } from './data-file.ts';

export type FieldType =
  | { kind: 'string' | 'number' | 'boolean' | 'date' | 'any' | 'int-or-string' }
  | { kind: 'model'; name: string }
  | { kind: 'list'; of: FieldType }
  | { kind: 'map'; of: FieldType };

export type Field = {
  readonly name: string;
  readonly type: FieldType;
  readonly format: string;
  readonly required: boolean;
  readonly text: string;
};
export type Model = {
  readonly name: string;
  readonly description: string;
  readonly fields: ReadonlyMap<string, Field>;
};

let models: Map<string, Model> | null = null;

/** Null when there is no such model. */
export function modelOf(name: string): Model | null {
  models ??= readModels(readFileSync(dataFile('kube-models.txt'), 'utf8'));
  return models.get(name) ?? null;
}

/** The model of a built-in kind: `V1Pod`, `CoreV1Event`, `V2HorizontalPodAutoscaler`. */
export function modelOfKind(group: string, version: string, kind: string): Model | null {
  const [plain, long] = modelNames(group, version, kind);
  return modelOf(plain) ?? modelOf(long);
}

/** What the generator may call a kind; the longer name where two groups have a kind of that name. */
export function modelNames(group: string, version: string, kind: string): [string, string] {
  const plain = `${capital(version)}${kind}`;
  return [plain, (group === '' ? 'Core' : capital(group.split('.')[0]!)) + plain];
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** Lines: `Model|description`, then ` field|type|format|description` with a `*` behind a required field's name. */
function readModels(text: string): Map<string, Model> {
  const read = new Map<string, Model>();
  let fields = new Map<string, Field>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    if (line[0] !== ' ') {
      const [name, description] = cut(line, 2) as [string, string];
      fields = new Map();
      read.set(name, { name, description: lines(description), fields });
      continue;
    }
    const [mark, type, format, about] = cut(line.slice(1), 4) as [string, string, string, string];
    const required = mark.endsWith('*');
    const name = required ? mark.slice(0, -1) : mark;
    fields.set(name, { name, type: typeOf(type), format, required, text: lines(about) });
  }
  return read;
}

/** The last part may hold the separator. */
function cut(line: string, parts: number): string[] {
  const found = line.split('|');
  return [...found.slice(0, parts - 1), found.slice(parts - 1).join('|')];
}

const lines = (text: string): string => text.replaceAll('\\n', '\n');

function typeOf(text: string): FieldType {
  if (text.startsWith('[')) return { kind: 'list', of: typeOf(text.slice(1)) };
  if (text.startsWith('{')) return { kind: 'map', of: typeOf(text.slice(1)) };
  switch (text) {
    case 'string':
    case 'number':
    case 'boolean':
    case 'date':
    case 'any':
    case 'int-or-string':
      return { kind: text };
    default:
      return { kind: 'model', name: text };
  }
}
