// The lab's AWS endpoint: reads a bounded request, verifies its signature, decodes it, lets it act, prints the answer.
// EC2 and one action of STS; every failure becomes the service's own error with a request id; what is not an Ec2Error is logged and becomes InternalError.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Caller } from '../context.ts';
import { Ec2Error, missing } from '../errors.ts';
import { AnswerLost } from '../faults/faults.ts';
import { authFailure, type SignedRequest, verifySignature } from '../sigv4.ts';
import { decodeQuery } from './query.ts';
import { loadActionSchemas } from './schema.ts';
import { type ErrorForm, errorForm, notHere, serviceOf } from './services.ts';
import { answerSts, stsError } from './sts.ts';
import { encodeAnswer } from './xml.ts';

/** EC2's own requests are far smaller; user data of 16 KiB and a thousand ids fit many times. */
const MAX_BODY = 1 << 20;
const BODY_TIMEOUT_MS = 30_000;
const NOT_VALID = 'AWS was not able to validate the provided access credentials';

export type Ec2Backend = {
  region(): string;
  accountId(): string;
  now(): number;
  resolve(accessKeyId: string, sessionToken: string | undefined): { secret: string; caller: Caller };
  /** Whether the action has a meaning; throws UnsupportedOperation when not, before its parameters are read. */
  supports(action: string): void;
  act(action: string, input: object, caller: Caller): Promise<object>;
  log: { error(fields: object, text: string): void };
};

export function createEc2Handler(
  backend: Ec2Backend,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  return async (request, response) => {
    const requestId = randomUUID();
    const service = serviceOf(request.url ?? '/', request.headers);
    try {
      const body = await answer(backend, request, service, requestId);
      send(response, 200, { type: 'text/xml;charset=UTF-8', body }, requestId);
    } catch (error) {
      if (error instanceof AnswerLost) return void request.socket.destroy();
      const known = error instanceof Ec2Error ? error : internal(backend, error, requestId);
      if (!request.complete) response.setHeader('connection', 'close');
      send(response, known.status, errorForm(service, known, requestId, request.headers), requestId);
    }
  };
}

function internal(backend: Ec2Backend, error: unknown, requestId: string): Ec2Error {
  backend.log.error({ err: error, requestId }, 'an EC2 action failed');
  return new Ec2Error('InternalError', `An internal error has occurred (request ${requestId})`);
}

function send(response: ServerResponse, status: number, form: ErrorForm, requestId: string): void {
  if (response.destroyed) return;
  response.writeHead(status, {
    'content-type': form.type,
    'content-length': Buffer.byteLength(form.body),
    'x-amzn-requestid': requestId,
    'cache-control': 'no-store',
    ...form.headers,
  });
  response.end(form.body);
}

async function answer(
  backend: Ec2Backend,
  request: IncomingMessage,
  service: string,
  requestId: string,
): Promise<string> {
  if (service !== 'ec2' && service !== 'sts') throw notHere(service);
  const url = request.url ?? '/';
  const method = request.method ?? 'GET';
  if (method !== 'POST' && method !== 'GET')
    throw new Ec2Error('InvalidRequest', `The method ${method} is not allowed`);
  const body = await readBody(request);
  const caller = authenticate(backend, { method, url, headers: request.headers, body }, service);
  const mark = url.indexOf('?');
  const parameters = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1));
  if (method === 'POST')
    for (const [key, value] of new URLSearchParams(body.toString('utf8'))) parameters.append(key, value);
  const action = parameters.get('Action');
  if (!action) throw missing('Action');
  if (service === 'sts') return answerSts(action.slice(0, 100), caller, backend.accountId(), requestId);
  const schema = (await loadActionSchemas())(action);
  if (!schema)
    throw new Ec2Error(
      'InvalidAction',
      `The action ${action.slice(0, 100)} is not valid for this web service.`,
    );
  backend.supports(action);
  const input = decodeQuery(schema.input, parameters);
  return encodeAnswer(action, schema.output, await backend.act(action, input, caller), requestId);
}

/** The signer of the request, or the service's own error. */
function authenticate(backend: Ec2Backend, request: SignedRequest, service: string): Caller {
  const region = backend.region();
  // STS has a global endpoint too, whose region is us-east-1.
  const regions = service === 'sts' ? [region, 'us-east-1'] : [region];
  try {
    return verifySignature(request, { regions, service }, backend.now(), (key, token) =>
      backend.resolve(key, token),
    ).caller;
  } catch (error) {
    if (!(error instanceof Ec2Error)) throw error;
    if (service === 'sts') throw stsError(error);
    throw error.code === 'SignatureDoesNotMatch' ? authFailure(`${NOT_VALID} (${error.message})`) : error;
  }
}

/** The whole body; leaves the connection usable for the answer when it is too large. */
function readBody(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const tooLarge = () =>
      new Ec2Error('RequestEntityTooLarge', `The request is larger than ${MAX_BODY} bytes`);
    if (Number(request.headers['content-length'] ?? 0) > MAX_BODY) return reject(tooLarge());
    const timer = setTimeout(
      () => end(new Ec2Error('RequestTimeout', 'The body of the request took too long')),
      BODY_TIMEOUT_MS,
    );
    const chunks: Buffer[] = [];
    let size = 0;
    const end = (error?: Error): void => {
      clearTimeout(timer);
      request.off('data', onData);
      // What else comes is dropped, so that the answer is not lost in a reset; the answer closes the connection.
      request.resume();
      if (error) reject(error);
      else resolve(Buffer.concat(chunks));
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > MAX_BODY) end(tooLarge());
      else chunks.push(chunk);
    };
    request.on('data', onData);
    request.once('end', () => end());
    request.once('error', (error) => end(error));
  });
}
