// CustomResourceDefinitions: checked and completed when written, turned into kinds that are served at once.
import { rfc3339 } from '../../../base/clock.ts';
import { age, ageColumn, nameColumn } from './columns.ts';
import { invalidValue, required, type StatusCause } from './errors.ts';
import { compilePath, PathError, readAll } from './jsonpath.ts';
import type { Any, Column, HookContext, Kind, KindVersion, Problems } from './kinds.ts';
import { metadataShape } from './metadata.ts';
import { fillDefaults, prune, type Schema, structuralProblems, validate } from './schema.ts';

/** Holds a definition until its objects are gone. */
export const CLEANUP = 'customresourcecleanup.apiextensions.k8s.io';

type PrinterColumn = {
  name: string;
  type: string;
  format?: string;
  description?: string;
  priority?: number;
  jsonPath: string;
};

type DefinitionVersion = {
  name: string;
  served: boolean;
  storage: boolean;
  deprecated?: boolean;
  deprecationWarning?: string;
  schema?: { openAPIV3Schema?: Schema };
  subresources?: {
    status?: object;
    scale?: { specReplicasPath: string; statusReplicasPath: string; labelSelectorPath?: string };
  };
  additionalPrinterColumns?: PrinterColumn[];
  selectableFields?: { jsonPath: string }[];
};

type Names = {
  plural: string;
  singular?: string;
  kind: string;
  listKind?: string;
  shortNames?: string[];
  categories?: string[];
};

export type Definition = Any & {
  spec: {
    group: string;
    scope: 'Namespaced' | 'Cluster';
    names: Names;
    versions: DefinitionVersion[];
    conversion?: { strategy: string };
    preserveUnknownFields?: boolean;
  };
  status?: Record<string, unknown>;
};

export function completeDefinition(object: Any, context: HookContext, before: Any | null): void {
  const { spec } = object as Definition;
  if (spec?.names === undefined || typeof spec.names !== 'object') return;
  if (typeof spec.names.kind === 'string') {
    spec.names.singular ??= spec.names.kind.toLowerCase();
    spec.names.listKind ??= `${spec.names.kind}List`;
  }
  spec.conversion ??= { strategy: 'None' };
  const stored = Array.isArray(spec.versions) ? spec.versions.find((v) => v?.storage)?.name : undefined;
  const old = (before as Definition | null)?.status ?? {};
  const versions = new Set([
    ...((old['storedVersions'] as string[] | undefined) ?? []),
    ...(stored ? [stored] : []),
  ]);
  const at = rfc3339(context.now);
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: 'True',
    lastTransitionTime: at,
    reason,
    message,
  });
  object['status'] = {
    ...old,
    acceptedNames: spec.names,
    storedVersions: [...versions],
    conditions: old['conditions'] ?? [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
  };
  if (before === null) {
    const finalizers = object.metadata.finalizers ?? [];
    object.metadata.finalizers = finalizers.includes(CLEANUP) ? finalizers : [...finalizers, CLEANUP];
  }
}

export function checkDefinition(object: Any, before: Any | null): StatusCause[] {
  const { spec } = object as Definition;
  const causes: StatusCause[] = [];
  if (!spec || typeof spec !== 'object') return [required('spec')];
  if (!spec.group) causes.push(required('spec.group'));
  else if (!spec.group.includes('.'))
    causes.push(invalidValue('spec.group', spec.group, 'should be a domain with at least one dot'));
  if (spec.scope !== 'Namespaced' && spec.scope !== 'Cluster') {
    causes.push(
      spec.scope
        ? {
            reason: 'FieldValueNotSupported',
            message: `Unsupported value: ${JSON.stringify(spec.scope)}: supported values: "Cluster", "Namespaced"`,
            field: 'spec.scope',
          }
        : required('spec.scope'),
    );
  }
  for (const field of ['plural', 'kind'] as const)
    if (!spec.names?.[field]) causes.push(required(`spec.names.${field}`));
  if (spec.names?.plural && spec.group && object.metadata.name !== `${spec.names.plural}.${spec.group}`) {
    causes.push(
      invalidValue('metadata.name', object.metadata.name, 'must be spec.names.plural+"."+spec.group'),
    );
  }
  if (!Array.isArray(spec.versions) || spec.versions.length === 0)
    return [...causes, required('spec.versions')];
  if (spec.versions.filter((v) => v?.storage).length !== 1) {
    causes.push(
      invalidValue(
        'spec.versions',
        spec.versions.map((v) => v?.name),
        'must have exactly one version marked as storage version',
      ),
    );
  }
  for (const [i, version] of spec.versions.entries())
    causes.push(...checkVersion(version, `spec.versions[${i}]`));
  if (spec.conversion && spec.conversion.strategy !== 'None') {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(spec.conversion.strategy)}: supported values: "None"`,
      field: 'spec.conversion.strategy',
    });
  }
  const old = (before as Definition | null)?.spec;
  if (old) {
    const fixed = [
      ['spec.group', old.group, spec.group],
      ['spec.scope', old.scope, spec.scope],
      ['spec.names.plural', old.names.plural, spec.names?.plural],
      ['spec.names.kind', old.names.kind, spec.names?.kind],
    ] as const;
    for (const [field, was, is] of fixed)
      if (was !== is) causes.push(invalidValue(field, is, 'field is immutable'));
  }
  return causes;
}

function checkVersion(version: DefinitionVersion, path: string): StatusCause[] {
  const causes: StatusCause[] = [];
  if (!version?.name) return [required(`${path}.name`)];
  if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(version.name))
    causes.push(invalidValue(`${path}.name`, version.name, 'must be a lowercase RFC 1123 label'));
  const schema = version.schema?.openAPIV3Schema;
  if (schema === undefined) causes.push(required(`${path}.schema.openAPIV3Schema`, 'schemas are required'));
  else causes.push(...structuralProblems(schema, `${path}.schema.openAPIV3Schema`));
  const paths: [string, string | undefined][] = [
    ...(version.additionalPrinterColumns ?? []).map((c, i): [string, string] => [
      `${path}.additionalPrinterColumns[${i}].jsonPath`,
      c.jsonPath,
    ]),
    [`${path}.subresources.scale.specReplicasPath`, version.subresources?.scale?.specReplicasPath],
    [`${path}.subresources.scale.statusReplicasPath`, version.subresources?.scale?.statusReplicasPath],
  ];
  for (const [field, text] of paths) {
    if (text === undefined) continue;
    try {
      compilePath(text);
    } catch (error) {
      if (!(error instanceof PathError)) throw error;
      causes.push(invalidValue(field, text, error.message));
    }
  }
  return causes;
}

export function kindOfDefinition(definition: Definition): Kind {
  const { spec } = definition;
  const { names, group } = spec;
  const stored = spec.versions.find((v) => v.storage)!;
  const served = spec.versions.filter((v) => v.served);
  const scale = stored.subresources?.scale;
  return {
    group,
    kind: names.kind,
    listKind: names.listKind ?? `${names.kind}List`,
    plural: names.plural,
    singular: names.singular ?? names.kind.toLowerCase(),
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    namespaced: spec.scope === 'Namespaced',
    versions: served.map(versionOf),
    storedVersion: `${group}/${stored.name}`,
    collection: `${names.plural}.${group}`,
    nameRule: 'subdomain',
    status: stored.subresources?.status !== undefined,
    createsWithStatus: false,
    ...(scale
      ? {
          scale: {
            spec: scale.specReplicasPath,
            status: scale.statusReplicasPath,
            ...(scale.labelSelectorPath === undefined ? {} : { selector: scale.labelSelectorPath }),
          },
        }
      : {}),
    selectable: (stored.selectableFields ?? []).map((field) => field.jsonPath.replace(/^\./, '')),
    custom: true,
    subresources: [],
  };
}

function versionOf(version: DefinitionVersion): KindVersion {
  const schema = version.schema?.openAPIV3Schema ?? {};
  return {
    name: version.name,
    columns: columnsOfVersion(version),
    schema: schema as Record<string, unknown>,
    decode: (object) => decodeCustom(object, schema),
    ...(version.deprecated
      ? { deprecated: version.deprecationWarning ?? `${version.name} is deprecated` }
      : {}),
  };
}

function decodeCustom(object: Any, schema: Schema): Problems {
  const unknown = prune(object, schema).map((path) => `unknown field "${path}"`);
  fillDefaults(object, schema);
  const { metadata: _, apiVersion: _a, kind: _k, ...rest } = object;
  const { metadata: _m, apiVersion: _b, kind: _c, ...properties } = schema.properties ?? {};
  const wanted = schema.required?.filter((key) => !['metadata', 'apiVersion', 'kind'].includes(key));
  const causes = validate(rest, { ...schema, properties, ...(wanted ? { required: wanted } : {}) });
  const shape = metadataShape(object);
  if (shape !== null) causes.push(invalidValue('metadata', object.metadata, shape));
  return { causes, unknown };
}

function columnsOfVersion(version: DefinitionVersion): readonly Column[] {
  const own = version.additionalPrinterColumns ?? [];
  if (own.length === 0) return [nameColumn, ageColumn];
  return [
    nameColumn,
    ...own.map(
      (column): Column => ({
        name: column.name,
        type: column.type === 'date' ? 'date' : (column.type as Column['type']),
        ...(column.format === undefined ? {} : { format: column.format }),
        ...(column.description === undefined ? {} : { description: column.description }),
        priority: column.priority ?? 0,
        cell: (object, now) => {
          const values = readAll(object, compilePath(column.jsonPath));
          const value = values[0];
          if (value === undefined || value === null) return null;
          if (column.type === 'date') return age(value, now);
          if (column.type === 'string')
            return typeof value === 'string' ? values.join(',') : JSON.stringify(value);
          return value;
        },
      }),
    ),
  ];
}
