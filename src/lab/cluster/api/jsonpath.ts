// The JSONPath of CustomResourceDefinitions: printer columns, scale paths and selectable fields.
// `.a.b`, `['a.b']`, `[0]`, `[*]`, `.*` and filters `[?(@.type=="Ready")]`; no scripts, no recursion.

type Step =
  | { kind: 'field'; name: string }
  | { kind: 'index'; at: number }
  | { kind: 'all' }
  | { kind: 'filter'; path: Step[]; operator: string; value: unknown };

export class PathError extends Error {
  override name = 'PathError';
}

const compiled = new Map<string, Step[]>();
/** Paths come from CRDs, whose number is small; the bound is for those that come and go. */
const MAX_COMPILED = 2000;

export function compilePath(text: string): Step[] {
  const known = compiled.get(text);
  if (known !== undefined) return known;
  const steps = parse(text);
  if (compiled.size >= MAX_COMPILED) compiled.clear();
  compiled.set(text, steps);
  return steps;
}

function parse(text: string): Step[] {
  const steps: Step[] = [];
  let rest = text
    .trim()
    .replace(/^\{(.*)\}$/, '$1')
    .replace(/^\$/, '');
  if (rest !== '' && rest[0] !== '.' && rest[0] !== '[') rest = `.${rest}`;
  while (rest !== '') {
    const [step, length] = nextStep(text, rest);
    steps.push(step);
    rest = rest.slice(length);
  }
  return steps;
}

const FIELD = /^\.((?:[A-Za-z0-9_$\-/]|\\.)+)/;
const QUOTED = /^\[(?:'([^']*)'|"([^"]*)")\]/;
const INDEX = /^\[(-?[0-9]+)\]/;
const ALL = /^(?:\.\*|\[\*\])/;
const FILTER = /^\[\?\(\s*@([^=!<>\s)]*)\s*(==|!=)\s*(?:'([^']*)'|"([^"]*)"|([^\s)'"]+))\s*\)\]/;

/** The step at the head of `rest`, and how much text it takes. */
function nextStep(text: string, rest: string): [Step, number] {
  const field = FIELD.exec(rest);
  if (field) return [{ kind: 'field', name: field[1]!.replace(/\\(.)/g, '$1') }, field[0].length];
  const all = ALL.exec(rest);
  if (all) return [{ kind: 'all' }, all[0].length];
  const index = INDEX.exec(rest);
  if (index) return [{ kind: 'index', at: Number(index[1]) }, index[0].length];
  const quoted = QUOTED.exec(rest);
  if (quoted) return [{ kind: 'field', name: (quoted[1] ?? quoted[2])! }, quoted[0].length];
  const filter = FILTER.exec(rest);
  if (!filter) throw new PathError(`cannot read the JSON path "${text}" at "${rest}"`);
  const value = filter[3] ?? filter[4] ?? literalOf(filter[5]!);
  return [{ kind: 'filter', path: parse(filter[1]!), operator: filter[2]!, value }, filter[0].length];
}

function literalOf(text: string): unknown {
  if (text === 'true') return true;
  if (text === 'false') return false;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

/** Every value that the path reaches. */
export function readAll(object: unknown, steps: readonly Step[]): unknown[] {
  let at: unknown[] = [object];
  for (const step of steps) {
    const next: unknown[] = [];
    for (const value of at) {
      if (value === null || typeof value !== 'object') continue;
      const children = () => (Array.isArray(value) ? value : Object.values(value));
      if (step.kind === 'field') {
        if (Object.hasOwn(value, step.name)) next.push((value as Record<string, unknown>)[step.name]);
      } else if (step.kind === 'index') {
        const item = Array.isArray(value) ? (value as unknown[]).at(step.at) : undefined;
        if (item !== undefined) next.push(item);
      } else if (step.kind === 'all') next.push(...children());
      else {
        for (const child of children()) {
          const found = readAll(child, step.path)[0];
          if ((found === step.value) === (step.operator === '==')) next.push(child);
        }
      }
    }
    at = next;
  }
  return at;
}

/** The first value that the path reaches. */
export function readPath(object: unknown, path: string): unknown {
  return readAll(object, compilePath(path))[0];
}

/** For plain field paths; makes the objects on the way. */
export function writePath(object: Record<string, unknown>, path: string, value: unknown): void {
  const steps = compilePath(path);
  let at = object;
  steps.forEach((step, i) => {
    if (step.kind !== 'field') throw new PathError(`cannot write through the JSON path "${path}"`);
    if (i === steps.length - 1) at[step.name] = value;
    else {
      const next = at[step.name];
      if (next === null || typeof next !== 'object') at[step.name] = {};
      at = at[step.name] as Record<string, unknown>;
    }
  });
}
