// Certificates of a lab's own authorities, made with @peculiar/x509, which is loaded only when something is to be made.
// ECDSA P-256 throughout. A certificate names its holder as Kubernetes reads it: the common name is the user, the
// organisations are the groups.
import { randomBytes } from 'node:crypto';

/** PEM. */
export type KeyAndCert = { key: string; cert: string };

const VALID_MS = 10 * 365 * 24 * 3600_000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

type Keys = Awaited<ReturnType<SubtleCrypto['generateKey']>> & {
  publicKey: CryptoKey;
  privateKey: CryptoKey;
};

/** @peculiar/x509 is loaded only when something is to be made. */
async function loadX509() {
  provideMetadata();
  const x509 = await import('@peculiar/x509');
  x509.cryptoProvider.set(globalThis.crypto as Crypto);
  return x509;
}

/**
 * The dependency container of @peculiar/x509 (tsyringe) refuses to load without the metadata part of Reflect.
 * It keeps design types of classes there; this is as much of it as that takes.
 */
function provideMetadata(): void {
  const reflect = Reflect as typeof Reflect & Record<string, unknown>;
  if (reflect['getMetadata']) return;
  const kept = new WeakMap<object, Map<unknown, unknown>>();
  const own = (key: unknown, target: object) => kept.get(target)?.get(key);
  reflect['defineMetadata'] = (key: unknown, value: unknown, target: object) => {
    const map = kept.get(target) ?? new Map<unknown, unknown>();
    kept.set(target, map);
    map.set(key, value);
  };
  reflect['getOwnMetadata'] = own;
  reflect['getMetadata'] = (key: unknown, target: object) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at) as object | null) {
      const value = own(key, at);
      if (value !== undefined) return value;
    }
    return undefined;
  };
}

const pem = (label: string, bytes: ArrayBuffer): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(bytes)
    .toString('base64')
    .replace(/(.{64})(?!$)/g, '$1\n')}\n-----END ${label}-----\n`;

async function newKey(): Promise<{ pair: Keys; key: string }> {
  const pair = await globalThis.crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  return {
    pair,
    key: pem('PRIVATE KEY', await globalThis.crypto.subtle.exportKey('pkcs8', pair.privateKey)),
  };
}

/** Positive and at most 20 octets, as RFC 5280 4.1.2.2 asks. */
const serial = (): string => `4${randomBytes(15).toString('hex').slice(1)}`;

const validity = (now: number) => ({
  // A clock that was set back a little must not refuse what was made a moment ago.
  notBefore: new Date(now - 3600_000),
  notAfter: new Date(now + VALID_MS),
});

/** An authority of its own, which signs itself. */
export async function makeAuthority(commonName: string, now: number): Promise<KeyAndCert> {
  const x509 = await loadX509();
  const { pair, key } = await newKey();
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [commonName] }],
    ...validity(now),
    signingAlgorithm: ALGORITHM,
    keys: pair,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
    ],
  });
  return { key, cert: `${cert.toString('pem')}\n` };
}

export type Holder = {
  user: string;
  groups?: readonly string[];
  /** Names and addresses of a server; absent: a client alone. */
  names?: readonly string[];
  /** A server that also calls others of its kind with the same certificate, as etcd does. */
  callsToo?: boolean;
};

export async function signCertificate(ca: KeyAndCert, now: number, holder: Holder): Promise<KeyAndCert> {
  const { user, groups = [], names, callsToo = false } = holder;
  const x509 = await loadX509();
  const { pair, key } = await newKey();
  const caCert = new x509.X509Certificate(ca.cert);
  const signingKey = await globalThis.crypto.subtle.importKey(
    'pkcs8',
    Buffer.from(ca.key.replace(/-----[^-]+-----|\s/g, ''), 'base64'),
    ALGORITHM,
    false,
    ['sign'],
  );
  const { clientAuth, serverAuth } = x509.ExtendedKeyUsage;
  const usages = names === undefined ? [clientAuth] : callsToo ? [serverAuth, clientAuth] : [serverAuth];
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [{ CN: [user] }, ...groups.map((group) => ({ O: [group] }))],
    issuer: caCert.subjectName,
    ...validity(now),
    signingAlgorithm: ALGORITHM,
    publicKey: pair.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.AuthorityKeyIdentifierExtension.create(caCert),
      ...(names === undefined ? [] : [new x509.SubjectAlternativeNameExtension(names.map(alternativeName))]),
    ],
  });
  return { key, cert: `${cert.toString('pem')}\n` };
}

const alternativeName = (name: string): { type: 'ip' | 'dns'; value: string } =>
  /^[0-9.]+$|:/.test(name) ? { type: 'ip', value: name } : { type: 'dns', value: name };
