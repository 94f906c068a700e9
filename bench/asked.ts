// Two pods asked RATE times a second while something happens to their nodes, by bench/paced.ts in a network namespace.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from './run.ts';

export const RATE = 1_000;
export const PORT = '8080';

export type Told = { sent: number; answered: number; longestGapMs: number; broken?: string };
export type Asked = { udp: Told; tcp: Told };

/** `netnsPath`: of who asks. */
export function ask(
  netnsPath: string,
  to: string,
  seconds: number,
): { ready: Promise<void>; done: Promise<Asked> } {
  const command = [process.execPath, join(root, 'bench/paced.ts'), to, PORT, String(RATE), String(seconds)];
  const child = spawn('nsenter', [`--net=${netnsPath}`, ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  const ready = new Promise<void>((resolve) =>
    child.stdout.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      if (text.includes('ready\n')) resolve();
    }),
  );
  const done = new Promise<Asked>((resolve, reject) =>
    child.once('close', (code) => {
      if (code === 0) resolve(JSON.parse(text.split('\n')[1]!) as Asked);
      else reject(new Error(`paced ended with ${code}: ${text}`));
    }),
  );
  return { ready, done };
}
