// Verifies AWS Signature Version 4, in the Authorization header or presigned in the query, over the bytes received.
// Source: IAM user guide, "Create a signed AWS API request". Knows no key itself: a resolver gives the secret.
// Fails with AuthFailure (who), SignatureDoesNotMatch (what; EC2 itself calls it AuthFailure too), RequestExpired (when).
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Ec2Error } from './errors.ts';

const ALGORITHM = 'AWS4-HMAC-SHA256';
/** AWS takes a request within five minutes of its own time. */
const MAX_SKEW_MS = 5 * 60_000;
const MAX_PRESIGNED_SECONDS = 7 * 86_400;

export type SignedRequest = {
  method: string;
  /** Path and query as received. */
  url: string;
  headers: IncomingHttpHeaders;
  body: Uint8Array;
};
export type Scope = { regions: readonly string[]; service: string };

type Claim = {
  accessKeyId: string;
  date: string;
  scope: string;
  region: string;
  service: string;
  signedHeaders: string[];
  signature: string;
  time: string;
  expires?: number;
  sessionToken?: string;
};

export const authFailure = (
  message = 'AWS was not able to validate the provided access credentials',
): Ec2Error => new Ec2Error('AuthFailure', message);
const mismatch = (message: string): Ec2Error => new Ec2Error('SignatureDoesNotMatch', message);
const header = (headers: IncomingHttpHeaders, name: string): string | undefined => {
  const value = headers[name];
  return Array.isArray(value) ? value.join(',') : value;
};

/**
 * Returns what `resolve` returned for the key that signed the request.
 * `resolve` throws AuthFailure for a key or token that it does not know.
 */
export function verifySignature<T extends { secret: string }>(
  request: SignedRequest,
  scope: Scope,
  now: number,
  resolve: (accessKeyId: string, sessionToken: string | undefined) => T,
): T {
  const mark = request.url.indexOf('?');
  const path = mark < 0 ? request.url : request.url.slice(0, mark);
  const query = new URLSearchParams(mark < 0 ? '' : request.url.slice(mark + 1));
  const claim = readClaim(request.headers, query);
  const who = resolve(claim.accessKeyId, claim.sessionToken);
  checkTime(claim, now);
  if (!scope.regions.includes(claim.region) || claim.service !== scope.service) {
    throw mismatch(
      `Credential should be scoped to a valid region and service: '${scope.regions[0]}/${scope.service}', not '${claim.region}/${claim.service}'.`,
    );
  }
  if (!claim.signedHeaders.includes('host')) throw mismatch("'host' must be a signed header.");
  const expected = signature(request, path, query, claim, who.secret);
  const given = Buffer.from(claim.signature, 'utf8');
  if (given.length !== expected.length || !timingSafeEqual(given, Buffer.from(expected, 'utf8'))) {
    throw mismatch(
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
    );
  }
  return who;
}

function readClaim(headers: IncomingHttpHeaders, query: URLSearchParams): Claim {
  const authorization = header(headers, 'authorization');
  const presigned = query.get('X-Amz-Algorithm');
  if (!authorization && !presigned)
    throw authFailure('AWS was not able to validate the provided access credentials');
  const fields = new Map<string, string>();
  let time: string | undefined;
  if (authorization) {
    const space = authorization.indexOf(' ');
    if (authorization.slice(0, space) !== ALGORITHM)
      throw authFailure(`The signing algorithm must be ${ALGORITHM}`);
    for (const part of authorization.slice(space + 1).split(',')) {
      const equals = part.indexOf('=');
      fields.set(part.slice(0, equals).trim(), part.slice(equals + 1).trim());
    }
    const date = header(headers, 'date');
    time = header(headers, 'x-amz-date') ?? (date === undefined ? undefined : basicTime(date));
  } else {
    if (presigned !== ALGORITHM) throw authFailure(`The signing algorithm must be ${ALGORITHM}`);
    for (const name of ['Credential', 'SignedHeaders', 'Signature'])
      fields.set(name, query.get(`X-Amz-${name}`) ?? '');
    time = query.get('X-Amz-Date') ?? undefined;
  }
  const [accessKeyId, date, region, service, end, ...rest] = (fields.get('Credential') ?? '').split('/');
  if (!accessKeyId || !date || !region || !service || end !== 'aws4_request' || rest.length > 0 || !time) {
    throw authFailure('The credential or the date of the request is missing or incomplete');
  }
  const sessionToken =
    (authorization ? header(headers, 'x-amz-security-token') : query.get('X-Amz-Security-Token')) ??
    undefined;
  return {
    accessKeyId,
    date,
    region,
    service,
    scope: `${date}/${region}/${service}/aws4_request`,
    signedHeaders: (fields.get('SignedHeaders') ?? '').split(';'),
    signature: fields.get('Signature') ?? '',
    time,
    ...(authorization ? {} : { expires: Number(query.get('X-Amz-Expires') ?? '0') }),
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}

const basicTime = (text: string): string | undefined => {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString().replace(/[-:]|\.\d{3}/g, '');
};

function checkTime(claim: Claim, now: number): void {
  const match = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(claim.time);
  if (!match || !claim.time.startsWith(claim.date))
    throw mismatch('The date of the request and of its credential differ');
  const [, y, mo, d, h, mi, s] = match.map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const signed = Date.UTC(y, mo - 1, d, h, mi, s);
  const ends =
    claim.expires === undefined
      ? signed + MAX_SKEW_MS
      : signed + Math.min(claim.expires, MAX_PRESIGNED_SECONDS) * 1000;
  if (!(now <= ends) || signed > now + MAX_SKEW_MS) {
    throw new Ec2Error(
      'RequestExpired',
      `Request has expired. It was signed at ${claim.time}; it is ${new Date(now).toISOString()}.`,
    );
  }
}

/** RFC 3986: everything but unreserved characters. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const hmac = (key: string | Uint8Array, text: string): Buffer =>
  createHmac('sha256', key).update(text).digest();

function signature(
  request: SignedRequest,
  path: string,
  query: URLSearchParams,
  claim: Claim,
  secret: string,
): string {
  const pairs = [...query]
    .filter(([key]) => key !== 'X-Amz-Signature')
    .map(([key, value]) => [encode(key), encode(value)] as const)
    .sort(([a, av], [b, bv]) => (a < b ? -1 : a > b ? 1 : av < bv ? -1 : av > bv ? 1 : 0));
  const names = [...claim.signedHeaders].sort();
  const canonical = [
    request.method,
    path.split('/').map(encode).join('/') || '/',
    pairs.map(([key, value]) => `${key}=${value}`).join('&'),
    ...names.map((name) => `${name}:${(header(request.headers, name) ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    names.join(';'),
    createHash('sha256').update(request.body).digest('hex'),
  ].join('\n');
  const toSign = [
    ALGORITHM,
    claim.time,
    claim.scope,
    createHash('sha256').update(canonical).digest('hex'),
  ].join('\n');
  const dayKey = hmac(`AWS4${secret}`, claim.date);
  const key = hmac(hmac(hmac(dayKey, claim.region), claim.service), 'aws4_request');
  return createHmac('sha256', key).update(toSign).digest('hex');
}
