// What a client sends and what it takes: media types of bodies and answers.
// 406 only when nothing that we write is acceptable, 415 only when a body is of a kind that we cannot read.
import { badRequest, notAcceptable } from './errors.ts';

export type Answer = {
  readonly kind: 'json' | 'yaml';
  readonly as: 'object' | 'table' | 'partial' | 'discovery';
};

type Range = { type: string; params: Record<string, string>; q: number };

export function parseAccept(header: string): Range[] {
  const ranges: Range[] = [];
  for (const part of header.split(',').slice(0, 32)) {
    const [type = '', ...rest] = part.split(';').map((p) => p.trim());
    const params: Record<string, string> = Object.create(null) as Record<string, string>;
    for (const p of rest) {
      const eq = p.indexOf('=');
      if (eq > 0) params[p.slice(0, eq).trim().toLowerCase()] = p.slice(eq + 1).trim();
    }
    const q = params['q'] === undefined ? 1 : Number(params['q']);
    if (q > 0) ranges.push({ type: type.toLowerCase(), params, q });
  }
  return ranges.sort((a, b) => b.q - a.q);
}

/** `allow`: which shapes this path can take besides the plain object. */
export function negotiate(header: string | undefined, allow: readonly Answer['as'][] = []): Answer {
  if (header === undefined || header.trim() === '') return { kind: 'json', as: 'object' };
  for (const { type, params } of parseAccept(header)) {
    const json = type === 'application/json' || type === '*/*' || type === 'application/*';
    const yaml = type === 'application/yaml';
    if (!json && !yaml) continue;
    const kind = yaml ? 'yaml' : 'json';
    const as = params['as'];
    if (as === undefined) return { kind, as: 'object' };
    if (as === 'Table' && params['g'] === 'meta.k8s.io' && params['v'] === 'v1' && allow.includes('table')) {
      return { kind, as: 'table' };
    }
    if (
      as.startsWith('PartialObjectMetadata') &&
      params['g'] === 'meta.k8s.io' &&
      params['v'] === 'v1' &&
      allow.includes('partial')
    ) {
      return { kind, as: 'partial' };
    }
    if (as === 'APIGroupDiscoveryList' && params['v'] === 'v2' && allow.includes('discovery')) {
      return { kind, as: 'discovery' };
    }
  }
  throw notAcceptable(['application/json', 'application/yaml']);
}

export const baseType = (contentType: string | undefined): string =>
  (contentType ?? '').split(';')[0]!.trim().toLowerCase();

/** Nesting that JSON from outside may have; what is deeper would only be there to exhaust a stack. */
const MAX_DEPTH = 128;

export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw badRequest(
      `the object provided is unrecognized (must be of type json): ${(error as Error).message}`,
    );
  }
  checkValue(value, 0);
  return value;
}

export async function parseYaml(text: string): Promise<unknown> {
  const yaml = await import('yaml');
  let value: unknown;
  try {
    value = yaml.parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw badRequest(`error decoding YAML: ${(error as Error).message}`);
  }
  checkValue(value, 0);
  return value;
}

function checkValue(value: unknown, depth: number): void {
  if (value === null || typeof value !== 'object') return;
  if (depth > MAX_DEPTH) throw badRequest(`the object provided nests deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    for (const item of value) checkValue(item, depth + 1);
    return;
  }
  for (const key of Object.keys(value)) {
    // An own property of this name would change prototypes when merged.
    if (key === '__proto__') throw badRequest('the object provided has a field "__proto__"');
    checkValue((value as Record<string, unknown>)[key], depth + 1);
  }
}
