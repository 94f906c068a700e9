// Tokens of service accounts: what `serviceaccounts/NAME/token` (TokenRequest) issues and a caller then bears. JWTs
// signed with the API's own key, so nothing is stored; one is good while it has not expired, is meant for this API, and
// its service account is the one that it was made for.

import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { rfc3339 } from '../../../base/clock.ts';
import * as errors from './errors.ts';
import type { Any, Kind } from './kinds.ts';
import type { User } from './pki.ts';
import type { Verbs } from './verbs.ts';

const ISSUER = 'https://kubernetes.default.svc';
const DEFAULT_SECONDS = 3600;
/** As kube-apiserver: no less than ten minutes, and of more than this it gives this. */
const MIN_SECONDS = 600;
const MAX_SECONDS = 1 << 17;

type Claims = {
  aud: string[];
  exp: number;
  iat: number;
  nbf: number;
  iss: string;
  sub: string;
  'kubernetes.io': { namespace: string; serviceaccount: { name: string; uid: string } };
};

export class ServiceAccountTokens {
  private readonly key: KeyObject;
  private readonly publicKey: KeyObject;
  private readonly verbs: Verbs;

  /** `key`: PEM of the API's CA, an EC key on P-256. */
  constructor(key: string, verbs: Verbs) {
    this.key = createPrivateKey(key);
    this.publicKey = createPublicKey(key);
    this.verbs = verbs;
  }

  /** Answers the TokenRequest with its status. */
  issue(kind: Kind, namespace: string, name: string, request: Any): Any {
    const account = this.verbs.get(kind, namespace, name).object.metadata;
    const spec = (request['spec'] ?? {}) as { audiences?: string[]; expirationSeconds?: number };
    const wanted = spec.expirationSeconds ?? DEFAULT_SECONDS;
    const named = { group: 'authentication.k8s.io', plural: 'tokenrequests', kind: 'TokenRequest' };
    if (!Number.isSafeInteger(wanted) || wanted < MIN_SECONDS)
      throw errors.invalid(named, name, [
        errors.invalidValue(
          'spec.expirationSeconds',
          wanted,
          'may not specify a duration less than 10 minutes',
        ),
      ]);
    const expirationSeconds = Math.min(wanted, MAX_SECONDS);
    const audiences = spec.audiences?.length ? spec.audiences : [ISSUER];
    const iat = Math.floor(this.verbs.now() / 1000);
    const claims: Claims = {
      aud: audiences,
      exp: iat + expirationSeconds,
      iat,
      nbf: iat,
      iss: ISSUER,
      sub: `system:serviceaccount:${namespace}:${name}`,
      'kubernetes.io': { namespace, serviceaccount: { name, uid: account.uid! } },
    };
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace, creationTimestamp: rfc3339(this.verbs.now()) },
      spec: { ...spec, audiences, expirationSeconds },
      status: { token: this.seal(claims), expirationTimestamp: rfc3339(claims.exp * 1000) },
    };
  }

  userOf(token: string): User | null {
    const claims = this.open(token);
    if (claims === null || claims.exp * 1000 <= this.verbs.now() || !claims.aud.includes(ISSUER)) return null;
    const { namespace, serviceaccount } = claims['kubernetes.io'];
    const accounts = this.verbs.storage.collection('serviceaccounts');
    const account = accounts.items.get(`${namespace}/${serviceaccount.name}`);
    if (account?.object.metadata.uid !== serviceaccount.uid) return null;
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'];
    return { name: claims.sub, groups };
  }

  private seal(claims: Claims): string {
    const text = [{ alg: 'ES256', typ: 'JWT' }, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    const key = { key: this.key, dsaEncoding: 'ieee-p1363' as const };
    return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
  }

  /** Null for what this API did not sign: the signature is looked at before anything that it covers. */
  private open(token: string): Claims | null {
    const [head, body, signature, ...more] = token.split('.');
    if (head === undefined || body === undefined || signature === undefined || more.length > 0) return null;
    const key = { key: this.publicKey, dsaEncoding: 'ieee-p1363' as const };
    const bytes = Buffer.from(signature, 'base64url');
    if (!verify('sha256', Buffer.from(`${head}.${body}`), key, bytes)) return null;
    return JSON.parse(Buffer.from(body, 'base64url').toString()) as Claims;
  }
}
