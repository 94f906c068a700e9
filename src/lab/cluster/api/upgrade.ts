// Requests that ask for another protocol: exec and port-forward by WebSocket. Before the handshake a refusal is an
// ordinary answer with a Status; after it the stream itself says how it ended.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Pod } from '../../../kube/types.ts';
import type { ResourceAttributes } from './attributes.ts';
import * as errors from './errors.ts';
import { authorise, type HttpParts, identify } from './http.ts';
import type { Any } from './kinds.ts';
import { noAttach, podAccess, streamError } from './pod-streams.ts';

export function createUpgradeHandler(
  parts: HttpParts,
): (request: IncomingMessage, socket: Duplex, head: Buffer) => void {
  return (request, socket, head) => {
    // A client that leaves during the handshake is no failure.
    socket.on('error', () => {});
    upgrade(parts, request, socket, head).catch((error: unknown) => refuse(socket, error));
  };
}

async function upgrade(
  parts: HttpParts,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { user, attributes, query } = identify(parts, request);
  if (!('resource' in attributes)) throw errors.badRequest('this path serves no streams');
  // A GET that runs something: since Kubernetes 1.35 who may not create may not do it by WebSocket either.
  if (attributes.verb !== 'create') authorise(parts, user, { ...attributes, verb: 'create' });
  const { pod, serve } = await streamOf(parts, attributes);
  const protocol = String(request.headers.upgrade).toLowerCase();
  if (protocol !== 'websocket')
    throw errors.badRequest(
      `streams are served here by WebSocket, not by ${protocol}: take kubectl 1.31 or newer, with KUBECTL_REMOTE_COMMAND_WEBSOCKETS and KUBECTL_PORT_FORWARD_WEBSOCKETS not set to false`,
    );
  const { namespace, name, subresource } = attributes;
  const served = parts.kinds.find('', 'v1', 'pods')!;
  const kind = subresource === 'exec' ? 'PodExecOptions' : 'PodPortForwardOptions';
  await parts.rest.admitted.admit(
    'CONNECT',
    { served, namespace, name, subresource },
    { group: '', version: 'v1', kind },
    user,
    {},
    optionsOf(kind, query),
  );
  await serve(podAccess(parts.rest), pod, query, request, socket, head);
}

async function streamOf(
  { kinds, rest }: HttpParts,
  { group, resource, subresource, namespace, name }: ResourceAttributes,
) {
  if (group !== '' || resource !== 'pods') throw errors.badRequest(`${resource} serve no streams`);
  const stored = rest.verbs.get(kinds.find('', 'v1', 'pods')!.kind, namespace, name);
  const pod = stored.object as Pod;
  if (subresource === 'exec') return { pod, serve: (await import('../streaming/exec.ts')).serveExec };
  if (subresource === 'portforward')
    return { pod, serve: (await import('../streaming/port-forward.ts')).servePortForward };
  throw subresource === 'attach' ? noAttach(name) : errors.noSuchPath();
}

/** What a webhook sees of a stream. */
function optionsOf(kind: string, query: URLSearchParams): Any {
  const is = (name: string) => (query.get(name) === 'true' ? { [name]: true } : {});
  const command = query.getAll('command');
  return {
    kind,
    apiVersion: 'v1',
    metadata: {},
    ...is('stdin'),
    ...is('stdout'),
    ...is('stderr'),
    ...is('tty'),
    ...(query.has('container') ? { container: query.get('container')! } : {}),
    ...(command.length > 0 ? { command } : {}),
  };
}

function refuse(socket: Duplex, cause: unknown): void {
  if (socket.destroyed) return;
  const error = errors.asApiError(streamError(cause));
  const text = JSON.stringify(error.status());
  socket.end(
    [
      `HTTP/1.1 ${error.code} ${error.reason}`,
      'content-type: application/json',
      `content-length: ${Buffer.byteLength(text)}`,
      'connection: close',
      '',
      text,
    ].join('\r\n'),
  );
}
