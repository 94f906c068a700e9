// CNI error objects: written from our typed causes, read from any plugin's answer.
// `msg` begins with the cause's name and a colon; `details` is JSON text.
import { type Cause, findCauses } from '../base/causes.ts';
import { explainCause, type PodwayError } from '../base/errors.ts';
import { LATEST_VERSION, parseVersion } from './versions.ts';

export type CniErrorObject = { cniVersion: string; code: number; msg: string; details?: string };

/** `version` is what the config said; text that is no version becomes the latest. */
export function renderError(version: string, error: PodwayError): CniErrorObject {
  return {
    cniVersion: parseVersion(version) ? version : LATEST_VERSION,
    code: error.cni,
    msg: `${error.code}: ${error.message}`,
    details: JSON.stringify(explainCause(error)),
  };
}

/** An error object from a plugin or from the runtime side itself; any number may stand in `code`. */
export class CniError extends Error {
  override name = 'CniError';
  readonly code: number;
  readonly msg: string;
  readonly details: string;

  constructor(code: number, msg: string, details = '', options?: ErrorOptions) {
    super(details && !details.startsWith('{') ? `${msg}; ${details}` : msg, options);
    this.code = code;
    this.msg = msg;
    this.details = details;
  }

  /** Our typed cause, when the message names one. */
  get typedCause(): Cause | null {
    const name = /^([A-Z][A-Z_]+): /.exec(this.msg)?.[1];
    return (name && findCauses(name).find((cause) => cause === name)) || null;
  }

  toObject(version: string): CniErrorObject {
    const object: CniErrorObject = { cniVersion: version, code: this.code, msg: this.msg };
    return this.details ? { ...object, details: this.details } : object;
  }
}
