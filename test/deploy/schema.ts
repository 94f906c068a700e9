// The part of JSON Schema that the chart's values.schema.json uses. A keyword that it does not know is an error, so that
// the schema cannot say more than is tested. Helm's own validation is tested where Helm is.

export type Schema = { [keyword: string]: unknown };

const kindOf = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'array'
      : Number.isInteger(value)
        ? 'integer'
        : typeof value;

/** The faults, each with its path; none for a value that the schema takes. */
export function faults(value: unknown, schema: Schema, path = ''): string[] {
  const found: string[] = [];
  const say = (text: string) => found.push(`${path || '(root)'} ${text}`);
  const fields = kindOf(value) === 'object' ? (value as Record<string, unknown>) : undefined;
  const properties = (schema['properties'] ?? {}) as Record<string, Schema>;
  const rules: Record<string, (rule: never) => void> = {
    $schema: () => {},
    title: () => {},
    type: (rule: string | string[]) => {
      if (![rule].flat().includes(kindOf(value))) say(`is ${kindOf(value)}, not ${rule}`);
    },
    enum: (rule: unknown[]) => {
      if (!rule.includes(value)) say(`is not one of ${rule}`);
    },
    pattern: (rule: string) => {
      if (typeof value === 'string' && !new RegExp(rule).test(value)) say(`does not match ${rule}`);
    },
    minLength: (rule: number) => {
      if (typeof value === 'string' && value.length < rule) say('is too short');
    },
    minimum: (rule: number) => {
      if (typeof value === 'number' && value < rule) say(`is less than ${rule}`);
    },
    maximum: (rule: number) => {
      if (typeof value === 'number' && value > rule) say(`is more than ${rule}`);
    },
    items: (rule: Schema) => {
      if (Array.isArray(value))
        for (const [at, item] of value.entries()) found.push(...faults(item, rule, `${path}[${at}]`));
    },
    uniqueItems: () => {
      if (Array.isArray(value) && new Set(value).size !== value.length) say('has one item twice');
    },
    required: (rule: string[]) => {
      for (const key of rule) if (fields && !(key in fields)) say(`has no ${key}`);
    },
    properties: (rule: Record<string, Schema>) => {
      for (const [key, inner] of Object.entries(rule))
        if (fields && key in fields) found.push(...faults(fields[key], inner, `${path}.${key}`));
    },
    propertyNames: (rule: Schema) => {
      for (const key of Object.keys(fields ?? {})) found.push(...faults(key, rule, `${path}.${key}`));
    },
    additionalProperties: (rule: boolean | Schema) => {
      for (const [key, inner] of Object.entries(fields ?? {})) {
        if (key in properties || rule === true) continue;
        if (rule === false) say(`has no value ${key}`);
        else found.push(...faults(inner, rule, `${path}.${key}`));
      }
    },
    maxProperties: (rule: number) => {
      if (Object.keys(fields ?? {}).length > rule) say(`has more than ${rule}`);
    },
  };
  for (const [keyword, rule] of Object.entries(schema)) {
    const check = rules[keyword];
    if (!check) throw new Error(`the schema uses ${keyword}, which is not tested`);
    check(rule as never);
  }
  return found;
}
