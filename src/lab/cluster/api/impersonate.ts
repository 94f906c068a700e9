// `kubectl --as`: the user whom a caller asks to be taken for, in Impersonate-* headers. The caller has to be allowed to
// impersonate each part of him.
import type { IncomingHttpHeaders } from 'node:http';
import type { Attributes, ResourceAttributes } from './attributes.ts';
import * as errors from './errors.ts';
import type { User } from './pki.ts';

const ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

/** `authorise` throws for what the caller may not. Without such headers: the caller himself. */
export function impersonated(
  caller: User,
  headers: IncomingHttpHeaders,
  authorise: (attributes: Attributes) => void,
): User {
  const name = oneOf(headers['impersonate-user']);
  const asked = headers['impersonate-group'];
  // Node joins repeated headers; a group's name has no comma.
  const groups = (Array.isArray(asked) ? asked : (asked?.split(',') ?? [])).map((each) => each.trim());
  const others = Object.keys(headers).filter(
    (each) => each === 'impersonate-uid' || each.startsWith('impersonate-extra-'),
  );
  if (others.length > 0)
    throw errors.badRequest(`${others[0]} is not taken here: impersonate a user and groups`);
  if (name === '') {
    if (groups.length > 0) throw errors.badRequest('requested [{Group}] without impersonating a user');
    return caller;
  }
  const may = (resource: string, each: string, namespace = '') =>
    authorise({
      verb: 'impersonate',
      group: '',
      resource,
      subresource: '',
      namespace,
      name: each,
    } satisfies ResourceAttributes);
  const account = ACCOUNT.exec(name);
  if (account) may('serviceaccounts', account[2]!, account[1]!);
  else may('users', name);
  for (const group of groups) may('groups', group);
  const own =
    account && groups.length === 0
      ? ['system:serviceaccounts', `system:serviceaccounts:${account[1]}`]
      : groups;
  return { name, groups: [...new Set([...own, 'system:authenticated'])] };
}

const oneOf = (value: string | string[] | undefined): string =>
  (Array.isArray(value) ? value[0] : value) ?? '';
