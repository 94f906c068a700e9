// lab.yaml: a Shape written by hand. Every key is known or refused, every value is checked where it stands: a failure
// names file, line and reason. First the reading of one node (Reader), then the document's own rules (yaml-rules.ts).
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { LabError } from '../daemon/errors.ts';

/** A value of the document with the place it stands at. */
export class Reader {
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly node: Node | null;
  readonly path: string;
  readonly #parent: Node | null;

  constructor(file: string, lines: LineCounter, node: Node | null, path: string, parent: Node | null = null) {
    this.#file = file;
    this.#lines = lines;
    this.node = node;
    this.path = path;
    this.#parent = parent;
  }

  fail(reason: string): LabError {
    const offset = (this.node ?? this.#parent)?.range?.[0] ?? 0;
    const { line } = this.#lines.linePos(offset);
    const subject = this.path === '' ? '' : `${this.path} `;
    return new LabError(
      'BAD_SHAPE',
      `${this.#file}:${line}: ${subject}${reason}`,
      'examples/ holds a file per shape',
    );
  }

  get absent(): boolean {
    return this.node === null || (isScalar(this.node) && this.node.value === null);
  }

  /** A map of which every key is one of `keys`. */
  map<K extends string>(keys: readonly K[]): Record<K, Reader> {
    if (!isMap(this.node)) throw this.fail(this.absent ? 'is missing' : 'is not a map');
    const values = {} as Record<K, Reader>;
    for (const key of keys) values[key] = this.#child(null, this.path === '' ? key : `${this.path}.${key}`);
    for (const item of this.node.items) {
      const key = isScalar(item.key) ? String(item.key.value) : '?';
      if (!(keys as readonly string[]).includes(key)) {
        throw this.#child(item.key as Node, this.path).fail(
          `has an unknown key "${key}" (known: ${keys.join(', ')})`,
        );
      }
      values[key as K] = this.#child(
        item.value as Node | null,
        this.path === '' ? key : `${this.path}.${key}`,
      );
    }
    return values;
  }

  entries(): [string, Reader][] {
    if (this.absent) return [];
    if (!isMap(this.node)) throw this.fail('is not a map');
    return this.node.items.map((item) => {
      const key = isScalar(item.key) ? String(item.key.value) : '?';
      return [key, this.#child((item.value as Node | null) ?? (item.key as Node), `${this.path}.${key}`)];
    });
  }

  list(max: number): Reader[] {
    if (this.absent) return [];
    if (!isSeq(this.node)) throw this.fail('is not a list');
    if (this.node.items.length > max)
      throw this.fail(`has ${this.node.items.length} items, at most ${max} are allowed`);
    return this.node.items.map((item, index) => this.#child(item as Node, `${this.path}[${index}]`));
  }

  text(rule?: { pattern: RegExp; says: string }): string {
    if (this.absent) throw this.fail('is missing');
    if (!isScalar(this.node)) throw this.fail('is not a text');
    const value = this.node.source ?? String(this.node.value);
    if (rule && !rule.pattern.test(value)) throw this.fail(`is "${value}", ${rule.says}`);
    return value;
  }

  textOr(fallback: string, rule?: { pattern: RegExp; says: string }): string {
    return this.absent ? fallback : this.text(rule);
  }

  oneOf<T extends string>(words: readonly T[], fallback?: T): T {
    if (this.absent && fallback !== undefined) return fallback;
    const value = this.text();
    if (!(words as readonly string[]).includes(value))
      throw this.fail(`is "${value}", not one of ${words.join(', ')}`);
    return value as T;
  }

  flag(fallback: boolean): boolean {
    return this.absent ? fallback : this.oneOf(['true', 'false']) === 'true';
  }

  #child(node: Node | null, path: string): Reader {
    return new Reader(this.#file, this.#lines, node, path, this.node ?? this.#parent);
  }
}

/** The document's root. Throws LabError BAD_SHAPE when the text is no YAML. */
export function readYaml(text: string, file: string): Reader {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const error = document.errors[0];
  if (error) {
    const { line } = lines.linePos(error.pos[0]);
    throw new LabError(
      'BAD_SHAPE',
      `${file}:${line}: ${error.code === 'MULTIPLE_DOCS' ? 'is a second document: a lab is one' : error.message.split('\n')[0]}`,
      'examples/ holds a file per shape',
    );
  }
  return new Reader(file, lines, document.contents as Node | null, '');
}
