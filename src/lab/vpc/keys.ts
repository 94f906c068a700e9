// The lab's own random keys (keys.json, 0600) and the credentials of its instances' role.
// Role credentials are computed, not stored: the session token carries instance and expiry under an HMAC of a secret in
// keys.json, and the secret key follows from the token. So they survive the lab's death and end on time.
// Fails with AuthFailure for what it does not know, RequestExpired for what has ended.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { writeFileAtomic } from '../../base/files.ts';
import type { Caller } from './context.ts';
import { Ec2Error } from './errors.ts';
import { authFailure } from './sigv4.ts';

export type Keys = { accessKeyId: string; secretAccessKey: string };
type StoredKeys = Keys & { sessionSecret: string; version: 1 };
export type RoleCredentials = Keys & { token: string; issued: number; expires: number };

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const base32 = (bytes: Uint8Array): string => Array.from(bytes, (b) => BASE32[b & 31]).join('');
/** AWS renews an instance's credentials well before they end, hourly here for the usual six hours. */
const RENEWALS = 6;

export type KeyRing = {
  keys: Keys;
  /** An HMAC under the lab's own secret, for tokens that must outlive the lab's process. */
  sign(text: string): Buffer;
  /** The credentials that IMDS gives at `now`: the same until the next renewal. */
  roleCredentials(instanceId: string, lifetimeMs: number, now: number): RoleCredentials;
  /** The secret and the caller behind a key; `isAlive` says whether an instance may still use its role. */
  resolve(
    accessKeyId: string,
    token: string | undefined,
    now: number,
    isAlive: (instanceId: string) => boolean,
  ): { secret: string; caller: Caller };
};

export function openKeyRing(file: string, accountId: string, roleName: string): KeyRing {
  const stored = existsSync(file) ? readKeys(file) : createKeys(file);
  const sign = (text: string): Buffer => createHmac('sha256', stored.sessionSecret).update(text).digest();
  const secretOf = (token: string): string => sign(`secret:${token}`).toString('base64').slice(0, 40);
  const userId = `AIDA${base32(sign('user').subarray(0, 16))}`;
  const roleId = `AROA${base32(sign(`role:${roleName}`).subarray(0, 16))}`;

  return {
    keys: { accessKeyId: stored.accessKeyId, secretAccessKey: stored.secretAccessKey },

    sign,

    roleCredentials: (instanceId, lifetimeMs, now) => {
      const step = Math.max(1000, Math.floor(lifetimeMs / RENEWALS));
      const issued = Math.floor(now / step) * step;
      const expires = issued + lifetimeMs;
      const accessKeyId = `ASIA${base32(sign(`key:${instanceId}:${expires}`).subarray(0, 16))}`;
      const body = Buffer.from(JSON.stringify({ instanceId, accessKeyId, expires })).toString('base64url');
      const token = `${body}.${sign(`token:${body}`).toString('base64url')}`;
      return { accessKeyId, secretAccessKey: secretOf(token), token, issued, expires };
    },

    resolve: (accessKeyId, token, now, isAlive) => {
      if (token === undefined) {
        if (accessKeyId !== stored.accessKeyId) throw authFailure();
        const arn = `arn:aws:iam::${accountId}:user/podway`;
        return { secret: stored.secretAccessKey, caller: { kind: 'admin', arn, userId } };
      }
      const dot = token.indexOf('.');
      const body = token.slice(0, Math.max(0, dot));
      const given = Buffer.from(token.slice(dot + 1), 'base64url');
      const expected = sign(`token:${body}`);
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw authFailure();
      const claim = JSON.parse(Buffer.from(body, 'base64url').toString()) as {
        instanceId: string;
        accessKeyId: string;
        expires: number;
      };
      if (claim.accessKeyId !== accessKeyId || !isAlive(claim.instanceId)) throw authFailure();
      if (claim.expires <= now) {
        throw new Ec2Error(
          'RequestExpired',
          `Request has expired. The session token ended at ${new Date(claim.expires).toISOString()}.`,
        );
      }
      const arn = `arn:aws:sts::${accountId}:assumed-role/${roleName}/${claim.instanceId}`;
      const caller: Caller = {
        kind: 'role',
        arn,
        userId: `${roleId}:${claim.instanceId}`,
        instanceId: claim.instanceId,
      };
      return { secret: secretOf(token), caller };
    },
  };
}

function readKeys(file: string): StoredKeys {
  // A file that someone opened up is closed again before it is used.
  chmodSync(file, 0o600);
  const stored = JSON.parse(readFileSync(file, 'utf8')) as StoredKeys;
  if (!stored.accessKeyId || !stored.secretAccessKey || !stored.sessionSecret) {
    throw new Error(`${file} holds no complete keys (remove it to have new ones made)`);
  }
  return stored;
}

function createKeys(file: string): StoredKeys {
  const stored: StoredKeys = {
    version: 1,
    accessKeyId: `AKIA${base32(randomBytes(16))}`,
    secretAccessKey: randomBytes(30).toString('base64'),
    sessionSecret: randomBytes(32).toString('hex'),
  };
  writeFileAtomic(file, `${JSON.stringify(stored, null, 2)}\n`);
  return stored;
}
