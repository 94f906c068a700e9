// Which service a request is for, by the scope of its signature, and how that service's clients read an error.
// The lab has EC2 and one action of STS; a call to another service gets an error that names that service.
import type { IncomingHttpHeaders } from 'node:http';
import { Ec2Error } from '../errors.ts';
import { encodeError, encodeQueryError } from './xml.ts';

/** Whose clients read XML though they send no form. */
const XML_SERVICES = new Set(['s3', 's3express', 's3-object-lambda', 'route53', 'cloudfront']);

export type ErrorForm = { type: string; body: string; headers?: Record<string, string> };

/** From `Credential=KEY/DATE/REGION/SERVICE/aws4_request`; a request that says nothing is EC2's to refuse. */
export function serviceOf(url: string, headers: IncomingHttpHeaders): string {
  const mark = url.indexOf('?');
  const presigned = mark < 0 ? null : new URLSearchParams(url.slice(mark + 1)).get('X-Amz-Credential');
  const scope = presigned ?? /Credential=([^,\s]+)/.exec(headers.authorization ?? '')?.[1] ?? '';
  return scope.split('/')[3] || 'ec2';
}

export const notHere = (service: string): Ec2Error =>
  new Ec2Error(
    'UnsupportedOperation',
    `The lab has no service '${service.slice(0, 64)}': this endpoint answers ec2 and sts GetCallerIdentity. AWS_ENDPOINT_URL sends every service here; AWS_ENDPOINT_URL_EC2 sends EC2 alone.`,
  );

/** The error as clients of that service parse it: EC2's XML, the other query services' XML, or JSON. */
export function errorForm(
  service: string,
  error: Ec2Error,
  requestId: string,
  headers: IncomingHttpHeaders,
): ErrorForm {
  if (service === 'ec2')
    return { type: 'text/xml;charset=UTF-8', body: encodeError(error.code, error.message, requestId) };
  if (!XML_SERVICES.has(service) && !/form-urlencoded/.test(headers['content-type'] ?? '')) {
    return {
      type: 'application/x-amz-json-1.1',
      body: JSON.stringify({ __type: error.code, message: error.message }),
      headers: { 'x-amzn-errortype': error.code },
    };
  }
  return {
    type: 'text/xml;charset=UTF-8',
    body: encodeQueryError(error.code, error.message, requestId),
    headers: { 'x-amzn-errortype': error.code },
  };
}
