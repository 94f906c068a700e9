// Makes kube-models.txt: the fields of every kind that the lab's Kubernetes API serves, and of the models in them, from the
// generated models of @kubernetes/client-node, which is 62 MB and no part of the package. In build/ for a checkout, where
// bin/setup asks for it and it is made again when its sources change; in dist/data/ for the package (tools/build.ts).
import { hash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { builtinKinds } from '../src/lab/cluster/api/builtin.ts';
import { modelNames } from '../src/lab/cluster/api/models.ts';

const root = join(import.meta.dirname, '..');
export const FILE = 'kube-models.txt';

type Attribute = { baseName: string; type: string; format: string };

const load = createRequire(import.meta.url);
const pathOf = (name: string, extension: string) =>
  `@kubernetes/client-node/dist/gen/models/${name}.${extension}`;

/** Undefined when there is no such model. */
function attributesOf(name: string): Attribute[] | undefined {
  try {
    const exported = load(pathOf(name, 'js')) as Record<string, { attributeTypeMap?: Attribute[] }>;
    return exported[name]?.attributeTypeMap;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'MODULE_NOT_FOUND' || code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** `[` before the type of a list's items, `{` before that of a map's values. */
function typeText(text: string): string {
  const list = /^Array<(.+)>$/.exec(text);
  if (list) return `[${typeText(list[1]!)}`;
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(text);
  if (map) return `{${typeText(map[1]!)}`;
  if (text === 'Date' || text === 'V1MicroTime') return 'date';
  return text === 'IntOrString' ? 'int-or-string' : text;
}

const COMMENT = String.raw`\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*`;

/** Descriptions and required marks stand in the declaration file alone. */
function docsOf(name: string) {
  const text = readFileSync(load.resolve(pathOf(name, 'd.ts')), 'utf8');
  const fields = new Map<string, { about: string; required: boolean }>();
  for (const [, comment, field, optional] of text.matchAll(new RegExp(`${COMMENT}'([^']+)'(\\?)?:`, 'g')))
    fields.set(field!, { about: plain(comment!), required: optional === undefined });
  const head = new RegExp(`${COMMENT}export declare class`).exec(text);
  return { description: head ? plain(head[1]!) : '', fields };
}

const plain = (comment: string): string =>
  comment
    .split('\n')
    .map((line) => line.trim().replace(/^\* ?/, '').replaceAll("\\'", "'"))
    .join('\n')
    .trim()
    .replaceAll('\n', '\\n');

export function kubeModels(): string {
  const done = new Map<string, string>();
  const visit = (name: string): boolean => {
    if (done.has(name)) return true;
    const attributes = attributesOf(name);
    if (attributes === undefined) return false;
    const docs = docsOf(name);
    const lines = [`${name}|${docs.description}`];
    done.set(name, '');
    for (const { baseName, type, format } of attributes) {
      const { about = '', required = false } = docs.fields.get(baseName) ?? {};
      const text = typeText(type);
      lines.push(` ${baseName}${required ? '*' : ''}|${text}|${format}|${about}`);
      visit(text.replace(/^[[{]+/, ''));
    }
    done.set(name, `${lines.join('\n')}\n`);
    return true;
  };
  for (const { group, kind, versions } of builtinKinds())
    for (const version of versions) {
      const [short, long] = modelNames(group, version.name, kind);
      if (!visit(short)) visit(long);
    }
  const names = [...done.keys()].sort();
  return names.map((name) => done.get(name)!).join('');
}

/** What the text follows from: the client's version, this file, and the kinds. */
function sourcesHash(): string {
  const files = [
    join(root, 'node_modules/@kubernetes/client-node/package.json'),
    import.meta.filename,
    join(root, 'src/lab/cluster/api/builtin.ts'),
    join(root, 'src/lab/cluster/api/kinds.ts'),
  ];
  return hash('sha256', files.map((file) => readFileSync(file, 'utf8')).join('\0'));
}

/** Writes the file into `folder` unless it is there and its stamp says these sources. True when it was written. */
export function ensureKubeModels(folder: string): boolean {
  const path = join(folder, FILE);
  const stamp = join(folder, `.${FILE}.stamp`);
  const wanted = sourcesHash();
  if (existsSync(path) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return false;
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of [
    [path, kubeModels()],
    [stamp, wanted],
  ] as const) {
    writeFileSync(`${file}.${process.pid}`, text);
    renameSync(`${file}.${process.pid}`, file);
  }
  return true;
}

if (import.meta.main) {
  const made = ensureKubeModels(join(root, 'build'));
  if (!process.argv.includes('--quiet')) console.log(`setup: ${FILE}: ${made ? 'made' : 'up to date'}`);
}
