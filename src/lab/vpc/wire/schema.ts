// The shapes of every EC2 action, read from the schemas that @aws-sdk/client-ec2 exports: names on the wire, list item
// names and types. Loaded when first asked for, then expanded shape by shape and kept.
// Fails only when the SDK's export changes form, with a sentence that names the schema.
import { registerHooks } from 'node:module';

/** What a value is on the wire. Lists are flat in requests and wrapped in items in answers. */
export type Shape =
  | { kind: 'string' | 'number' | 'boolean' | 'timestamp' | 'blob' }
  | { kind: 'list'; item: () => Shape; itemName: string }
  | { kind: 'struct'; name: string; members: () => Member[] };

export type StructShape = Extract<Shape, { kind: 'struct' }>;
export type Member = {
  name: string;
  /** Name in a Query request. */
  queryName: string;
  /** Element name in an XML answer. */
  xmlName: string;
  required: boolean;
  shape: () => Shape;
};
export type ActionSchema = { name: string; input: StructShape; output: StructShape };

type Traits = { xmlName?: string; ec2QueryName?: string };
// A schema of the SDK: a number for a simple type, a tuple that starts with its kind, or a function that returns either.
type Raw = number | string | readonly unknown[] | (() => Raw);

const LIST = 1;
const STRUCT = 3;
const ACTION = 9;
const LIST_FLAG = 64;
const SIMPLE: Record<number, 'string' | 'number' | 'boolean' | 'timestamp' | 'blob'> = {
  0: 'string',
  1: 'number',
  2: 'boolean',
  4: 'timestamp',
  5: 'timestamp',
  17: 'number',
  21: 'blob',
};
const EMPTY: StructShape = { kind: 'struct', name: 'Unit', members: () => [] };

const deref = (raw: Raw): Exclude<Raw, () => Raw> => {
  let value = raw;
  while (typeof value === 'function') value = value();
  return value;
};

/** A member reference is either a schema or a pair [schema, traits]; traits that are a number say nothing of names. */
function splitTraits(raw: unknown): { raw: Raw; traits: Traits } {
  if (Array.isArray(raw) && raw.length === 2) {
    const traits = typeof raw[1] === 'object' && raw[1] !== null ? (raw[1] as Traits) : {};
    return { raw: raw[0] as Raw, traits };
  }
  return { raw: raw as Raw, traits: {} };
}

const shapes = new Map<unknown, Shape>();

function shapeOf(reference: Raw): Shape {
  const raw = deref(reference);
  const known = shapes.get(raw);
  if (known) return known;
  const shape = expand(raw);
  shapes.set(raw, shape);
  return shape;
}

function expand(raw: Exclude<Raw, () => Raw>): Shape {
  if (raw === 'unit') return EMPTY;
  if (typeof raw === 'number') {
    if (raw & LIST_FLAG) return { kind: 'list', item: () => shapeOf(raw & ~LIST_FLAG), itemName: 'member' };
    const kind = SIMPLE[raw];
    if (kind) return { kind };
  } else if (Array.isArray(raw)) {
    if (raw[0] === 0) return shapeOf(raw[4] as Raw);
    if (raw[0] === LIST) {
      const { raw: item, traits } = splitTraits(raw[4]);
      return { kind: 'list', item: () => shapeOf(item), itemName: traits.xmlName ?? 'member' };
    }
    if (raw[0] === STRUCT) return expandStruct(raw);
  }
  throw new Error(`client-ec2 exports a schema of a form not known here: ${String(raw).slice(0, 80)}`);
}

function expandStruct(raw: readonly unknown[]): StructShape {
  const names = raw[4] as string[];
  const references = raw[5] as unknown[];
  const requiredCount = (raw[6] as number | undefined) ?? 0;
  let members: Member[] | undefined;
  const build = (): Member[] =>
    names.map((name, i) => {
      const { raw: reference, traits } = splitTraits(references[i]);
      const xmlName = traits.xmlName ?? name;
      return {
        name,
        queryName: traits.ec2QueryName ?? xmlName[0]?.toUpperCase() + xmlName.slice(1),
        xmlName,
        required: i < requiredCount,
        shape: () => shapeOf(reference),
      };
    });
  return {
    kind: 'struct',
    name: raw[2] as string,
    members: () => {
      members ??= build();
      return members;
    },
  };
}

let loading: Promise<(action: string) => ActionSchema | undefined> | undefined;

/** The lookup from an action's name to its schema; undefined for a name that EC2 does not know. */
export function loadActionSchemas(): Promise<(action: string) => ActionSchema | undefined> {
  loading ??= importSchemas().then((exported) => (action) => {
    const raw = Object.hasOwn(exported, `${action}$`) ? exported[`${action}$`] : undefined;
    if (!Array.isArray(raw) || raw[0] !== ACTION) return undefined;
    const input = shapeOf(raw[4] as Raw);
    const output = shapeOf(raw[5] as Raw);
    if (input.kind !== 'struct' || output.kind !== 'struct') {
      throw new Error(`client-ec2 exports ${action} with an input or output that is no structure`);
    }
    return { name: action, input, output };
  });
  return loading;
}

/**
 * The SDK's schemas alone: a third of the time and 45 MB less than the whole client. They lie in a file of its ES build,
 * whose relative imports lack the extension that Node asks for. Where a later SDK keeps them elsewhere, its public
 * entry, which exports the same names, is loaded instead.
 */
async function importSchemas(): Promise<Record<string, unknown>> {
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier.startsWith('.') && context.parentURL?.includes('/@aws-sdk/client-ec2/dist-es/')
        ? next(`${specifier}.js`, context)
        : next(specifier, context),
  });
  try {
    const alone = new URL('../dist-es/schemas/schemas_0.js', import.meta.resolve('@aws-sdk/client-ec2'));
    return (await import(alone.href)) as Record<string, unknown>;
  } catch {
    return (await import('@aws-sdk/client-ec2')) as unknown as Record<string, unknown>;
  } finally {
    hooks.deregister();
  }
}
