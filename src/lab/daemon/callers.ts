// Bounds on a server's connections, per caller and in all, so that no caller takes them all. A caller beyond its bound
// loses its own oldest connections without a request, first those that never had one. Connections younger than GRACE_MS
// are spared, since their request may be on its way; so a pod that opens hundreds of idle connections does not lock out
// its node, which has the same address. A connection with a request is never cut. At the hard bound there is no grace,
// and when all connections have requests the new one is refused.
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** Connections of one caller, and in all; for GRACE_MS both may be HARD times as many. */
export type Bounds = { each: number; all: number };
const HARD = 16;
/** A request follows its connection within this, also on a busy machine. */
const GRACE_MS = 250;

/** `busy`: requests on it that are not answered yet. */
type Connection = { socket: Socket; key: string; since: number; asked: boolean; busy: number };

/** `keyOf` names the caller of a connection; it is asked once, at its begin. */
export function boundCallers(server: Server, keyOf: (socket: Socket) => string, { each, all }: Bounds): void {
  /** By caller, oldest first. */
  const callers = new Map<string, Set<Connection>>();
  const connections = new Map<Socket, Connection>();
  let timer: NodeJS.Timeout | undefined;

  const drop = (connection: Connection) => {
    connections.delete(connection.socket);
    const own = callers.get(connection.key);
    own?.delete(connection);
    if (own?.size === 0) callers.delete(connection.key);
  };
  /** Cuts `count` that carry nothing and began before `before`; false when there were fewer. */
  const cut = (of: Iterable<Connection>, count: number, before: number): boolean => {
    const isOld = ({ since }: Connection) => since <= before;
    const idle = [...of].filter(({ busy }) => busy === 0);
    const silent = idle.filter(({ asked }) => !asked);
    // A silent one in its grace goes before one that has asked: the next sweep takes it.
    const others = silent.every(isOld) ? idle.filter(({ asked }) => asked) : [];
    const going = [...silent, ...others].filter(isOld).slice(0, count);
    for (const connection of going) {
      drop(connection);
      connection.socket.destroy();
    }
    return going.length === count;
  };
  const greediest = (): Set<Connection> =>
    [...callers.values()].reduce((most, own) => (own.size > most.size ? own : most), new Set<Connection>());

  /** Cuts what is over the bounds and old enough; looks again while there is more. */
  const sweep = () => {
    timer = undefined;
    const before = performance.now() - GRACE_MS;
    let more = false;
    for (const own of [...callers.values()])
      if (own.size > each && !cut(own, own.size - each, before)) more = true;
    while (connections.size > all && !more) more = !cut(greediest(), 1, before);
    if (more) later();
  };
  const later = () => {
    timer ??= setTimeout(sweep, GRACE_MS).unref();
  };

  server.on('connection', (socket: Socket) => {
    const key = keyOf(socket);
    const own = callers.get(key) ?? new Set<Connection>();
    const now = performance.now();
    const hasRoom =
      (own.size < each * HARD || cut(own, 1, now)) &&
      (connections.size < all * HARD || cut(greediest(), 1, now));
    if (!hasRoom) {
      socket.destroy();
      return;
    }
    const connection: Connection = { socket, key, since: now, asked: false, busy: 0 };
    own.add(connection);
    callers.set(key, own);
    connections.set(socket, connection);
    socket.once('close', () => drop(connection));
    if (own.size > each || connections.size > all) later();
  });
  server.on('request', ({ socket }, response) => {
    const connection = connections.get(socket);
    if (!connection) return;
    connection.asked = true;
    connection.busy += 1;
    response.once('close', () => {
      connection.busy -= 1;
    });
  });
  server.once('close', () => clearTimeout(timer));
}
