// Runs a command in a container by pods/exec over a WebSocket (v5.channel.k8s.io, else v4), without input. Each message is
// a channel's number and bytes: 1 stdout, 2 stderr, 3 the command's end as a Status. Bounded in time and in output. Fails
// with LabError, which names the pod.
import WebSocket from 'ws';
import type { KubeConfig } from '../../kube/index.ts';
import { LabError } from '../../lab/daemon/errors.ts';

export type ExecTarget = { namespace: string; pod: string; container: string };
export type Executed = { code: number; stdout: string; stderr: string };

const PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const STDOUT = 1;
const STDERR = 2;
const ENDED = 3;
const TIMEOUT_MS = 60_000;
/** Bytes of both outputs together: ten times what a node with 700 pods has to tell. */
const MAX_OUTPUT = 16 << 20;

type Status = {
  status?: string;
  message?: string;
  reason?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
};

function urlOf({ server }: KubeConfig, { namespace, pod, container }: ExecTarget, command: string[]): URL {
  const url = new URL(server.replace(/^http/, 'ws'));
  const path = ['api', 'v1', 'namespaces', namespace, 'pods', pod, 'exec'].map(encodeURIComponent).join('/');
  url.pathname = `${url.pathname.replace(/\/$/, '')}/${path}`;
  for (const word of command) url.searchParams.append('command', word);
  url.searchParams.append('container', container);
  url.searchParams.append('stdout', 'true');
  url.searchParams.append('stderr', 'true');
  return url;
}

export type ExecOptions = {
  /** Null: none. */
  timeoutMs?: number | null;
  /** Takes the command's output as it comes, instead of the answer. */
  onStdout?: (bytes: Buffer) => void;
  signal?: AbortSignal;
};

export function execInPod(
  config: KubeConfig & { token?: string },
  target: ExecTarget,
  command: string[],
  { timeoutMs = TIMEOUT_MS, onStdout, signal }: ExecOptions = {},
): Promise<Executed> {
  const { namespace, pod } = target;
  return new Promise((resolve, reject) => {
    const output: Record<number, Buffer[]> = { [STDOUT]: [], [STDERR]: [] };
    let size = 0;
    let end: Status | null = null;
    const fail = (why: string, cause?: unknown) => {
      if (limit) clearTimeout(limit);
      socket.terminate();
      reject(
        new LabError(
          'EXEC_FAILED',
          `${command[0]} cannot be run in pod ${namespace}/${pod}: ${why}`,
          'kubectl exec tells the same; it takes the right to create pods/exec in that namespace',
          { cause },
        ),
      );
    };
    const socket = new WebSocket(urlOf(config, target, command), PROTOCOLS, {
      ...(config.ca === undefined ? {} : { ca: config.ca }),
      ...(config.cert === undefined ? {} : { cert: config.cert }),
      ...(config.key === undefined ? {} : { key: config.key }),
      ...(config.tlsServerName === undefined ? {} : { servername: config.tlsServerName }),
      ...(config.insecure ? { rejectUnauthorized: false } : {}),
      headers: config.token === undefined ? {} : { authorization: `Bearer ${config.token}` },
      maxPayload: MAX_OUTPUT,
      perMessageDeflate: false,
    });
    const limit =
      timeoutMs === null
        ? null
        : setTimeout(() => fail(`it did not end within ${timeoutMs / 1000} s`), timeoutMs);
    signal?.addEventListener('abort', () => fail('it was stopped'), { once: true });
    socket.on('message', (message: Buffer) => {
      const bytes = Buffer.isBuffer(message) ? message : Buffer.from(message as ArrayBuffer);
      const rest = bytes.subarray(1);
      if (bytes[0] === ENDED) {
        try {
          end = JSON.parse(rest.toString('utf8')) as Status;
        } catch (error) {
          fail('its end cannot be read', error);
        }
        return;
      }
      if (onStdout && bytes[0] === STDOUT) return onStdout(rest);
      size += rest.length;
      if (size > MAX_OUTPUT) fail(`it wrote more than ${MAX_OUTPUT >> 20} MiB`);
      else output[bytes[0]!]?.push(rest);
    });
    socket.on('unexpected-response', (_request, response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('end', () =>
        fail(refusal(response.statusCode ?? 0, Buffer.concat(pieces).toString('utf8'))),
      );
    });
    socket.on('error', (error) => fail(error.message, error));
    socket.on('close', () => {
      if (limit) clearTimeout(limit);
      if (!end) return fail('the connection ended before the command did');
      const code = exitCode(end);
      if (code === null) return fail(end.message ?? end.reason ?? 'the runtime refuses');
      resolve({ code, stdout: textOf(output[STDOUT]!), stderr: textOf(output[STDERR]!) });
    });
  });
}

const textOf = (pieces: Buffer[]): string => Buffer.concat(pieces).toString('utf8');

/** Null when the command was not run. */
function exitCode({ status, reason, details }: Status): number | null {
  if (status === 'Success') return 0;
  const said = details?.causes?.find((cause) => cause.reason === 'ExitCode')?.message;
  return reason === 'NonZeroExitCode' && said !== undefined ? Number(said) : null;
}

function refusal(code: number, body: string): string {
  try {
    const { message } = JSON.parse(body) as Status;
    if (message) return message;
  } catch {
    // A proxy's page: the code must do.
  }
  return `the API answers ${code}${body ? `: ${body.slice(0, 200)}` : ''}`;
}
