// Where the lab's servers listen: EC2 and Kubernetes inside the lab on fixed link-local addresses of the router and on
// the host on stable loopback ports, IMDS on the router alone. Each server is bounded in connections and in time.
import http from 'node:http';
import type { Server, Socket } from 'node:net';
import type { Logger } from 'pino';
import { setSocketTtl } from '../../kernel/sockets.ts';
import type { Fabric } from '../fabric/index.ts';
import { DNS_PORT, Resolver } from '../resolver/resolver.ts';
import type { VpcService } from '../vpc/index.ts';
import { boundCallers } from './callers.ts';
import { LabError } from './errors.ts';
import type { ClusterSide } from './lab-cluster.ts';
import { closeSilently } from './silence.ts';

export const IN_LAB = {
  ec2Address: '169.254.169.10',
  ec2Endpoint: 'http://169.254.169.10',
  kubeAddress: '169.254.169.11',
  kubeEndpoint: 'https://169.254.169.11:443',
  ec2Address6: 'fd00:ec2::10',
  kubeAddress6: 'fd00:ec2::11',
  ec2Endpoint6: 'http://[fd00:ec2::10]',
  kubeEndpoint6: 'https://[fd00:ec2::11]:443',
  imdsEndpoint6: 'http://[fd00:ec2::254]',
} as const;

/** Linux' own (net.ipv4.ip_default_ttl). */
const USUAL_TTL = 64;
/** Connections of one server in all, and of one caller in the lab: of one address (EC2), of one ENI (IMDS). */
const MAX_CONNECTIONS = 512;
const MAX_OF_CALLER = 64;
/** How often the server looks for connections whose request is late. */
const LOOK_MS = 5000;
/** After a kill -9 the port may still be with a dying process for a moment. */
const BIND_TRIES = 20;
const BIND_PAUSE_MS = 100;

export type EndpointParts = {
  vpc: VpcService;
  kube: Pick<ClusterSide, 'hostServer' | 'inLabServer'>;
  fabric: Fabric;
  ports: { ec2: number; kube: number };
  log: Logger;
};

export class Endpoints {
  readonly #parts: EndpointParts;
  readonly #servers: Server[] = [];
  readonly #resolver: Resolver;
  #hasIpv6 = false;

  constructor(parts: EndpointParts) {
    this.#parts = parts;
    const { vpc, fabric, log } = parts;
    this.#resolver = new Resolver(
      () => vpc.state(),
      (address) => fabric.bindUdp(address, DNS_PORT),
      (error) => log.warn({ err: error }, 'an answer of the resolver could not be sent'),
    );
  }

  /** The resolver at the addresses that the VPCs have for it now. */
  async openResolver(): Promise<void> {
    await this.#resolver.listen(this.#parts.fabric.resolvers());
  }

  async open(): Promise<void> {
    const { vpc, kube, fabric, ports } = this.#parts;
    await Promise.all([
      this.#onHost(this.#ec2(MAX_CONNECTIONS), ports.ec2),
      this.#onHost(kube.hostServer(), ports.kube),
      this.#inLab(this.#ec2(MAX_OF_CALLER), fabric.listen(IN_LAB.ec2Address, 80)),
      ...(kube.inLabServer ? [this.#inLab(kube.inLabServer(), fabric.listen(IN_LAB.kubeAddress, 443))] : []),
    ]);
    await this.#inLab(this.#imds(vpc, fabric), fabric.listenImds());
  }

  /** The same by IPv6, when a VPC has it; what listens already goes on. */
  async openIpv6(): Promise<void> {
    const { vpc, kube, fabric } = this.#parts;
    if (this.#hasIpv6 || !fabric.hasIpv6()) return;
    this.#hasIpv6 = true;
    await Promise.all([
      this.#inLab(this.#ec2(MAX_OF_CALLER), fabric.listen(IN_LAB.ec2Address6, 80)),
      ...(kube.inLabServer ? [this.#inLab(kube.inLabServer(), fabric.listen(IN_LAB.kubeAddress6, 443))] : []),
      this.#inLab(this.#imds(vpc, fabric), fabric.listenImds6()),
    ]);
  }

  async close(): Promise<void> {
    this.#resolver.close();
    await Promise.all(
      this.#servers.map((server) => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        (server as http.Server).closeAllConnections?.();
        return closed;
      }),
    );
  }

  #ec2(each: number): http.Server {
    const { vpc, log } = this.#parts;
    const server = serving(log, async (request, response) => vpc.ec2Handler(request, response));
    boundCallers(server, (socket) => socket.remoteAddress ?? '', { each, all: MAX_CONNECTIONS });
    return server;
  }

  /** The caller is the instance that the packets came from; a caller that is no instance gets no answer. */
  #imds(vpc: VpcService, fabric: Fabric): http.Server {
    const { log } = this.#parts;
    const server = serving(log, async (request, response) => {
      const { socket } = request;
      const from = fabric.instanceOf(socket.localAddress ?? '0.0.0.0');
      if (!from) return void socket.destroy();
      const beforeAnswer = ({ token, hopLimit }: { token: boolean; hopLimit: number }) =>
        setTtl(socket, token ? hopLimit : USUAL_TTL);
      await vpc.imdsHandler(request, response, { instanceId: from.instanceId, beforeAnswer });
    });
    // The destination address of the connection identifies the caller's ENI.
    const bounds = { each: MAX_OF_CALLER, all: MAX_CONNECTIONS };
    boundCallers(server, (socket) => socket.localAddress ?? '', bounds);
    return server;
  }

  async #onHost(server: Server, port: number): Promise<void> {
    this.#servers.push(server);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await listen(server, () => server.listen(port, '127.0.0.1'));
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || attempt >= BIND_TRIES) {
          throw new LabError(
            'PORT_TAKEN',
            `port 127.0.0.1:${port} of the lab is taken by another process`,
            `end what listens there (ss -ltnp "sport = ${port}"), or podway lab down`,
            { cause: error },
          );
        }
        await new Promise((resolve) => setTimeout(resolve, BIND_PAUSE_MS));
      }
    }
  }

  async #inLab(server: Server, fd: number): Promise<void> {
    this.#servers.push(server);
    await listen(server, () => server.listen({ fd }));
  }
}

type Answer = (request: http.IncomingMessage, response: http.ServerResponse) => Promise<void>;

/** A server that waits a bounded time; a request whose answer fails is logged and dropped, and harms no other. */
function serving(log: Logger, answer: Answer): http.Server {
  const server = http.createServer({ connectionsCheckingInterval: LOOK_MS }, (request, response) => {
    answer(request, response).catch((error: unknown) => {
      log.error({ err: error }, 'a request could not be answered');
      response.destroy();
    });
  });
  closeSilently(server);
  server.headersTimeout = 15_000;
  server.requestTimeout = 60_000;
  server.keepAliveTimeout = 60_000;
  return server;
}

/** libuv's descriptor of a connection; Node has no API for IP_TTL of TCP. */
function setTtl(socket: Socket, ttl: number): void {
  const { fd } = (socket as unknown as { _handle?: { fd: number } })._handle ?? {};
  if (fd !== undefined && fd >= 0) setSocketTtl(fd, ttl, socket.remoteFamily === 'IPv6' ? 6 : 4);
}

function listen(server: Server, begin: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(error);
    server.once('error', failed);
    server.once('listening', () => {
      server.off('error', failed);
      resolve();
    });
    begin();
  });
}
