// What a request is, as Kubernetes authorises and audits it: a verb on a resource, or a verb on a path. Pure.
import { isTrue } from './options.ts';

export type ResourceAttributes = {
  readonly verb: string;
  readonly group: string;
  readonly version?: string;
  readonly resource: string;
  /** Empty for the object itself. */
  readonly subresource: string;
  /** Empty for the whole cluster. */
  readonly namespace: string;
  readonly name: string;
};

export type PathAttributes = { readonly verb: string; readonly path: string };

export type Attributes = ResourceAttributes | PathAttributes;

export const isOfPath = (attributes: Attributes): attributes is PathAttributes => 'path' in attributes;

const WRITES: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch' };

/**
 * As RequestInfoFactory of apiserver reads a request. `segments`: of the path; a path that ends before it names a
 * resource (`/api/v1`) is a path.
 */
export function attributesOf(
  method: string,
  segments: readonly string[],
  query: URLSearchParams,
): Attributes {
  const core = segments[0] === 'api';
  const rest = core ? segments.slice(2) : segments[0] === 'apis' ? segments.slice(3) : [];
  if (rest.length === 0) return { verb: method.toLowerCase(), path: `/${segments.join('/')}` };
  const [group = '', version = ''] = core ? ['', segments[1]] : segments.slice(1, 3);
  const inNamespace =
    rest[0] === 'namespaces' && rest.length >= 3 && rest[2] !== 'status' && rest[2] !== 'finalize';
  // `/api/v1/namespaces/NAME` is the object, and it is in itself.
  const namespace = rest[0] === 'namespaces' ? (rest[1] ?? '') : '';
  const [resource = '', name = '', subresource = ''] = inNamespace ? rest.slice(2) : rest;
  return { verb: verbOf(method, name, query), group, version, resource, subresource, namespace, name };
}

function verbOf(method: string, name: string, query: URLSearchParams): string {
  if (method === 'GET' || method === 'HEAD') {
    if (isTrue(query.get('watch'))) return 'watch';
    return name === '' ? 'list' : 'get';
  }
  if (method === 'DELETE') return name === '' ? 'deletecollection' : 'delete';
  return WRITES[method] ?? method.toLowerCase();
}
