// Asks the agent of this node over its introspection socket: `--local`, as root of the node or in the agent's container.
import { request } from 'node:http';
import { join } from 'node:path';
import { LabError } from '../../lab/daemon/errors.ts';

const TIMEOUT_MS = 30_000;

type Refusal = { error?: { code: string; message: string; next: string } };

export const askLocal = <T>(path: string, method: 'GET' | 'POST' = 'GET'): Promise<T> =>
  askSocket(join(process.env['PODWAY_RUN_DIR'] || '/run/podway', 'api.sock'), path, method);

/** Another agent of this machine, as a lab's. */
export function askSocket<T>(socketPath: string, path: string, method: 'GET' | 'POST' = 'GET'): Promise<T> {
  return new Promise((resolve, reject) => {
    const unreachable = (cause: Error) => {
      const isRefused = (cause as NodeJS.ErrnoException).code === 'EACCES';
      reject(
        new LabError(
          isRefused ? 'NOT_ROOT' : 'AGENT_UNREACHABLE',
          `the agent of this node does not answer on ${socketPath}: ${cause.message}`,
          isRefused ? 'run it with sudo' : 'see that it runs; PODWAY_RUN_DIR names its run directory',
          { cause },
        ),
      );
    };
    const asked = request({ socketPath, path, method, timeout: TIMEOUT_MS, agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', unreachable);
      response.once('end', () => {
        try {
          const value = JSON.parse(Buffer.concat(pieces).toString('utf8')) as T & Refusal;
          if (response.statusCode === 200) return resolve(value);
          const { code, message, next } = value.error ?? {
            code: 'AGENT_UNREACHABLE',
            message: `the agent of this node answers ${response.statusCode}`,
            next: 'see that agent and command are of one version',
          };
          reject(new LabError(code, message, next));
        } catch (error) {
          unreachable(error as Error);
        }
      });
    });
    asked.once('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asked.once('error', unreachable);
    asked.end();
  });
}
