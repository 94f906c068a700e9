// Nine pods in three namespaces over two nodes, each serving ports 80 and 81 by TCP, UDP and SCTP, and probes between them.
// All sockets are this process's own, opened in the pods' namespaces: a round of probes over all pairs takes a moment.
// SCTP is sent and seen as packets: few machines have its sockets.
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { CoreV1Api, NetworkingV1Api, type V1NetworkPolicy } from '@kubernetes/client-node';
import { formatIp, type Ip, ipToBytes, parseIp } from '../../src/base/ip.ts';
import { libc } from '../../src/kernel/ffi.ts';
import { type Netns, openNetns, withNetns } from '../../src/kernel/netns.ts';
import { connectTcpIn, listenTcpIn } from '../../src/kernel/sockets.ts';
import { KubeClient, namespaces, pods, readKubeConfig } from '../../src/kube/index.ts';
import type { Lab } from '../e2e/lab.ts';
import { eventually } from './wait.ts';

export type Who = { readonly ns: string; readonly pod: string };
export type Protocol = 'TCP' | 'UDP' | 'SCTP';
/** Whether `from` reaches `to` on the port. */
export type Allow = (from: Who, to: Who, port: number) => boolean;

export const NAMESPACES = ['x', 'y', 'z'] as const;
export const PODS = ['a', 'b', 'c'] as const;
export const PORTS = [80, 81] as const;
/** Neighbours and strangers in each namespace. */
const NODE_OF: Record<string, string> = {
  ...{ 'x/a': 'node-1', 'x/b': 'node-2', 'x/c': 'node-1' },
  ...{ 'y/a': 'node-1', 'y/b': 'node-2', 'y/c': 'node-2' },
  ...{ 'z/a': 'node-2', 'z/b': 'node-1', 'z/c': 'node-2' },
};

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const FLAGS = 0o2004000; // SOCK_CLOEXEC | SOCK_NONBLOCK
const SCTP = 132;
/** Ms for a packet to arrive that is let through; it takes less than one, on a machine that is not busy. */
const ARRIVES_MS = 250;
const CONVERGES_MS = 10_000;

type Place = Who & {
  readonly key: string;
  ip: Ip;
  netns: Netns;
  readonly close: (() => void)[];
  udp: Map<number, number>;
  sctp: number;
};

const address = (ip: Ip, port: number): Uint8Array => {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  bytes.set(ipToBytes(ip), 4);
  return bytes;
};

function socketIn(netns: Netns, kind: number, protocol: number): number {
  const fd = withNetns(netns, () => libc().socket(AF_INET, kind | FLAGS, protocol));
  if (fd < 0) throw new Error(`no socket of kind ${kind} in ${netns.path}`);
  return fd;
}

/** SCTP's checksum (RFC 9260, appendix A), least significant byte first. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

export class PolicyGround {
  readonly lab: Lab;
  readonly #places = new Map<string, Place>();
  readonly #policies = new Map<string, V1NetworkPolicy>();
  core!: CoreV1Api;
  networking!: NetworkingV1Api;
  #client!: KubeClient;
  #id = 0;
  probes = 0;
  /** Connections that servers accepted, as `ADDRESS > NAMESPACE/POD:PORT`. */
  readonly seen: string[] = [];
  /** Servers answer what they are sent, on connections that begin from now on, instead of ending them. */
  echoes = false;

  constructor(lab: Lab) {
    this.lab = lab;
  }

  async start(): Promise<void> {
    const config = await this.lab.kube();
    this.#client = new KubeClient(await readKubeConfig((await this.lab.status()).kubeconfig));
    this.core = config.makeApiClient(CoreV1Api);
    this.networking = config.makeApiClient(NetworkingV1Api);
    for (const ns of NAMESPACES)
      await this.core.createNamespace({ body: { metadata: { name: ns, labels: { ns } } } });
    await Promise.all(NAMESPACES.flatMap((ns) => PODS.map((pod) => this.addPod({ ns, pod }))));
    for (const ns of NAMESPACES) for (const pod of PODS) await this.#open({ ns, pod });
  }

  async addPod({ ns, pod }: Who): Promise<void> {
    const ports = PORTS.flatMap((port) =>
      (['TCP', 'UDP', 'SCTP'] as const).map((protocol) => ({
        name: `serve-${port}-${protocol.toLowerCase()}`,
        containerPort: port,
        protocol,
      })),
    );
    await this.core.createNamespacedPod({
      namespace: ns,
      body: {
        metadata: { name: pod, labels: { pod } },
        spec: { nodeName: NODE_OF[`${ns}/${pod}`]!, containers: [{ name: 'c', image: 'podway/pod', ports }] },
      },
    });
  }

  async #open({ ns, pod }: Who): Promise<void> {
    const view = await eventually(`${ns}/${pod} runs`, async () =>
      (await this.lab.pods()).find(
        (one) => one.namespace === ns && one.name === pod && one.phase === 'Running',
      ),
    );
    const netns = openNetns(view.netnsPath!);
    const ip = parseIp(view.ips[0]!);
    const place: Place = { ns, pod, key: `${ns}/${pod}`, ip, netns, close: [], udp: new Map(), sctp: -1 };
    for (const port of PORTS) {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        this.seen.push(`${socket.remoteAddress} > ${place.key}:${port}`);
        if (this.echoes) {
          socket.write('.');
          socket.pipe(socket);
          return;
        }
        socket.end('.');
      });
      server.listen({ fd: listenTcpIn(netns, '0.0.0.0', port) });
      server.unref();
      const udp = socketIn(netns, SOCK_DGRAM, 0);
      if (libc().bind(udp, address(0 as Ip, port), 16) !== 0)
        throw new Error(`UDP ${port} is taken in ${place.key}`);
      place.udp.set(port, udp);
      place.close.push(
        () => server.close(),
        () => libc().close(udp),
      );
    }
    place.sctp = socketIn(netns, SOCK_RAW, SCTP);
    place.close.push(() => libc().close(place.sctp));
    this.#places.set(place.key, place);
  }

  netnsOf = (key: string): Netns => this.#places.get(key)!.netns;
  ipOf = (key: string): string => formatIp(this.#places.get(key)!.ip);

  /** Exactly these policies, made, replaced and deleted one by one. */
  async policies(wanted: readonly V1NetworkPolicy[]): Promise<void> {
    const nameOf = ({ metadata }: V1NetworkPolicy) => `${metadata!.namespace}/${metadata!.name}`;
    const names = new Set(wanted.map(nameOf));
    for (const [key, { metadata }] of this.#policies) {
      if (names.has(key)) continue;
      await this.networking.deleteNamespacedNetworkPolicy({
        namespace: metadata!.namespace!,
        name: metadata!.name!,
      });
      this.#policies.delete(key);
    }
    for (const body of wanted) {
      const { namespace, name } = body.metadata as { namespace: string; name: string };
      const key = nameOf(body);
      if (!this.#policies.has(key)) await this.networking.createNamespacedNetworkPolicy({ namespace, body });
      else if (this.#policies.get(key) !== body)
        await this.networking.replaceNamespacedNetworkPolicy({ namespace, name, body });
      this.#policies.set(key, body);
    }
  }

  async labelPod({ ns, pod }: Who, labels: Record<string, string | null>): Promise<void> {
    await this.#client.patch(pods, pod, ns, { metadata: { labels } });
  }

  async labelNamespace(ns: string, labels: Record<string, string | null>): Promise<void> {
    await this.#client.patch(namespaces, ns, undefined, { metadata: { labels } });
  }

  /** Pairs for which the packets do otherwise than `allow` says, as text. A pod to itself is not asked. */
  async differences(protocol: Protocol, ports: readonly number[], allow: Allow): Promise<string[]> {
    const all = [...this.#places.values()];
    const asked = all.flatMap((from) =>
      all.filter((to) => to !== from).flatMap((to) => ports.map((port) => ({ from, to, port }))),
    );
    this.probes += asked.length;
    const came = await (protocol === 'TCP' ? this.#tcp(asked) : this.#packets(protocol, asked));
    return asked.flatMap(({ from, to, port }, at) => {
      const should = allow(from, to, port);
      return should === came[at]
        ? []
        : [`${from.key} > ${to.key} ${protocol} ${port}: ${came[at] ? 'came' : 'did not come'}`];
    });
  }

  /** Waits until the packets do as `allow` says. */
  async expect(what: string, protocol: Protocol, ports: readonly number[], allow: Allow): Promise<void> {
    let last: string[] = [];
    const end = performance.now() + CONVERGES_MS;
    do {
      last = await this.differences(protocol, ports, allow);
      if (last.length === 0) return;
    } while (performance.now() < end);
    throw new Error(`${what}: ${last.length} pairs do otherwise:\n${last.slice(0, 8).join('\n')}`);
  }

  async #tcp(asked: readonly { from: Place; to: Place; port: number }[]): Promise<boolean[]> {
    const late = sleep(ARRIVES_MS);
    return Promise.all(
      asked.map(async ({ from, to, port }) => {
        const socket = new Socket({
          fd: connectTcpIn(from.netns, formatIp(to.ip), port),
          readable: true,
          writable: true,
        });
        const answered = new Promise<boolean>((resolve) => {
          socket
            .once('data', () => resolve(true))
            .once('error', () => resolve(false))
            .once('close', () => resolve(false));
        });
        const isThere = await Promise.race([answered, late.then(() => false)]);
        socket.destroy();
        return isThere;
      }),
    );
  }

  /** Each packet has a number of its own, by which its receiver knows it. */
  async #packets(
    protocol: 'UDP' | 'SCTP',
    asked: readonly { from: Place; to: Place; port: number }[],
  ): Promise<boolean[]> {
    const c = libc();
    const ids = asked.map(({ from, to, port }) => {
      const id = ++this.#id;
      const isUdp = protocol === 'UDP';
      const fd = isUdp ? socketIn(from.netns, SOCK_DGRAM, 0) : socketIn(from.netns, SOCK_RAW, SCTP);
      const target = address(to.ip, isUdp ? port : 0);
      const payload = isUdp ? new Uint8Array(4) : new Uint8Array(32);
      const view = new DataView(payload.buffer);
      if (isUdp) view.setUint32(0, id);
      else {
        view.setUint16(0, 1024 + (id % 60_000));
        view.setUint16(2, port);
        payload.set([1, 0, 0, 20], 12); // INIT
        view.setUint32(16, id); // its tag
        view.setUint32(20, 0x10000); // window
        view.setUint32(24, 0x0001_0001); // streams
        view.setUint32(8, crc32c(payload), true); // connection tracking of others drops a wrong one
      }
      if (c.connect(fd, target, 16) === 0) c.send(fd, payload, payload.length, 0);
      c.close(fd);
      return id;
    });
    await sleep(ARRIVES_MS);
    const seen = new Set<string>();
    const buffer = new Uint8Array(2048);
    for (const place of this.#places.values()) {
      const read = (fd: number, offset: number, port: number | null) => {
        for (
          let length = c.recv(fd, buffer, buffer.length, 0);
          length > 0;
          length = c.recv(fd, buffer, buffer.length, 0)
        ) {
          const view = new DataView(buffer.buffer);
          const base = port === null ? (buffer[0]! & 15) * 4 : 0;
          seen.add(`${place.key} ${port ?? view.getUint16(base + 2)} ${view.getUint32(base + offset)}`);
        }
      };
      if (protocol === 'UDP') for (const [port, fd] of place.udp) read(fd, 0, port);
      else read(place.sctp, 16, null);
    }
    return asked.map(({ to, port }, at) => seen.has(`${to.key} ${port} ${ids[at]}`));
  }

  close(): void {
    this.#client?.close();
    for (const place of this.#places.values()) {
      for (const close of place.close) close();
      place.netns.close();
    }
    this.#places.clear();
  }
}
