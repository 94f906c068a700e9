// Tokens of service accounts: what `serviceaccounts/NAME/token` (TokenRequest) issues and a caller then bears. JWTs
// signed with the API's own key, so nothing is stored; one is good while it has not expired, is meant for this API, and
// its service account, and the object that it is bound to, are the ones that it was made for.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  randomUUID,
  sign,
  verify,
} from 'node:crypto';
import { rfc3339 } from '../../../base/clock.ts';
import type { ObjectMeta, Pod } from '../../../kube/types.ts';
import * as errors from './errors.ts';
import type { Any } from './kinds.ts';
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
  jti: string;
  'kubernetes.io': {
    namespace: string;
    serviceaccount: Reference;
    pod?: Reference;
    secret?: Reference;
    node?: Reference;
  };
};

type Automount = { automountServiceAccountToken?: boolean };
type Reference = { name: string; uid: string };
type BoundObject = { kind?: string; apiVersion?: string; name?: string; uid?: string };

export class ServiceAccountTokens {
  private readonly key: KeyObject;
  private readonly publicKey: KeyObject;
  private readonly keyId: string;
  private readonly verbs: Verbs;

  /** `key`: PEM of the API's CA, an EC key on P-256. */
  constructor(key: string, verbs: Verbs) {
    this.key = createPrivateKey(key);
    this.publicKey = createPublicKey(key);
    const bytes = this.publicKey.export({ type: 'spki', format: 'der' });
    this.keyId = createHash('sha256').update(bytes).digest('base64url');
    this.verbs = verbs;
  }

  /** What others need to check a token: OpenID Connect discovery and the key set. Null for another path. */
  openId(segments: readonly string[]): object | null {
    switch (segments.join('/')) {
      case '.well-known/openid-configuration':
        return {
          issuer: ISSUER,
          jwks_uri: `${ISSUER}/openid/v1/jwks`,
          response_types_supported: ['id_token'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['ES256'],
        };
      case 'openid/v1/jwks': {
        const key = this.publicKey.export({ format: 'jwk' });
        return { keys: [{ ...key, use: 'sig', alg: 'ES256', kid: this.keyId }] };
      }
      default:
        return null;
    }
  }

  /** Answers the TokenRequest with its status. */
  issue(account: ObjectMeta, namespace: string, name: string, request: Any): Any {
    const spec = (request['spec'] ?? {}) as {
      audiences?: string[];
      expirationSeconds?: number;
      boundObjectRef?: BoundObject;
    };
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
      jti: randomUUID(),
      'kubernetes.io': {
        namespace,
        serviceaccount: { name, uid: account.uid! },
        ...(spec.boundObjectRef ? this.bound(spec.boundObjectRef, namespace, name) : {}),
      },
    };
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace, creationTimestamp: rfc3339(this.verbs.now()) },
      spec: { ...spec, audiences, expirationSeconds },
      status: { token: this.seal(claims), expirationTimestamp: rfc3339(claims.exp * 1000) },
    };
  }

  /** For a pod's own process; null when the pod or its account wants none, or the account is gone. */
  ofPod({ metadata, spec }: Pod, seconds: number): string | null {
    const { name = '', namespace = 'default', uid } = metadata;
    const account = spec.serviceAccountName ?? 'default';
    const found = this.verbs.storage.collection('serviceaccounts').items.get(`${namespace}/${account}`);
    const mounts = (spec as Automount).automountServiceAccountToken;
    if (found === undefined || !(mounts ?? (found.object as Automount).automountServiceAccountToken ?? true))
      return null;
    const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name, ...(uid === undefined ? {} : { uid }) };
    try {
      const request = { metadata: {}, spec: { expirationSeconds: seconds, boundObjectRef } };
      const { status } = this.issue(found.object.metadata, namespace, account, request);
      return (status as { token: string }).token;
    } catch (error) {
      // The pod has gone meanwhile.
      if (error instanceof errors.ApiError) return null;
      throw error;
    }
  }

  /**
   * The bearer of a token that is good for one of `audiences`, this API's own without any, and for which of them it is.
   */
  userOf(token: string, audiences: readonly string[] = []): { user: User; audiences: string[] } | null {
    const claims = this.open(token);
    if (claims === null || claims.exp * 1000 <= this.verbs.now()) return null;
    const good = (audiences.length > 0 ? audiences : [ISSUER]).filter((each) => claims.aud.includes(each));
    if (good.length === 0) return null;
    const { namespace, serviceaccount, ...bound } = claims['kubernetes.io'];
    const is = (collection: string, where: string, { name, uid }: Reference) =>
      this.verbs.storage.collection(collection).items.get(`${where}/${name}`)?.object.metadata.uid === uid;
    if (!is('serviceaccounts', namespace, serviceaccount)) return null;
    if (bound.pod && !is('pods', namespace, bound.pod)) return null;
    if (bound.secret && !is('secrets', namespace, bound.secret)) return null;
    const user = {
      name: claims.sub,
      uid: serviceaccount.uid,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`],
      extra: {
        'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`],
        ...(bound.pod
          ? {
              'authentication.kubernetes.io/pod-name': [bound.pod.name],
              'authentication.kubernetes.io/pod-uid': [bound.pod.uid],
            }
          : {}),
        ...(bound.node
          ? {
              'authentication.kubernetes.io/node-name': [bound.node.name],
              'authentication.kubernetes.io/node-uid': [bound.node.uid],
            }
          : {}),
      },
    };
    return { user, audiences: good };
  }

  /** The claim that binds a token to an object: it is good as long as the object is there. */
  private bound(ref: BoundObject, namespace: string, account: string) {
    const { kind = '', name = '', uid } = ref;
    const collection = { Pod: 'pods', Secret: 'secrets', Node: 'nodes' }[kind];
    if (collection === undefined || (ref.apiVersion ?? 'v1') !== 'v1')
      throw errors.badRequest(
        `cannot bind token for serviceaccount to object of type ${ref.apiVersion}, Kind=${kind}`,
      );
    const where = kind === 'Node' ? '' : namespace;
    const found = this.verbs.storage.collection(collection).items.get(`${where}/${name}`)?.object;
    const named = { group: '', plural: collection, kind };
    if (found === undefined) throw errors.notFound(named, name);
    const known = found.metadata.uid!;
    if (uid !== undefined && uid !== known)
      throw errors.conflict(
        named,
        name,
        `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`,
      );
    const claim = { [kind.toLowerCase()]: { name, uid: known } };
    if (kind !== 'Pod') return claim;
    const spec = (found as Any)['spec'] as { serviceAccountName?: string; nodeName?: string };
    if (spec.serviceAccountName !== account)
      throw errors.badRequest(
        `cannot bind token for serviceaccount "${account}" to pod running with different serviceaccount name.`,
      );
    const node = this.verbs.storage.collection('nodes').items.get(`/${spec.nodeName}`)?.object.metadata;
    return { ...claim, ...(node ? { node: { name: node.name!, uid: node.uid! } } : {}) };
  }

  private seal(claims: Claims): string {
    const text = [{ alg: 'ES256', kid: this.keyId, typ: 'JWT' }, claims]
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
