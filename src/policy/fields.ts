// Strict reading of what policy objects have in common: fields, lists, selectors, CIDRs, ports. Whatever is not as it
// should be throws Refused, which names field and value; the decoder of the object says what becomes of the rest.
import { AddressError, type Cidr, parseCidr } from '../base/ip.ts';
import { type Requirement, SelectorError, selectorRequirements } from '../kube/selectors.ts';
import { LAST_PORT, type Policy, type Problem } from './model.ts';

/** Values of selectors, in one policy. */
const MOST_VALUES = 10_000;

export type Decoded = { readonly policy: Policy | null; readonly problems: readonly Problem[] };

const UNKNOWN_FIELD = 'is not a field that is known';
export const isUnknownField = ({ because }: Problem): boolean => because === UNKNOWN_FIELD;

export type Fields = Record<string, unknown>;

export class Refused extends Error {
  readonly field: string;
  readonly value: unknown;

  constructor(field: string, value: unknown, because: string) {
    super(because);
    this.field = field;
    this.value = value;
  }
}

export const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
};

export function fieldsOf(value: unknown, at: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Refused(at, value, 'is not an object');
  for (const key of Object.keys(value))
    if (!known.includes(key)) throw new Refused(`${at}.${key}`, (value as Fields)[key], UNKNOWN_FIELD);
  return value as Fields;
}

export function listOf(value: unknown, at: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Refused(at, value, 'is not a list');
  return value;
}

export const isText = (value: unknown): value is string => typeof value === 'string';

/** Reads a metav1.LabelSelector. */
export function requirementsOf(value: unknown, at: string): Requirement[] {
  const { matchLabels, matchExpressions } = fieldsOf(value, at, ['matchLabels', 'matchExpressions']);
  const labels = fieldsOrNone(matchLabels, `${at}.matchLabels`);
  for (const [key, one] of Object.entries(labels))
    if (!isText(one)) throw new Refused(`${at}.matchLabels.${key}`, one, 'is not text');
  const expressions = listOf(matchExpressions, `${at}.matchExpressions`).map((one, place) => {
    const where = `${at}.matchExpressions[${place}]`;
    const { key, operator, values } = fieldsOf(one, where, ['key', 'operator', 'values']);
    if (!isText(key) || key === '') throw new Refused(`${where}.key`, key, 'is not a label key');
    const list = listOf(values, `${where}.values`);
    if (!list.every(isText)) throw new Refused(`${where}.values`, values, 'is not a list of texts');
    return { key, operator: operator as 'In', values: [...list] as string[] };
  });
  const count = expressions.reduce((sum, { values }) => sum + values.length, Object.keys(labels).length);
  if (count > MOST_VALUES) throw new Refused(at, count, `has more than ${MOST_VALUES} values`);
  try {
    return selectorRequirements({
      matchLabels: labels as Record<string, string>,
      matchExpressions: expressions,
    });
  } catch (error) {
    if (error instanceof SelectorError)
      throw new Refused(`${at}.matchExpressions`, matchExpressions, error.message);
    throw error;
  }
}

export function fieldsOrNone(value: unknown, at: string): Fields {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new Refused(at, value, 'is not an object');
  return value as Fields;
}

export function cidrOf(value: unknown, at: string): Cidr {
  if (!isText(value)) throw new Refused(at, value, 'is not a CIDR');
  try {
    // Host bits say nothing: 10.1.0.0/8 is 10.0.0.0/8.
    return parseCidr(value, { mask: true });
  } catch (error) {
    if (error instanceof AddressError) throw new Refused(at, value, error.message);
    throw error;
  }
}

export const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= LAST_PORT;

export function requirePortName(value: string, at: string): void {
  if (!/^[a-z0-9](?:[-a-z0-9]{0,13}[a-z0-9])?$/.test(value) || !/[a-z]/.test(value))
    throw new Refused(at, value, 'is not the name of a container port');
}

/** The problem that was refused; anything else is thrown on. */
export function problemOf(object: string, error: unknown): Problem {
  if (!(error instanceof Refused)) throw error;
  return { object, field: error.field, value: shown(error.value), because: error.message };
}
