// Keys from the agent that stands beside a container: EKS Pod Identity and ECS. One GET, with a token from a file
// where there is one. Plain http goes only to this machine and to the agents' own link-local addresses, as in the SDKs:
// elsewhere the keys would travel in the clear. Fails with CloudError: `NoCredentials`, or `Network`, `Timeout`.
// Source: docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
import { readFileSync } from 'node:fs';
import { exchange, HttpFailure } from './http.ts';
import type { RoleCredentials } from './imds.ts';
import { CloudError } from './port.ts';

const ACTION = 'ContainerCredentials';
const TIMEOUT = 2_000;
const ECS_AGENT = 'http://169.254.170.2';
const PLAIN_HOSTS =
  /^(localhost|127(\.\d{1,3}){3}|\[::1\]|169\.254\.170\.2|169\.254\.170\.23|\[fd00:ec2::23\])$/;

type Env = Record<string, string | undefined>;

/** Where the environment says that keys are, or null. The relative address comes first, as in the SDKs. */
export function containerUrl(env: Env): URL | null {
  const relative = env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'];
  const full = env['AWS_CONTAINER_CREDENTIALS_FULL_URI'];
  if (!relative && !full) return null;
  const url = URL.parse(relative ? `${ECS_AGENT}${relative}` : full!);
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && PLAIN_HOSTS.test(url.hostname))) return url;
  throw new CloudError(
    ACTION,
    'NoCredentials',
    `${full} is neither https nor an address of this machine or of a container agent`,
  );
}

export async function containerCredentials(
  url: URL,
  env: Env,
  signal?: AbortSignal,
): Promise<RoleCredentials> {
  const file = env['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'];
  // Read each time: Kubernetes replaces it before it ends.
  const token = file ? readFileSync(file, 'utf8').trim() : env['AWS_CONTAINER_AUTHORIZATION_TOKEN'];
  const answer = await exchange({
    method: 'GET',
    url,
    headers: token ? { authorization: token } : {},
    timeoutMs: TIMEOUT,
    signal,
  }).catch((error) => {
    if (!(error instanceof HttpFailure)) throw error;
    throw new CloudError(ACTION, error.timedOut ? 'Timeout' : 'Network', error.message, false, {
      cause: error,
    });
  });
  const found = readJson(answer.body);
  const accessKeyId = found['AccessKeyId'];
  const secretAccessKey = found['SecretAccessKey'];
  const expiration = new Date(found['Expiration'] ?? '');
  if (answer.status >= 500) throw new CloudError(ACTION, 'Unavailable', `${url} answered ${answer.status}`);
  if (answer.status !== 200 || !accessKeyId || !secretAccessKey || Number.isNaN(expiration.getTime())) {
    const why = [found['Code'] ?? found['code'], found['Message'] ?? found['message']].filter(Boolean);
    const text = why.length > 0 ? why.join(': ') : 'no keys in the answer';
    throw new CloudError(ACTION, 'NoCredentials', `${url} answered ${answer.status}: ${text}`);
  }
  return {
    accessKeyId,
    secretAccessKey,
    ...(found['Token'] ? { sessionToken: found['Token'] } : {}),
    expiration,
  };
}

function readJson(text: string): Record<string, string | undefined> {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === 'object' && found !== null ? (found as Record<string, string>) : {};
  } catch {
    // Its own error is said by the caller, with the status.
    return {};
  }
}
