// Nothing of a request is dropped in silence: a parameter that its action does not honour is refused by name.
// The rules of an action are in actions/honoured.ts; what a request asks for beyond them is found here, pure.
// Fails with UnsupportedOperation, which names the action, the parameter and, where some values are fine, the value.
import type { ActionName, Input } from './actions/types.ts';
import { Ec2Error } from './errors.ts';

type Plain = string | number | boolean;
type ItemOf<T> = NonNullable<T> extends readonly (infer I)[] ? NonNullable<I> : NonNullable<T>;
type Rule<T> =
  /** The meaning reads it, or the service does. */
  | true
  /** Why it may be given and changes nothing. */
  | string
  /** Only these values are accepted; they ask for the lab's fixed behaviour. */
  | readonly Plain[]
  /** A structure, or the items of a list of them, member by member. */
  | (ItemOf<T> extends Plain | Date | Uint8Array ? never : Honours<ItemOf<T>>);
/** What is not named here is refused as soon as it asks for something. */
export type Honours<T> = { readonly [K in keyof T]?: Rule<T[K]> };
export type HonoursOfAll = { readonly [A in ActionName]: Honours<Input<A>> };

type AnyRule = true | string | readonly Plain[] | AnyHonours;
export type AnyHonours = { readonly [member: string]: AnyRule | undefined };

/** Of every action: the service itself honours them. */
const OF_ALL: ReadonlySet<string> = new Set(['DryRun', 'ClientToken']);

/** Throws for the first parameter of `input` that `honours` does not cover. */
export function refuseRest(action: string, input: object, honours: AnyHonours): void {
  const path = firstUncovered(input, honours, '');
  if (path === undefined) return;
  throw new Ec2Error('UnsupportedOperation', `${action} with ${path} has no meaning in this VPC.`);
}

function firstUncovered(value: object, honours: AnyHonours, prefix: string): string | undefined {
  for (const [name, given] of Object.entries(value)) {
    if (prefix === '' && OF_ALL.has(name)) continue;
    const rule = Object.hasOwn(honours, name) ? honours[name] : undefined;
    const path = uncovered(given, rule, prefix + name);
    if (path !== undefined) return path;
  }
  return undefined;
}

function uncovered(given: unknown, rule: AnyRule | undefined, path: string): string | undefined {
  if (rule === true || typeof rule === 'string' || given === undefined || given === null) return undefined;
  if (rule === undefined) return asks(given, path) ? path : undefined;
  if (isValues(rule)) return rule.includes(given as Plain) ? undefined : `${path}=${String(given)}`;
  for (const item of Array.isArray(given) ? given : [given]) {
    const inner = firstUncovered(item as object, rule, `${path}.`);
    if (inner !== undefined) return inner;
  }
  return undefined;
}

const isValues = (rule: AnyRule): rule is readonly Plain[] => Array.isArray(rule);

/** Whether a value asks for something: not false, not an empty text or list, not a count of none. */
function asks(given: unknown, path: string): boolean {
  if (given === undefined || given === null || given === false || given === '') return false;
  if (given === 0) return !path.endsWith('Count');
  if (Array.isArray(given)) return given.length > 0;
  if (typeof given === 'object' && !(given instanceof Date) && !(given instanceof Uint8Array)) {
    return Object.values(given).some((inner) => asks(inner, path));
  }
  return true;
}
