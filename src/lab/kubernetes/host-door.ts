// The API server's door on the machine: a listener on a stable loopback port that hands each connection on to the address
// in the VPC, from a socket made in the control plane's namespace. TLS goes through it untouched.
import { createServer, type Server, Socket } from 'node:net';
import { openNetns } from '../../kernel/netns.ts';
import { connectTcpIn } from '../../kernel/sockets.ts';
import { API_PORT } from './layout.ts';

const MAX_CONNECTIONS = 512;

/** `target`: undefined while there is no control plane; its callers are hung up on. */
export function hostDoor(target: () => { netnsPath: string; address: string } | undefined): Server {
  const server = createServer({ noDelay: true }, (caller) => {
    const to = target();
    const inner = to && dial(to);
    if (!inner) return void caller.destroy();
    const end = () => {
      caller.destroy();
      inner.destroy();
    };
    for (const each of [caller, inner]) {
      each.once('error', end);
      each.once('close', end);
    }
    caller.pipe(inner);
    inner.pipe(caller);
  });
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

function dial({ netnsPath, address }: { netnsPath: string; address: string }): Socket | undefined {
  let fd: number;
  try {
    using netns = openNetns(netnsPath);
    fd = connectTcpIn(netns, address, API_PORT);
  } catch {
    // The instance is stopped at this moment.
    return undefined;
  }
  const socket = new Socket({ fd, readable: true, writable: true });
  socket.setNoDelay(true);
  return socket;
}
