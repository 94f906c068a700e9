// The agent's sockets: the plugin's, the introspection socket, and the public port if one is configured. They listen
// before the node serves and close last. A failed verb is logged once, with its attachment and cause.
import { statSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import type { PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CniRequest } from '../cni/types.ts';
import type { CniCall } from '../cni/wire.ts';
import { createCniHandler } from './cni-handler.ts';
import { type CniAnswer, serveCni } from './cni-server.ts';
import type { Gate } from './gate.ts';
import { json, serveTcp, serveUnix } from './http.ts';
import type { Parts } from './parts.ts';
import { createRefusals } from './refusals.ts';
import { introspection, publicRoutes } from './routes.ts';
import { nodeStatus } from './status.ts';
import { HANDOVER, type Succession } from './succession.ts';

export const CNI_SOCKET = 'agent.sock';
export const API_SOCKET = 'api.sock';

const inodeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.ino;

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

/** The sockets, in the order in which they open. */
export type Sockets = {
  /** The plugin's: its calls wait at the gate until the node serves. */
  openCni(): Promise<void>;
  /** Introspection, and the public port. */
  openApi(): Promise<void>;
  /** Paths at which no caller finds this agent any more. */
  lost(): string[];
  /** Listens there again. Rejects with RUN_DIR_UNWRITABLE. */
  reopen(path: string): Promise<void>;
  /** No more calls; the open connections go on. */
  close(): void;
};

export function createSockets(parts: Parts, gate: Gate, succession: Succession): Sockets {
  const { config, log, metrics, faults, load } = parts;
  const { signal } = succession;
  const servers: Server[] = [];
  const sockets = new Map<
    string,
    { open: () => Promise<Server>; server: Server; inode: number | undefined }
  >();
  let isClosed = false;
  const listen = async (path: string, open: () => Promise<Server>): Promise<void> => {
    const server = await open();
    // A server that is closed goes on with its connections.
    sockets.get(path)?.server.close();
    sockets.set(path, { open, server, inode: inodeOf(path) });
    if (isClosed) server.close();
  };
  const tellPod = createRefusals(parts.events);
  const handler = createCniHandler({
    attachments: () => gate.serving?.attachments ?? gate.pass(signal).then((serving) => serving.attachments),
    metrics,
    now: () => systemClock.now(),
    status: () => (gate.isTakingOver ? gate.pass(signal).then(() => nodeStatus(gate)) : nodeStatus(gate)),
    onAdd: (delta) => {
      load.adds += delta;
    },
    ...(faults ? { faults } : {}),
    relay: () => {
      const relay = succession.relay();
      if (!relay) return null;
      return (call, gone) => {
        load.serving--;
        return relay(call, gone).finally(() => {
          load.serving++;
        });
      };
    },
    onFailure: (verb, error, request) => {
      logFailure(log, verb, error, request);
      tellPod(error, request);
    },
  });
  return {
    openCni() {
      const path = join(config.runDir, CNI_SOCKET);
      const serve = async (call: CniCall, gone: AbortSignal): Promise<CniAnswer> => {
        load.requests++;
        const relay = succession.relay();
        if (relay) return relay(call, gone);
        load.serving++;
        return handler(call, gone).finally(() => {
          load.serving--;
        });
      };
      return listen(path, () => serveCni(path, serve));
    },
    async openApi() {
      const routes = publicRoutes(parts, gate);
      const own = introspection(parts, gate);
      const handover = async () => {
        await succession.handOver();
        return json({ handedOver: true });
      };
      const path = join(config.runDir, API_SOCKET);
      await listen(path, () => serveUnix(path, { ...routes, ...own, [`POST ${HANDOVER}`]: handover }));
      if (config.listen !== undefined) servers.push(await serveTcp(config.listen, routes));
    },
    lost: () =>
      [...sockets.keys()].filter((path) => {
        const inode = inodeOf(path);
        return inode === undefined || inode !== sockets.get(path)!.inode;
      }),
    reopen: (path) => listen(path, sockets.get(path)!.open),
    close() {
      isClosed = true;
      for (const server of [...servers, ...[...sockets.values()].map((one) => one.server)]) server.close();
    },
  };
}
