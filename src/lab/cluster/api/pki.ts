// The API's own CA, its server certificate, and who may call: bearer tokens and client certificates.
// Kept in one file, 0600, written aside and renamed. Made once: a lab that starts again serves the same CA, so the
// kubeconfigs that were handed out stay good. Fails by throwing on a file that does not parse.
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import { writeFileAtomic } from '../../../base/files.ts';
import { type KeyAndCert, makeAuthority, signCertificate } from '../../certificates.ts';

export type User = {
  readonly name: string;
  readonly groups: readonly string[];
  readonly uid?: string;
  readonly extra?: Readonly<Record<string, readonly string[]>>;
};

type PkiFile = {
  ca: { key: string; cert: string };
  server: { key: string; cert: string; names: string[] };
  tokens: Record<string, { user: string; groups: string[] }>;
};

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
    const ca = known?.ca ?? (await makeAuthority('podway-lab-kubernetes-ca', now));
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
    return signCertificate(this.file.ca, now, { user, groups });
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
    writeFileAtomic(this.path, JSON.stringify(this.file, null, 1));
  }
}

async function makeServer(ca: KeyAndCert, names: readonly string[], now: number): Promise<PkiFile['server']> {
  return { ...(await signCertificate(ca, now, { user: 'kube-apiserver', names })), names: [...names] };
}

const digest = (token: string): string => createHash('sha256').update(token).digest('base64');
