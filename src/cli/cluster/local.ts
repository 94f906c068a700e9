// Asks the agent of this node over its introspection socket: `--local`, as root of the node or in the agent's container.
import { request } from 'node:http';
import { join } from 'node:path';
import { LabError } from '../../lab/daemon/errors.ts';

const TIMEOUT_MS = 30_000;

type Refusal = { error?: { code: string; message: string; next: string } };

const ownSocket = (): string => join(process.env['PODWAY_RUN_DIR'] || '/run/podway', 'api.sock');

export const askLocal = <T>(path: string, method: 'GET' | 'POST' = 'GET'): Promise<T> =>
  askSocket(ownSocket(), path, method);

/** A path whose answer is text, as /metrics. */
export const askLocalText = async (path: string): Promise<string> =>
  (await askBytes(ownSocket(), path, 'GET')).body.toString('utf8');

/** Another agent of this machine, as a lab's. */
export async function askSocket<T>(
  socketPath: string,
  path: string,
  method: 'GET' | 'POST' = 'GET',
): Promise<T> {
  const { status, body } = await askBytes(socketPath, path, method);
  let value: T & Refusal;
  try {
    value = JSON.parse(body.toString('utf8')) as T & Refusal;
  } catch (error) {
    throw unreachable(socketPath, error as Error);
  }
  if (status === 200) return value;
  const { code, message, next } = value?.error ?? {
    code: 'AGENT_UNREACHABLE',
    message: `the agent of this node answers ${status}`,
    next: 'see that agent and command are of one version',
  };
  throw new LabError(code, message, next);
}

function unreachable(socketPath: string, cause: Error): LabError {
  const isRefused = (cause as NodeJS.ErrnoException).code === 'EACCES';
  return new LabError(
    isRefused ? 'NOT_ROOT' : 'AGENT_UNREACHABLE',
    `the agent of this node does not answer on ${socketPath}: ${cause.message}`,
    isRefused ? 'run it with sudo' : 'see that it runs; PODWAY_RUN_DIR names its run directory',
    { cause },
  );
}

function askBytes(
  socketPath: string,
  path: string,
  method: string,
): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(unreachable(socketPath, cause));
    const asked = request({ socketPath, path, method, timeout: TIMEOUT_MS, agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', fail);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces) }));
    });
    asked.once('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asked.once('error', fail);
    asked.end();
  });
}
