// The agent's sockets: the plugin's, the introspection socket, and the public port if one is configured. They listen
// before the node serves and close last. A failed verb is logged once, with its attachment and cause.
import type { Server } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import type { PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CniRequest } from '../cni/types.ts';
import { createCniHandler } from './cni-handler.ts';
import { serveCni } from './cni-server.ts';
import type { Gate } from './gate.ts';
import { serveTcp, serveUnix } from './http.ts';
import type { Parts } from './parts.ts';
import { createRefusals } from './refusals.ts';
import { introspection, publicRoutes } from './routes.ts';
import { nodeStatus } from './status.ts';

function logFailure(log: Log, verb: string, error: PodwayError, request: CniRequest | null): void {
  const of =
    request && 'containerId' in request
      ? { containerId: request.containerId, ifname: request.ifname, pod: request.pod }
      : {};
  const stack = error.code === 'INTERNAL' ? { stack: error.stack } : {};
  // A runtime calls STATUS every few seconds, so its failures are logged at debug only.
  const level = verb === 'STATUS' ? 'debug' : error.code === 'INTERNAL' ? 'error' : 'warn';
  log[level]({ verb, cause: error.code, ...of, ...error.details, ...stack }, error.message);
}

export async function openSockets(parts: Parts, gate: Gate, signal: AbortSignal): Promise<Server[]> {
  const { config, log, metrics, faults, load } = parts;
  const tellPod = createRefusals(parts.events);
  const handler = createCniHandler({
    attachments: () => gate.serving?.attachments ?? gate.pass(signal).then((serving) => serving.attachments),
    metrics,
    now: () => systemClock.now(),
    status: () => nodeStatus(gate),
    onAdd: (delta) => {
      load.adds += delta;
    },
    ...(faults ? { faults } : {}),
    onFailure: (verb, error, request) => {
      logFailure(log, verb, error, request);
      tellPod(error, request);
    },
  });
  const cni = await serveCni(join(config.runDir, 'agent.sock'), (call, gone) => {
    load.requests++;
    return handler(call, gone);
  });
  const routes = publicRoutes(parts, gate);
  const api = await serveUnix(join(config.runDir, 'api.sock'), { ...routes, ...introspection(parts, gate) });
  return config.metricsPort === undefined
    ? [cni, api]
    : [cni, api, await serveTcp(config.metricsPort, routes)];
}
