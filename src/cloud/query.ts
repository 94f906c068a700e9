// The EC2 Query protocol: one signed POST per call, bounded retries with jitter, EC2's errors as CloudError.
// Knows no action's meaning (ec2.ts does). A call whose outcome is unknown is repeated only when its caller says that
// repeating is harmless; otherwise the error says `uncertain`.
import { type Clock, systemClock } from '../base/clock.ts';
import type { CredentialSource } from './credentials.ts';
import { exchange, type HttpAnswer, HttpFailure } from './http.ts';
import { ImdsError } from './imds.ts';
import { CloudError, isThrottling } from './port.ts';
import { signPost } from './sigv4.ts';
import { itemsAt, parseXml, textAt, type XmlElement } from './xml.ts';

const VERSION = '2016-11-15';
const TRIES = 4;
/** Throttled calls are tried again by who asked, who knows what else waits. */
const THROTTLED_TRIES = 2;
/** Waits between tries: 100, 200, 400 ms, each times 0.5 to 1.5; throttled ones five times as long. */
const FIRST_WAIT = 100;
const TIMEOUT = 10_000;

export type CallObserver = (call: { action: string; result: string; ms: number }) => void;

export type QueryOptions = {
  endpoint: string;
  region: string;
  credentials: CredentialSource;
  clock?: Clock | undefined;
  timeoutMs?: number | undefined;
  /** Called once per try, with EC2's code or `ok`. */
  onCall?: CallObserver | undefined;
};

export type QueryCall = {
  action: string;
  params: Record<string, QueryValue>;
  /** True when a repeat after an unknown outcome does no harm. */
  repeatable: boolean;
  /** True for a call that is never tried again. */
  once?: boolean | undefined;
  signal?: AbortSignal | undefined;
};

/** Arrays become Name.1, Name.2; objects Name.Member; undefined is left out. */
export type QueryValue =
  | string
  | number
  | boolean
  | undefined
  | readonly QueryValue[]
  | { readonly [name: string]: QueryValue };

export type QueryClient = { call(call: QueryCall): Promise<XmlElement> };

export function createQueryClient(options: QueryOptions): QueryClient {
  const clock = options.clock ?? systemClock;
  const url = new URL('/', options.endpoint);
  /** EC2's clock minus ours (ms), learned when EC2 says that a request has expired. */
  let clockOffset = 0;

  async function once(call: QueryCall, body: string): Promise<HttpAnswer> {
    const credentials = await options.credentials.get(call.signal).catch((error) => {
      if (error instanceof ImdsError)
        throw new CloudError(call.action, 'Network', error.message, false, { cause: error });
      throw error;
    });
    const headers = signPost({
      service: 'ec2',
      region: options.region,
      credentials,
      host: url.host,
      contentType: 'application/x-www-form-urlencoded; charset=utf-8',
      body,
      date: new Date(clock.now() + clockOffset),
    });
    return exchange({
      method: 'POST',
      url,
      headers,
      body,
      timeoutMs: options.timeoutMs ?? TIMEOUT,
      signal: call.signal,
    });
  }

  async function attempt(call: QueryCall, body: string): Promise<XmlElement> {
    let answer: HttpAnswer;
    try {
      answer = await once(call, body);
    } catch (error) {
      if (!(error instanceof HttpFailure)) throw error;
      throw new CloudError(call.action, error.timedOut ? 'Timeout' : 'Network', error.message, error.sent, {
        cause: error,
      });
    }
    if (answer.status === 200) return readAnswer(call.action, answer.body);
    const failure = readError(call.action, answer);
    if (failure.code === 'RequestExpired' || failure.code === 'AuthFailure') {
      const theirs = Date.parse(answer.headers['date'] ?? '');
      if (Number.isFinite(theirs)) clockOffset = theirs - clock.now();
    }
    // EC2 throttles by 503, before it does anything.
    const mayHaveActed = answer.status >= 500 && !isThrottling(failure.code);
    throw new CloudError(call.action, failure.code, failure.text, mayHaveActed);
  }

  async function call(call: QueryCall): Promise<XmlElement> {
    const body = encodeQuery({ Action: call.action, Version: VERSION, ...call.params });
    let renewed = false;
    let uncertain = false;
    for (let tries = 1; ; tries++) {
      const started = performance.now();
      const report = (result: string) =>
        options.onCall?.({ action: call.action, result, ms: performance.now() - started });
      try {
        const answer = await attempt(call, body);
        report('ok');
        return answer;
      } catch (error) {
        if (!(error instanceof CloudError)) throw error;
        report(error.ec2Code);
        uncertain ||= error.uncertain;
        if (isStaleKey(error) && !renewed) {
          renewed = true;
          options.credentials.forget();
          continue;
        }
        const throttled = error.code === 'CLOUD_THROTTLED';
        if (call.once || tries >= (throttled ? THROTTLED_TRIES : TRIES) || !isWorthRepeating(error, call))
          throw uncertain && !error.uncertain ? error.afterUncertain() : error;
        const scale = throttled ? 5 : 1;
        await clock.sleep(FIRST_WAIT * scale * 2 ** (tries - 1) * (0.5 + Math.random()), call.signal);
      }
    }
  }
  return { call };
}

function isWorthRepeating(error: CloudError, call: QueryCall): boolean {
  if (error.code === 'CLOUD_THROTTLED') return true;
  return error.code === 'CLOUD_UNREACHABLE' && (call.repeatable || !error.uncertain);
}

const isStaleKey = (error: CloudError): boolean =>
  ['AuthFailure', 'ExpiredToken', 'InvalidClientTokenId', 'RequestExpired'].includes(error.ec2Code);

export function encodeQuery(params: Record<string, QueryValue>): string {
  const form = new URLSearchParams();
  const add = (name: string, value: QueryValue): void => {
    if (value === undefined) return;
    if (typeof value !== 'object') form.append(name, String(value));
    else if (isList(value)) for (const [i, one] of value.entries()) add(`${name}.${i + 1}`, one);
    else for (const [key, one] of Object.entries(value)) add(`${name}.${key}`, one);
  };
  for (const [name, value] of Object.entries(params)) add(name, value);
  return form.toString();
}

const isList = (value: QueryValue): value is readonly QueryValue[] => Array.isArray(value);

function readAnswer(action: string, body: string): XmlElement {
  let root: XmlElement;
  try {
    root = parseXml(body);
  } catch (error) {
    throw new CloudError(action, 'Unavailable', `the answer is not XML: ${(error as Error).message}`, true);
  }
  if (root.name !== `${action}Response`) {
    throw new CloudError(
      action,
      'Unavailable',
      `the answer is a <${root.name}>, not a <${action}Response>`,
      true,
    );
  }
  return root;
}

function readError(action: string, answer: HttpAnswer): { code: string; text: string } {
  const fallback = {
    code: answer.status >= 500 ? 'Unavailable' : `Http${answer.status}`,
    text: `status ${answer.status} for ${action}`,
  };
  try {
    const root = parseXml(answer.body);
    const error = root.children[0]?.children[0];
    const code = textAt(error, 'Code');
    if (code === '') return fallback;
    return { code, text: `${textAt(error, 'Message')} (request ${textAt(root, 'RequestID')})` };
  } catch {
    return fallback;
  }
}

/** Follows nextToken until the last page; `read` takes each page's root. */
export async function callPaged<T>(
  client: QueryClient,
  query: QueryCall,
  list: string,
  read: (item: XmlElement) => T,
): Promise<T[]> {
  const all: T[] = [];
  let token: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await client.call({ ...query, params: { ...query.params, NextToken: token } });
    for (const item of itemsAt(answer, list)) all.push(read(item));
    token = textAt(answer, 'nextToken') || undefined;
    if (!token) return all;
  }
  throw new CloudError(query.action, 'InternalError', `more than ${MAX_PAGES} pages`);
}

/** A node's own interfaces fit on one page; a whole account's orphans on a few. */
const MAX_PAGES = 50;
