// Where the EC2 client's keys come from: the environment, else (when its variables are set) the SDK's own chain, which
// is loaded only then, else the role of the instance. Keys are kept until shortly before they expire; while a renewal
// fails the old ones are used to their end. Fails with the source's error, or CLOUD_DENIED `NoCredentials`.
import { type Clock, systemClock } from '../base/clock.ts';
import type { Imds, RoleCredentials } from './imds.ts';
import { CloudError } from './port.ts';

/** Keys are renewed this long (ms) before they expire, as the SDKs do. */
const RENEW_BEFORE = 5 * 60_000;
/** After a renewal that failed, the next is tried no sooner than this (ms). */
const RENEW_PAUSE = 30_000;
/** Variables whose presence means that the SDK's chain has a source of its own. */
const CHAIN_VARIABLES = [
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_PROFILE',
];

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
  if (CHAIN_VARIABLES.some((name) => env[name])) return renewed(loadChain, options.clock);
  const imds = options.imds;
  if (imds) return renewed((signal) => imds.roleCredentials(signal), options.clock);
  return {
    get: async () => {
      throw new CloudError(
        'Credentials',
        'NoCredentials',
        'neither the environment nor the instance gives any',
      );
    },
    forget: () => {},
  };
}

async function loadChain(): Promise<Credentials> {
  const { defaultProvider } = await import('@aws-sdk/credential-provider-node');
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
