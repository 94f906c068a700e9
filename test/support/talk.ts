// Callers of a socket who write bytes of their own, and may leave, stay or take their time.
import { connect } from 'node:net';

/** A caller whom nobody has sent away after this long (ms) goes. */
const PATIENCE_MS = 45_000;
const NOT_SENT_AWAY = 'not sent away';

/**
 * Writes the pieces and hears what comes until the other side ends it, or goes at once. Never fails. Who stays and is
 * not sent away hears NOT_SENT_AWAY.
 */
export function talk(
  where: string | number,
  pieces: Buffer[],
  goes: 'destroy' | 'end' | 'stay',
): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(where as string);
    let heard = '';
    socket.setTimeout(PATIENCE_MS, () => {
      if (goes === 'stay') heard += NOT_SENT_AWAY;
      socket.destroy();
    });
    socket.setEncoding('latin1').on('data', (text: string) => {
      heard += text;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
    socket.on('connect', () => {
      for (const piece of pieces) socket.write(piece);
      if (goes === 'end') socket.end();
      if (goes === 'destroy') setImmediate(() => socket.destroy());
    });
  });
}

/** A piece every second, for much longer than a request may take. */
export function drip(socketPath: string, bytes: Buffer): Promise<string> {
  let at = 0;
  const timer = setInterval(() => socket.write(bytes.subarray(at, ++at)), 1000);
  const socket = connect(socketPath);
  return new Promise((resolve) => {
    const late = setTimeout(() => {
      resolve(NOT_SENT_AWAY);
      socket.destroy();
    }, PATIENCE_MS);
    socket.on('error', () => {});
    socket.resume().on('close', () => {
      clearInterval(timer);
      clearTimeout(late);
      resolve('');
    });
  });
}
