// Who called what: one line of JSON per user, verb and resource that was asked for over HTTPS, written when it is seen
// for the first time. A test of a chart's RBAC compares its rules with these lines. Names of objects are left out, so
// that the file is as long as there are different calls. Lines are one CallRecord each.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { type Attributes, isOfPath } from './attributes.ts';
import type { User } from './pki.ts';

/** A client that invents namespaces or paths must not fill the disk. */
const MAX_LINES = 20_000;

export type CallRecord = {
  user: string;
  verb: string;
  /** False: RBAC refused it. */
  allowed: boolean;
  /** Of a resource; empty for core. */
  group?: string;
  /** With its subresource: `pods/status`. */
  resource?: string;
  /** Absent for the whole cluster. */
  namespace?: string;
  /** Of what is no resource. */
  path?: string;
};

export class Calls {
  readonly #file: string;
  readonly #seen: Set<string>;

  constructor(file: string) {
    this.#file = file;
    this.#seen = new Set(existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []);
  }

  note(user: User, attributes: Attributes, allowed: boolean): void {
    const line = JSON.stringify(recordOf(user, attributes, allowed));
    if (this.#seen.has(line) || this.#seen.size > MAX_LINES) return;
    this.#seen.add(line);
    appendFileSync(this.#file, `${line}\n`, { mode: 0o600 });
  }
}

function recordOf(user: User, attributes: Attributes, allowed: boolean): CallRecord {
  const { verb } = attributes;
  if (isOfPath(attributes)) return { user: user.name, verb, allowed, path: attributes.path };
  const { group, resource, subresource, namespace } = attributes;
  return {
    user: user.name,
    verb,
    allowed,
    group,
    resource: subresource === '' ? resource : `${resource}/${subresource}`,
    ...(namespace === '' ? {} : { namespace }),
  };
}
