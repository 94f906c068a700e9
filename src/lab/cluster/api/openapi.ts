// OpenAPI documents, made from the models of the built-in kinds and the schemas of definitions: v3 per group and
// version, which kubectl reads for explain and for its choice of validation, and one v2 document as JSON.
// Strategic merge is not among the patches listed: kubectl then takes merge keys from its own types, which are the same.
import type { IncomingMessage } from 'node:http';
import { groupVersion, type Kind, type Kinds, type KindVersion } from './kinds.ts';
import { type FieldType, type Model, modelOf, modelOfKind } from './models.ts';
import { negotiate } from './negotiate.ts';
import type { Reply } from './options.ts';

type Json = Record<string, unknown>;

const GVK = 'x-kubernetes-group-version-kind';

export class OpenApi {
  private readonly kinds: Kinds;
  private generation = -1;
  private readonly texts = new Map<string, string>();

  constructor(kinds: Kinds) {
    this.kinds = kinds;
  }

  /** False when the path is none of OpenAPI's. */
  answer(segments: readonly string[], request: IncomingMessage, reply: Reply): boolean {
    const [root, version, ...rest] = segments;
    if (root !== 'openapi' || (version !== 'v2' && version !== 'v3')) return false;
    if (this.generation !== this.kinds.generation) {
      this.texts.clear();
      this.generation = this.kinds.generation;
    }
    const path = rest.join('/');
    if (version === 'v2' && rest.length === 0) {
      const accept = request.headers.accept ?? '';
      if (accept.includes('spec.v2') && !accept.includes('json')) {
        reply(200, EMPTY_V2, 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf');
        return true;
      }
      negotiate(request.headers.accept);
      reply(
        200,
        this.text('v2', () => this.swagger()),
      );
      return true;
    }
    if (version !== 'v3') return false;
    negotiate(request.headers.accept);
    if (rest.length === 0) {
      reply(
        200,
        this.text('v3', () => this.index()),
      );
      return true;
    }
    const found = this.groupVersions().find((each) => pathOf(each) === path);
    if (found === undefined) return false;
    reply(
      200,
      this.text(path, () => this.document(found)),
    );
    return true;
  }

  private text(key: string, make: () => Json): string {
    const text = this.texts.get(key) ?? JSON.stringify(make());
    this.texts.set(key, text);
    return text;
  }

  private groupVersions(): string[] {
    return [...new Set(this.kinds.served().map((served) => served.apiVersion))];
  }

  private index(): Json {
    const paths: Json = {};
    for (const each of this.groupVersions()) {
      // The hash tells clients when what they keep is stale.
      paths[pathOf(each)] = {
        serverRelativeURL: `/openapi/v3/${pathOf(each)}?hash=${process.pid}-${this.generation}`,
      };
    }
    return { paths };
  }

  private document(apiVersion: string): Json {
    const schemas: Json = {};
    const paths: Json = {};
    for (const { kind, version, apiVersion: theirs } of this.kinds.served()) {
      if (theirs !== apiVersion) continue;
      addSchemas(schemas, kind, version);
      Object.assign(paths, pathsOf(kind, version));
    }
    return { openapi: '3.0.0', info, paths, components: { schemas } };
  }

  private swagger(): Json {
    const definitions: Json = {};
    for (const { kind, version } of this.kinds.served()) addSchemas(definitions, kind, version);
    const text = JSON.stringify(definitions)
      .replaceAll('#/components/schemas/', '#/definitions/')
      .replace(/"allOf":\[(\{"\$ref":"[^"]+"\})\]/g, (_, ref: string) => ref.slice(1, -1));
    return { swagger: '2.0', info, paths: {}, definitions: JSON.parse(text) as Json };
  }
}

const info = { title: 'Kubernetes', version: 'v1.36.0' };
/**
 * The v2 document in protobuf (openapi.v2.Document of gnostic), naming no definitions. kubectl asks for it when it
 * meets a kind that the API does not serve, and then says so; for kinds that are served it reads v3.
 */
const EMPTY_V2 = `\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07${info.version}\x42\x00`;

const pathOf = (apiVersion: string): string =>
  apiVersion.includes('/') ? `apis/${apiVersion}` : `api/${apiVersion}`;

/** `V1PodSpec` is `io.k8s.api.v1.PodSpec`: clients show what follows the last dot. */
function schemaName(model: string): string {
  const match = /^([A-Z][a-z]+)?(V[0-9]+(?:alpha[0-9]+|beta[0-9]+)?)([A-Z].*)$/.exec(model);
  if (!match) return `io.k8s.api.${model}`;
  const prefix = match[1] === undefined ? '' : `${match[1].toLowerCase()}.`;
  return `io.k8s.api.${prefix}${match[2]!.toLowerCase()}.${match[3]}`;
}

const ref = (model: string) => ({ $ref: `#/components/schemas/${schemaName(model)}` });

function addSchemas(schemas: Json, kind: Kind, version: KindVersion): void {
  const gvk = [{ group: kind.group, version: version.name, kind: kind.kind }];
  if (version.schema !== undefined) {
    const name = `${kind.group.split('.').reverse().join('.')}.${version.name}.${kind.kind}`;
    const properties = {
      ...(version.schema['properties'] as Json | undefined),
      ...typeMeta,
      metadata: { allOf: [ref('V1ObjectMeta')], description: 'Standard object metadata.' },
    };
    schemas[name] = { ...version.schema, properties, [GVK]: gvk };
    addModel(schemas, 'V1ObjectMeta');
    return;
  }
  const model = modelOfKind(kind.group, version.name, kind.kind);
  if (model === null) {
    const name = `io.k8s.api.${kind.group === '' ? 'core' : kind.group}.${version.name}.${kind.kind}`;
    schemas[name] = {
      type: 'object',
      properties: typeMeta,
      'x-kubernetes-preserve-unknown-fields': true,
      [GVK]: gvk,
    };
    return;
  }
  addModel(schemas, model.name);
  schemas[schemaName(model.name)] = { ...(schemas[schemaName(model.name)] as Json), [GVK]: gvk };
}

const typeMeta = {
  apiVersion: { type: 'string', description: 'The version of the schema that the object is written in.' },
  kind: { type: 'string', description: 'The kind of the object.' },
};

function addModel(schemas: Json, name: string): void {
  const key = schemaName(name);
  if (key in schemas) return;
  const model = modelOf(name);
  if (model === null) {
    schemas[key] = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    return;
  }
  const schema: Json = { type: 'object' };
  schemas[key] = schema;
  Object.assign(schema, schemaOf(schemas, model));
}

function schemaOf(schemas: Json, model: Model): Json {
  const properties: Json = {};
  const required: string[] = [];
  for (const field of model.fields.values()) {
    if (field.required) required.push(field.name);
    const inner = field.type.kind === 'model' ? modelOf(field.type.name)?.description : undefined;
    properties[field.name] = {
      ...typeSchema(schemas, field.type, field.format),
      ...describe(field.text || (inner ?? '')),
    };
  }
  return {
    ...describe(model.description),
    properties,
    ...(required.length > 0 ? { required } : {}),
  };
}

const describe = (text: string): Json => (text === '' ? {} : { description: text });

function typeSchema(schemas: Json, type: FieldType, format = ''): Json {
  switch (type.kind) {
    case 'any':
      return { 'x-kubernetes-preserve-unknown-fields': true };
    case 'date':
      return { type: 'string', format: 'date-time' };
    case 'int-or-string':
      return { 'x-kubernetes-int-or-string': true, oneOf: [{ type: 'integer' }, { type: 'string' }] };
    case 'list':
      return { type: 'array', items: typeSchema(schemas, type.of) };
    case 'map':
      return { type: 'object', additionalProperties: typeSchema(schemas, type.of) };
    case 'model':
      addModel(schemas, type.name);
      return { allOf: [ref(type.name)] };
    case 'number':
      return { type: format.startsWith('int') ? 'integer' : 'number', ...(format === '' ? {} : { format }) };
    default:
      return { type: type.kind, ...(format === '' ? {} : { format }) };
  }
}

const query = (name: string, type = 'string') => ({ name, in: 'query', schema: { type, uniqueItems: true } });
const writes = [query('dryRun'), query('fieldManager'), query('fieldValidation')];

function pathsOf(kind: Kind, version: KindVersion): Json {
  const base = `/${pathOf(groupVersion(kind.group, version.name))}`;
  const collection = kind.namespaced
    ? `${base}/namespaces/{namespace}/${kind.plural}`
    : `${base}/${kind.plural}`;
  const gvk = { group: kind.group, version: version.name, kind: kind.kind };
  const responses = { 200: { description: 'OK' }, 401: { description: 'Unauthorized' } };
  const operation = (action: string, parameters: Json[] = []) => ({
    parameters,
    responses,
    'x-kubernetes-action': action,
    [GVK]: gvk,
  });
  const content = (...types: string[]) => ({
    content: Object.fromEntries(types.map((type) => [type, { schema: { type: 'object' } }])),
  });
  const json = content('application/json', 'application/yaml');
  const paths: Json = {
    [collection]: {
      get: operation(
        'list',
        [
          'limit',
          'continue',
          'labelSelector',
          'fieldSelector',
          'resourceVersion',
          'resourceVersionMatch',
          'sendInitialEvents',
          'timeoutSeconds',
          'watch',
          'allowWatchBookmarks',
        ].map((name) => query(name)),
      ),
      post: { ...operation('post', writes), requestBody: json },
      delete: operation('deletecollection', [
        query('dryRun'),
        query('labelSelector'),
        query('fieldSelector'),
      ]),
    },
    [`${collection}/{name}`]: {
      get: operation('get'),
      put: { ...operation('put', writes), requestBody: json },
      patch: {
        ...operation('patch', [...writes, query('force', 'boolean')]),
        requestBody: content(
          'application/json-patch+json',
          'application/merge-patch+json',
          'application/apply-patch+yaml',
        ),
      },
      delete: operation('delete', [
        query('dryRun'),
        query('gracePeriodSeconds', 'integer'),
        query('propagationPolicy'),
      ]),
    },
  };
  if (kind.namespaced) paths[`${base}/${kind.plural}`] = { get: operation('list') };
  return paths;
}
