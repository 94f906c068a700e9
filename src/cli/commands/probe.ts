// podway probe serve|ask: the two ends of the connectivity test, in pods of the agents' image. A server answers on TCP and
// UDP with its name and the address that it saw; a question prints one line of JSON.
import type { Socket } from 'node:net';
import type { Command } from 'commander';
import { act, command, wholeNumber } from '../command.ts';
import { print, printJson } from '../output.ts';

const ASK_MS = 5_000;
/** Between two UDP questions: one packet may be lost. */
const AGAIN_MS = 1_000;
const MOST_CONNECTIONS = 64;

const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');

export function probeCommand(): Command {
  const serve = command('serve', 'answer who is asked, and whose address was seen', [
    'podway probe serve --name a --port 8080',
  ])
    .requiredOption('--name <name>', 'what the answer begins with')
    .requiredOption('--port <port>', 'of TCP and UDP', wholeNumber('--port', 1, 65_535))
    .action(act(async (options: { name: string; port: number }) => serveBoth(options.name, options.port)));
  const ask = command('ask', 'ask such a server', ['podway probe ask tcp 10.0.3.7 8080'])
    .argument('<protocol>', 'tcp or udp')
    .argument('<address>', 'of the server')
    .argument('<port>', 'of the server', wholeNumber('<port>', 1, 65_535))
    .action(
      act(async (protocol: string, address: string, port: number) => {
        const began = performance.now();
        try {
          const answer = await (protocol === 'udp' ? askUdp : askTcp)(address, port);
          printJson({ answer, ms: Math.round((performance.now() - began) * 10) / 10 });
          return 0;
        } catch (error) {
          printJson({ error: (error as Error).message });
          return 1;
        }
      }),
    );
  return command('probe', 'the ends of the connectivity test', ['podway probe ask tcp 10.0.3.7 8080'])
    .addCommand(serve)
    .addCommand(ask);
}

async function serveBoth(name: string, port: number): Promise<void> {
  const { createServer } = await import('node:net');
  const { createSocket } = await import('node:dgram');
  const tcp = createServer({ allowHalfOpen: true }, (socket: Socket) => {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(ASK_MS, () => socket.destroy());
    socket.end(`${name} ${plain(socket.remoteAddress)}\n`);
    socket.resume();
  });
  tcp.maxConnections = MOST_CONNECTIONS;
  const udp = createSocket({ type: 'udp6', ipv6Only: false });
  udp.on('message', (_, from) => udp.send(`${name} ${plain(from.address)}\n`, from.port, from.address));
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject);
    tcp.listen(port, resolve);
  });
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(port, resolve);
  });
  print(`${name} listens on port ${port}`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  tcp.close();
  udp.close();
}

async function askTcp(host: string, port: number): Promise<string> {
  const { connect } = await import('node:net');
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect({ host, port, timeout: ASK_MS });
    socket.setEncoding('utf8');
    socket.once('timeout', () => socket.destroy(new Error(`no answer within ${ASK_MS / 1000} s`)));
    socket.once('error', reject);
    socket.on('data', (piece: string) => {
      text += piece;
    });
    socket.once('end', () => {
      socket.destroy();
      resolve(text.trim());
    });
  });
}

async function askUdp(host: string, port: number): Promise<string> {
  const { createSocket } = await import('node:dgram');
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const asking = setInterval(() => socket.send('?', port, host), AGAIN_MS);
  try {
    return await new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('message', (message) => resolve(message.toString('utf8').trim()));
      setTimeout(() => reject(new Error(`no answer within ${ASK_MS / 1000} s`)), ASK_MS).unref();
      socket.send('?', port, host);
    });
  } finally {
    clearInterval(asking);
    socket.close();
  }
}
