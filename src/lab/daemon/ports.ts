// The loopback ports that a lab keeps for as long as it is there, also while its process is dead: nobody else may have
// them when it comes again. So they are of a range from which Linux gives none by itself, and no other lab's.
import { createServer } from 'node:net';
import { knownLabs, labPaths } from './paths.ts';
import { readRecord } from './record.ts';

/** Below what Linux gives to connections and to those who ask for any port (net.ipv4.ip_local_port_range: 32768 on). */
const FIRST = 20_000;
const COUNT = 10_000;
/** For each; then any port will do. */
const MOST_TRIES = 100;

/** Ports that labs keep, those whose process is dead too. */
export const portsOfLabs = (): number[] =>
  knownLabs().flatMap((lab) => Object.values(readRecord(labPaths(lab).record)?.ports ?? {}));

/** So many ports of 127.0.0.1, each another, that are free now and not among `kept`. */
export async function freePorts(count: number, kept: readonly number[] = portsOfLabs()): Promise<number[]> {
  const found: number[] = [];
  for (let tries = 0; found.length < count; tries++) {
    const wanted = tries < count * MOST_TRIES ? FIRST + Math.floor(Math.random() * COUNT) : 0;
    const port = await bound(wanted);
    if (port !== null && !kept.includes(port) && !found.includes(port)) found.push(port);
  }
  return found;
}

/** The port that could be bound, for 0 any; null when somebody has it. */
function bound(port: number): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      port !== 0 && error.code === 'EADDRINUSE' ? resolve(null) : reject(error),
    );
    server.listen(port, '127.0.0.1', () => {
      const { port: own } = server.address() as { port: number };
      server.close(() => resolve(own));
    });
  });
}
