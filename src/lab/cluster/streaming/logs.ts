// `pods/log`: the file that a pod's process writes to, whole or its end, followed as it grows. Lines bear no time here,
// so what asks for times is refused. The file holds all starts of the container.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pod } from '../../../kube/types.ts';
import { checkContainer, type PodAccess, StreamRefusal } from './access.ts';

const CHUNK = 64 << 10;
/** How often a followed file is looked at. */
const LOOK_MS = 100;
const NEWLINE = 10;

/** Parameters that nothing here can serve, and why. */
const REFUSED: Readonly<Record<string, string>> = {
  sinceSeconds: 'lines have no times in a lab',
  sinceTime: 'lines have no times in a lab',
  timestamps: 'lines have no times in a lab',
};

export async function serveLog(
  access: PodAccess,
  pod: Pod,
  query: URLSearchParams,
  response: ServerResponse,
): Promise<void> {
  const container = checkContainer(pod, query);
  const given = (name: string) => query.has(name) && query.get(name) !== 'false';
  for (const [name, why] of Object.entries(REFUSED))
    if (given(name)) throw new StreamRefusal(400, `${name} is not served here: ${why}`);
  const stream = query.get('stream') ?? 'All';
  if (stream !== 'All')
    throw new StreamRefusal(400, `stream "${stream}" is not served here: both are kept as one`);
  if (given('previous'))
    throw new StreamRefusal(
      400,
      `previous terminated container "${container}" in pod "${pod.metadata.name}" not found: the log of this one holds all its starts`,
    );
  const tail = countOf(query, 'tailLines');
  const limit = countOf(query, 'limitBytes') ?? Number.POSITIVE_INFINITY;
  const log = openLog(access.logFile(pod));
  if (log === undefined)
    throw new StreamRefusal(
      400,
      `container "${container}" in pod "${pod.metadata.name}" is waiting to start: ContainerCreating`,
    );
  try {
    response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' });
    const follow = given('follow') ? () => access.running(pod) !== undefined : () => false;
    await copy(log, tail === undefined ? 0 : startOfTail(log, tail), limit, follow, response);
    response.end();
  } finally {
    closeSync(log);
  }
}

function countOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[0-9]{1,15}$/.test(text)) throw new StreamRefusal(400, `${name} must be a number: "${text}"`);
  return Number(text);
}

function openLog(file: string): number | undefined {
  try {
    return openSync(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Offset of the last `lines` lines; the last one may have no end yet. */
export function startOfTail(fd: number, lines: number): number {
  const { size } = fstatSync(fd);
  if (lines === 0) return size;
  const chunk = Buffer.alloc(CHUNK);
  let left = lines;
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - CHUNK);
    const got = readSync(fd, chunk, 0, end - start, start);
    for (let i = got - 1; i >= 0; i--)
      if (chunk[i] === NEWLINE && start + i !== size - 1 && --left === 0) return start + i + 1;
    end = start;
  }
  return 0;
}

/** Writes from `from` on; at the end of the file waits for more as long as `follow` says. */
async function copy(
  fd: number,
  from: number,
  limit: number,
  follow: () => boolean,
  response: ServerResponse,
): Promise<void> {
  let at = from;
  let left = limit;
  while (!response.destroyed && left > 0) {
    // Asked before the read: what is written between the two is read in the next round.
    const more = follow();
    const chunk = Buffer.alloc(Math.min(CHUNK, left));
    const got = readSync(fd, chunk, 0, chunk.length, at);
    if (got === 0) {
      if (!more) return;
      await sleep(LOOK_MS);
      continue;
    }
    at += got;
    left -= got;
    if (!response.write(chunk.subarray(0, got))) await drained(response);
  }
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });
}
