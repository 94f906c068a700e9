// Where the EC2 client's keys come from, in this order: keys in the environment, a profile (by the SDK's own chain,
// which costs 27 MiB and is loaded only then), a service account's role, a container's agent, the instance's role.
// Keys are kept until shortly before they expire; while a renewal fails the old ones are used to their end.
// Fails with the source's error, or CLOUD_DENIED `NoCredentials`.
import { type Clock, systemClock } from '../base/clock.ts';
import { serviceEndpoint } from './endpoint.ts';
import type { Imds, RoleCredentials } from './imds.ts';
import { CloudError } from './port.ts';

/** Keys are renewed this long (ms) before they expire, as the SDKs do. */
const RENEW_BEFORE = 5 * 60_000;
/** After a renewal that failed, the next is tried no sooner than this (ms). */
const RENEW_PAUSE = 30_000;
/** How CloudTrail calls us when the environment says nothing else. */
const SESSION_NAME = 'podway-agent';
export type Credentials = RoleCredentials;

export interface CredentialSource {
  get(signal?: AbortSignal): Promise<Credentials>;
  /** Drops what is kept, after EC2 has refused it. */
  forget(): void;
}

export const fixedCredentials = (credentials: Credentials): CredentialSource => ({
  get: async () => credentials,
  forget: () => {},
});

export function defaultCredentials(options: {
  imds?: Imds;
  /** Where STS is asked when the environment names no region. */
  region?: string;
  domain?: string | undefined;
  env?: Record<string, string | undefined>;
  clock?: Clock;
}): CredentialSource {
  const env = options.env ?? process.env;
  const accessKeyId = env['AWS_ACCESS_KEY_ID'];
  const secretAccessKey = env['AWS_SECRET_ACCESS_KEY'];
  if (accessKeyId && secretAccessKey) {
    const sessionToken = env['AWS_SESSION_TOKEN'];
    return fixedCredentials({ accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) });
  }
  return renewed(loaderFor(env, options), options.clock);
}

type Loader = (signal?: AbortSignal) => Promise<Credentials>;

function loaderFor(
  env: Record<string, string | undefined>,
  options: { imds?: Imds; region?: string; domain?: string | undefined },
): Loader {
  const { imds } = options;
  if (env['AWS_PROFILE']) return loadChain;
  const tokenFile = env['AWS_WEB_IDENTITY_TOKEN_FILE'];
  const roleArn = env['AWS_ROLE_ARN'];
  if (tokenFile && roleArn) {
    const region = env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || options.region || 'us-east-1';
    const sessionName = env['AWS_ROLE_SESSION_NAME'] || SESSION_NAME;
    const endpoint = serviceEndpoint('sts', region, options.domain, env);
    const identity = { tokenFile, roleArn, sessionName, endpoint };
    return async (signal) => (await import('./web-identity.ts')).webIdentityCredentials(identity, signal);
  }
  if (env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'] || env['AWS_CONTAINER_CREDENTIALS_FULL_URI']) {
    return async (signal) => {
      const container = await import('./container-credentials.ts');
      return container.containerCredentials(container.containerUrl(env)!, env, signal);
    };
  }
  if (imds) return (signal) => imds.roleCredentials(signal);
  return async () => {
    const text = 'neither the environment nor the instance gives any';
    throw new CloudError('Credentials', 'NoCredentials', text);
  };
}

async function loadChain(): Promise<Credentials> {
  const { defaultProvider } = await import('@aws-sdk/credential-provider-node').catch((error) => {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    const text = `AWS_PROFILE needs the package @aws-sdk/credential-provider-node, which is not installed`;
    throw new CloudError('Credentials', 'NoCredentials', text, false, { cause: error });
  });
  return defaultProvider()();
}

/** Keeps what `load` gave, renews it in time, and lets concurrent callers share one load. */
export function renewed(
  load: (signal?: AbortSignal) => Promise<Credentials>,
  clock: Clock = systemClock,
): CredentialSource {
  let kept: Credentials | undefined;
  let loading: Promise<Credentials> | undefined;
  let failedAt = Number.NEGATIVE_INFINITY;
  const until = () => kept?.expiration?.getTime() ?? Number.POSITIVE_INFINITY;
  return {
    async get(signal) {
      const now = clock.now();
      if (kept && until() - RENEW_BEFORE > now) return kept;
      if (kept && until() > now && failedAt + RENEW_PAUSE > now) return kept;
      loading ??= load(signal).finally(() => {
        loading = undefined;
      });
      try {
        kept = await loading;
        return kept;
      } catch (error) {
        failedAt = now;
        if (kept && until() > now) return kept;
        throw error;
      }
    },
    forget() {
      kept = undefined;
    },
  };
}
