// Label and field selectors: the text forms that lists and watches carry, and the LabelSelector of objects.
// Parsing throws SelectorError naming the part that is wrong; matching never throws.
import type { LabelSelector } from './types.ts';

export class SelectorError extends Error {
  override name = 'SelectorError';
}

export type Requirement = {
  readonly key: string;
  readonly operator: 'in' | 'notin' | 'exists' | 'absent' | 'gt' | 'lt';
  readonly values: readonly string[];
};

export type Labels = Readonly<Record<string, string>>;

const KEY = '[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?(?:/[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?';
const VALUE = '(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?';
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const EXISTS = new RegExp(`^(!?)\\s*(${KEY})$`);
const EQUALS = new RegExp(`^(${KEY})\\s*(==|=|!=|>|<)\\s*(${VALUE})$`);

/** Parses `a=b,c!=d,e in (f,g),!h,i` as labels.Parse of Kubernetes does. */
export function parseLabelSelector(text: string): Requirement[] {
  const out: Requirement[] = [];
  for (const raw of splitOutsideParentheses(text)) {
    const part = raw.trim();
    if (part === '' && text.trim() === '') continue;
    const set = SET.exec(part);
    if (set) {
      const values = set[3]!.split(',').map((v) => v.trim());
      out.push({ key: set[1]!, operator: set[2] as 'in' | 'notin', values });
      continue;
    }
    const exists = EXISTS.exec(part);
    if (exists) {
      out.push({ key: exists[2]!, operator: exists[1] ? 'absent' : 'exists', values: [] });
      continue;
    }
    const equals = EQUALS.exec(part);
    if (!equals) throw new SelectorError(`unable to parse requirement: "${part}"`);
    const [, key, sign, value] = equals as unknown as [string, string, string, string];
    if ((sign === '>' || sign === '<') && !/^-?[0-9]+$/.test(value)) {
      throw new SelectorError(`"${part}": for '>' and '<' the value must be an integer`);
    }
    const operator = sign === '!=' ? 'notin' : sign === '>' ? 'gt' : sign === '<' ? 'lt' : 'in';
    out.push({ key, operator, values: [value] });
  }
  return out;
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '(') depth++;
    else if (c === ')') depth--;
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

export function matchesRequirements(
  requirements: readonly Requirement[],
  labels: Labels | undefined,
): boolean {
  for (const { key, operator, values } of requirements) {
    const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
    switch (operator) {
      case 'in':
        if (value === undefined || !values.includes(value)) return false;
        break;
      case 'notin':
        if (value !== undefined && values.includes(value)) return false;
        break;
      case 'exists':
        if (value === undefined) return false;
        break;
      case 'absent':
        if (value !== undefined) return false;
        break;
      case 'gt':
      case 'lt': {
        if (value === undefined || !/^-?[0-9]+$/.test(value)) return false;
        const [a, b] = [BigInt(value), BigInt(values[0]!)];
        if (operator === 'gt' ? a <= b : a >= b) return false;
        break;
      }
    }
  }
  return true;
}

/** The LabelSelector of an object (network policies, services of CRDs); an empty one matches everything. */
export function selectorRequirements(selector: LabelSelector): Requirement[] {
  const out: Requirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    out.push({ key, operator: 'in', values: [value] });
  }
  const operators = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: 'absent' } as const;
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const known = operators[operator];
    if (known === undefined) throw new SelectorError(`"${operator}" is not a valid label selector operator`);
    if ((known === 'in' || known === 'notin') !== (values !== undefined && values.length > 0)) {
      throw new SelectorError(`${key}: values do not fit the operator ${operator}`);
    }
    out.push({ key, operator: known, values: values ?? [] });
  }
  return out;
}

export type FieldRequirement = { readonly path: string; readonly equal: boolean; readonly value: string };

/** Parses `spec.nodeName=a,status.phase!=Running`; `\,`, `\=` and `\\` are escapes, as in fields.ParseSelector. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  const out: FieldRequirement[] = [];
  let part = '';
  const parts: string[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\' && i + 1 < text.length) part += text[i]! + text[++i]!;
    else if (text[i] === ',') {
      parts.push(part);
      part = '';
    } else part += text[i];
  }
  parts.push(part);
  for (const each of parts) {
    if (each === '') continue;
    const match = /^((?:[^\\=!]|\\.)+)(==|!=|=)((?:[^\\=]|\\.)*)$/.exec(each);
    if (!match) throw new SelectorError(`invalid selector: '${text}'; can't understand '${each}'`);
    out.push({ path: match[1]!, equal: match[2] !== '!=', value: match[3]!.replace(/\\(.)/g, '$1') });
  }
  return out;
}

/** The field as text; what is missing is empty. */
export function fieldAt(object: unknown, keys: readonly string[]): string {
  let at: unknown = object;
  for (const key of keys) {
    if (at === null || typeof at !== 'object') return '';
    at = (at as Record<string, unknown>)[key];
  }
  return at === undefined || at === null ? '' : String(at);
}
