// The API's own CA, its server certificate, and who may call: bearer tokens and client certificates.
// Kept in one file, 0600, written aside and renamed. Made once: a lab that starts again serves the same CA, so the
// kubeconfigs that were handed out stay good. Fails by throwing on a file that does not parse.
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';

export type User = { readonly name: string; readonly groups: readonly string[] };

type PkiFile = {
  ca: { key: string; cert: string };
  server: { key: string; cert: string; names: string[] };
  tokens: Record<string, { user: string; groups: string[] }>;
};

const VALID_MS = 10 * 365 * 24 * 3600_000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export class Pki {
  private readonly path: string;
  private readonly file: PkiFile;
  private readonly users = new Map<string, User>();
  private readonly caCert: X509Certificate;

  private constructor(path: string, file: PkiFile) {
    this.path = path;
    this.file = file;
    this.caCert = new X509Certificate(file.ca.cert);
    for (const [token, { user, groups }] of Object.entries(file.tokens)) {
      this.users.set(digest(token), { name: user, groups });
    }
  }

  static async open(path: string, names: readonly string[], now: number): Promise<Pki> {
    const known = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as PkiFile) : null;
    const ca = known?.ca ?? (await makeCa(now));
    const fits =
      known !== null &&
      names.every((name) => known.server.names.includes(name)) &&
      new X509Certificate(known.server.cert).validToDate.getTime() > now + 24 * 3600_000;
    const server = fits ? known.server : await makeServer(ca, names, now);
    const pki = new Pki(path, { ca, server, tokens: known?.tokens ?? {} });
    if (!fits) pki.save();
    return pki;
  }

  get tls(): { key: string; cert: string; ca: string } {
    const { ca, server } = this.file;
    return { key: server.key, cert: server.cert, ca: ca.cert };
  }

  /** PEM; signs the tokens of service accounts. */
  get signingKey(): string {
    return this.file.ca.key;
  }

  /** The user's token; the same on every call with the same user and groups. */
  tokenOf(user: string, groups: readonly string[]): string {
    for (const [token, known] of Object.entries(this.file.tokens)) {
      if (known.user === user && known.groups.join('\n') === groups.join('\n')) return token;
    }
    const token = randomBytes(32).toString('base64url');
    this.file.tokens[token] = { user, groups: [...groups] };
    this.users.set(digest(token), { name: user, groups });
    this.save();
    return token;
  }

  /** A client certificate: the common name is the user, organisations are the groups, as in Kubernetes. */
  async clientCertificate(
    user: string,
    groups: readonly string[],
    now: number,
  ): Promise<{ key: string; cert: string }> {
    return sign(this.file.ca, now, [{ CN: [user] }, ...groups.map((group) => ({ O: [group] }))], null);
  }

  /** Looks tokens up by digest, so that the time of an answer says nothing about them. */
  userOfToken(token: string): User | null {
    return this.users.get(digest(token)) ?? null;
  }

  /** Null also for certificates of other CAs: TLS asks for one and takes any, this is the check. */
  userOfSocket(socket: TLSSocket): User | null {
    if (typeof socket.getPeerX509Certificate !== 'function') return null;
    const cert = socket.getPeerX509Certificate();
    if (cert === undefined || !cert.verify(this.caCert.publicKey)) return null;
    const now = Date.now();
    if (cert.validFromDate.getTime() > now || cert.validToDate.getTime() < now) return null;
    const name = /^CN=(.+)$/m.exec(cert.subject)?.[1];
    if (name === undefined) return null;
    return { name, groups: [...cert.subject.matchAll(/^O=(.+)$/gm)].map((match) => match[1]!) };
  }

  private save(): void {
    const aside = `${this.path}.${process.pid}.new`;
    writeFileSync(aside, JSON.stringify(this.file, null, 1), { mode: 0o600 });
    chmodSync(aside, 0o600);
    renameSync(aside, this.path);
  }
}

const digest = (token: string): string => createHash('sha256').update(token).digest('base64');

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

async function makeCa(now: number): Promise<PkiFile['ca']> {
  const x509 = await loadX509();
  const { pair, key } = await newKey();
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: ['podway-lab-kubernetes-ca'] }],
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

async function makeServer(
  ca: PkiFile['ca'],
  names: readonly string[],
  now: number,
): Promise<PkiFile['server']> {
  return { ...(await sign(ca, now, [{ CN: ['kube-apiserver'] }], names)), names: [...names] };
}

/** `names` makes a server certificate with those alternative names; null a client's. */
async function sign(
  ca: PkiFile['ca'],
  now: number,
  subject: Record<string, string[]>[],
  names: readonly string[] | null,
): Promise<{ key: string; cert: string }> {
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
  const usage = names === null ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth;
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject,
    issuer: caCert.subjectName,
    ...validity(now),
    signingAlgorithm: ALGORITHM,
    publicKey: pair.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      await x509.AuthorityKeyIdentifierExtension.create(caCert),
      ...(names === null ? [] : [new x509.SubjectAlternativeNameExtension(names.map(alternativeName))]),
    ],
  });
  return { key, cert: `${cert.toString('pem')}\n` };
}

const alternativeName = (name: string): { type: 'ip' | 'dns'; value: string } =>
  /^[0-9.]+$|:/.test(name) ? { type: 'ip', value: name } : { type: 'dns', value: name };
