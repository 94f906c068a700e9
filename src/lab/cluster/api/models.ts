// The fields of the built-in kinds, taken from the generated models of @kubernetes/client-node: right by construction
// for every kind and field of its Kubernetes release, and nothing to type by hand. Each model is a small module of
// its own and is loaded when first needed; descriptions and required marks come from its declaration file.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

export type FieldType =
  | { kind: 'string' | 'number' | 'boolean' | 'date' | 'any' | 'int-or-string' }
  | { kind: 'model'; name: string }
  | { kind: 'list'; of: FieldType }
  | { kind: 'map'; of: FieldType };

export type Field = { readonly name: string; readonly type: FieldType; readonly format: string };
export type Model = { readonly name: string; readonly fields: ReadonlyMap<string, Field> };
export type Docs = {
  readonly description: string;
  readonly fields: ReadonlyMap<string, { text: string; required: boolean }>;
};

type Attribute = { baseName: string; type: string; format: string };

const load = createRequire(import.meta.url);
const pathOf = (name: string, extension: string) =>
  `@kubernetes/client-node/dist/gen/models/${name}.${extension}`;
const models = new Map<string, Model | null>();
const documented = new Map<string, Docs>();

/** Null when there is no such model. */
export function modelOf(name: string): Model | null {
  let model = models.get(name);
  if (model !== undefined) return model;
  model = null;
  try {
    const exported = load(pathOf(name, 'js')) as Record<string, { attributeTypeMap?: Attribute[] }>;
    const attributes = exported[name]?.attributeTypeMap;
    if (attributes) {
      const fields = attributes.map(({ baseName, type, format }) => ({
        name: baseName,
        type: typeOf(type),
        format,
      }));
      model = { name, fields: new Map(fields.map((field) => [field.name, field])) };
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'MODULE_NOT_FOUND' && code !== 'ERR_MODULE_NOT_FOUND') throw error;
  }
  models.set(name, model);
  return model;
}

/** The model of a built-in kind: `V1Pod`, `CoreV1Event`, `V2HorizontalPodAutoscaler`. */
export function modelOfKind(group: string, version: string, kind: string): Model | null {
  const plain = `${capital(version)}${kind}`;
  const prefix = group === '' ? 'Core' : capital(group.split('.')[0]!);
  return modelOf(plain) ?? modelOf(prefix + plain);
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function typeOf(text: string): FieldType {
  const list = /^Array<(.+)>$/.exec(text);
  if (list) return { kind: 'list', of: typeOf(list[1]!) };
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(text);
  if (map) return { kind: 'map', of: typeOf(map[1]!) };
  switch (text) {
    case 'string':
    case 'number':
    case 'boolean':
    case 'any':
      return { kind: text };
    case 'Date':
    case 'V1MicroTime':
      return { kind: 'date' };
    case 'IntOrString':
      return { kind: 'int-or-string' };
    default:
      return { kind: 'model', name: text };
  }
}

/** Empty when the declaration file is not there. */
export function docsOf(name: string): Docs {
  const known = documented.get(name);
  if (known !== undefined) return known;
  let text = '';
  try {
    text = readFileSync(load.resolve(pathOf(name, 'd.ts')), 'utf8');
  } catch {
    // Documentation is an extra: without the file there is none.
  }
  const fields = new Map<string, { text: string; required: boolean }>();
  for (const [, comment, field, optional] of text.matchAll(
    /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*'([^']+)'(\?)?:/g,
  )) {
    fields.set(field!, { text: plainText(comment!), required: optional === undefined });
  }
  const head = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export declare class/.exec(text);
  const docs = { description: head ? plainText(head[1]!) : '', fields };
  documented.set(name, docs);
  return docs;
}

const plainText = (comment: string): string =>
  comment
    .split('\n')
    .map((line) => line.trim().replace(/^\* ?/, '').replaceAll("\\'", "'"))
    .join('\n')
    .trim();
