// The instance metadata service, version 2: who this instance is, its role's credentials, hints about its ENIs.
// Owns the session token (kept until shortly before its end, asked for anew after a 401). Metadata may be stale:
// nothing is ever removed on its word. Fails by throwing ImdsError; a missing path (404) is null.
import { type Clock, systemClock } from '../base/clock.ts';
import { type Cidr, type Ip, parseCidr, parseIpv4, parseIpv6 } from '../base/ip.ts';
import { type Mac, parseMac } from '../base/mac.ts';
import { exchange, HttpFailure } from './http.ts';
import type { EniId } from './port.ts';

const TOKEN_SECONDS = 21_600;
/** The token is renewed this long (ms) before EC2 forgets it. */
const TOKEN_MARGIN = 60_000;
const TIMEOUT = 2_000;
/** Of IPv4, then of IPv6. */
const ENDPOINTS = ['http://169.254.169.254', 'http://[fd00:ec2::254]'];
const TRIES = 4;

export class ImdsError extends Error {
  override name = 'ImdsError';
}

export type RoleCredentials = {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  expiration?: Date;
};

/** Who this instance is; nothing of it changes while the instance lives. */
export type NodeIdentity = {
  instanceId: string;
  instanceType: string;
  region: string;
  /** The partition's, such as amazonaws.com. Absent in what older versions kept. */
  domain?: string;
  zone: string;
  vpcId: string;
  /** `ip`: in an IPv6-only subnet an IPv6 address. */
  primary: { eniId: EniId; mac: Mac; subnetId: string; ip: Ip };
};

export interface Imds {
  /** The text at a path below /latest, or null when there is none. */
  get(path: string, signal?: AbortSignal): Promise<string | null>;
  identity(signal?: AbortSignal): Promise<NodeIdentity>;
  /** Of both families. */
  vpcCidrs(mac: Mac, signal?: AbortSignal): Promise<Cidr[]>;
  roleCredentials(signal?: AbortSignal): Promise<RoleCredentials>;
}

/** `endpoint`: of several each is tried in turn until one answers, which is asked from then on. */
export function createImds(options: { endpoint?: string | readonly string[]; clock?: Clock } = {}): Imds {
  const endpoints = [options.endpoint ?? ENDPOINTS].flat().map((text) => new URL(text));
  /** The endpoint that has answered. An instance of an IPv6-only subnet reaches the second one alone. */
  let answering: URL | undefined;
  const clock = options.clock ?? systemClock;
  let token: { text: string; until: number; of: URL } | undefined;

  const nameOf = (): string => (answering ?? endpoints[0]!).origin;

  async function once(path: string, base: URL, signal: AbortSignal | undefined) {
    if (token?.of !== base || token.until <= clock.now()) {
      const answer = await exchange({
        method: 'PUT',
        url: new URL('/latest/api/token', base),
        headers: { 'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS) },
        timeoutMs: TIMEOUT,
        signal,
      });
      answering ??= base;
      if (answer.status !== 200)
        throw new ImdsError(`${base.origin} gave no token (status ${answer.status})`);
      const until = clock.now() + TOKEN_SECONDS * 1000 - TOKEN_MARGIN;
      token = { text: answer.body, until, of: base };
    }
    return exchange({
      method: 'GET',
      url: new URL(`/latest/${path}`, base),
      headers: { 'x-aws-ec2-metadata-token': token.text },
      timeoutMs: TIMEOUT,
      signal,
    });
  }

  async function get(path: string, signal?: AbortSignal): Promise<string | null> {
    let last: unknown;
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if (attempt > 0) await clock.sleep(50 * 2 ** attempt * (0.5 + Math.random()), signal);
      const base = answering ?? endpoints[attempt % endpoints.length]!;
      try {
        const answer = await once(path, base, signal);
        if (answer.status === 200) return answer.body;
        if (answer.status === 404) return null;
        if (answer.status === 401) token = undefined;
        last = new ImdsError(`${base.origin} answered ${path} with status ${answer.status}`);
      } catch (error) {
        if (!(error instanceof HttpFailure) && !(error instanceof ImdsError)) throw error;
        last = error;
      }
    }
    throw last instanceof ImdsError
      ? last
      : new ImdsError(`${nameOf()} does not answer ${path}`, { cause: last });
  }

  async function required(path: string, signal?: AbortSignal): Promise<string> {
    const text = await get(path, signal);
    if (text === null) throw new ImdsError(`${nameOf()} has no ${path}`);
    return text.trim();
  }

  return {
    get,
    async identity(signal) {
      const [documentText, macText, domain] = await Promise.all([
        required('dynamic/instance-identity/document', signal),
        required('meta-data/mac', signal),
        get('meta-data/services/domain', signal),
      ]);
      const document = JSON.parse(documentText) as Record<string, string>;
      const mac = parseMac(macText);
      const ofMac = (name: string) => required(`meta-data/network/interfaces/macs/${mac}/${name}`, signal);
      const [eniId, subnetId, vpcId, ip4] = await Promise.all([
        ofMac('interface-id'),
        ofMac('subnet-id'),
        ofMac('vpc-id'),
        get('meta-data/local-ipv4', signal),
      ]);
      // An IPv6-only subnet gives no IPv4 address.
      const ip = ip4?.trim() ? parseIpv4(ip4.trim()) : parseIpv6((await ofMac('ipv6s')).split(/\s+/)[0]!);
      const field = (name: string) => {
        const value = document[name];
        if (typeof value !== 'string') throw new ImdsError(`the identity document has no ${name}`);
        return value;
      };
      return {
        instanceId: field('instanceId'),
        instanceType: field('instanceType'),
        region: field('region'),
        ...(domain?.trim() ? { domain: domain.trim() } : {}),
        zone: field('availabilityZone'),
        vpcId,
        primary: { eniId: eniId as EniId, mac, subnetId, ip },
      };
    },
    async vpcCidrs(mac, signal) {
      const path = `meta-data/network/interfaces/macs/${mac}`;
      const texts = await Promise.all([
        get(`${path}/vpc-ipv4-cidr-blocks`, signal),
        get(`${path}/vpc-ipv6-cidr-blocks`, signal),
      ]);
      const cidrs = texts.flatMap((text) => text?.split(/\s+/).filter(Boolean) ?? []);
      if (cidrs.length === 0) throw new ImdsError(`${nameOf()} has no ${path}/vpc-ipv4-cidr-blocks`);
      return cidrs.map((cidr) => parseCidr(cidr));
    },
    async roleCredentials(signal) {
      const role = (await required('meta-data/iam/security-credentials/', signal)).split('\n')[0]!;
      const found = JSON.parse(
        await required(`meta-data/iam/security-credentials/${role}`, signal),
      ) as Record<string, string>;
      if (!found['AccessKeyId'] || !found['SecretAccessKey']) {
        throw new ImdsError(`role ${role} has no credentials (${found['Code'] ?? 'no code'})`);
      }
      return {
        accessKeyId: found['AccessKeyId'],
        secretAccessKey: found['SecretAccessKey'],
        ...(found['Token'] ? { sessionToken: found['Token'] } : {}),
        ...(found['Expiration'] ? { expiration: new Date(found['Expiration']) } : {}),
      };
    },
  };
}
