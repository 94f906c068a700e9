// The webhooks' certificate: made and signed by itself, ECDSA P-256, so that whoever trusts it trusts nothing else. DER by hand,
// since Node makes keys and signatures and no certificates. Source: RFC 5280, RFC 5480. Pure but for randomness and keys.
import { createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { parseIpv4, parseIpv6 } from '../../base/ip.ts';

/** PEM. */
export type KeyAndCertificate = { key: string; cert: string };

const DAY_MS = 86_400_000;
const VALID_MS = 365 * DAY_MS;
/** A new one is made when so much is left: every replica and the API have it long before (ms). */
const RENEW_MS = 90 * DAY_MS;

const der = (tag: number, ...parts: Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  const { length } = body;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Uint8Array.of(tag, ...size), body]);
};
const sequence = (...parts: Uint8Array[]): Buffer => der(0x30, ...parts);
const octets = (content: Uint8Array): Buffer => der(0x04, content);
const bits = (content: Uint8Array, unused = 0): Buffer => der(0x03, Uint8Array.of(unused), content);
const explicit = (number: number, content: Uint8Array): Buffer => der(0xa0 + number, content);
const TRUE = der(0x01, Uint8Array.of(0xff));

/** From dotted text. */
function oid(text: string): Buffer {
  const [first, second, ...rest] = text.split('.').map(Number) as [number, number, ...number[]];
  const bytes = [first * 40 + second];
  for (const number of rest) {
    const groups = [number & 0x7f];
    for (let left = number >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Uint8Array.from(bytes));
}

/** UTCTime, of which years end in 2049. */
const time = (ms: number): Buffer =>
  der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));
const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
  sequence(oid(id), ...(critical ? [TRUE] : []), octets(value));

function addressBytes(text: string): Uint8Array {
  if (isIP(text) === 4) {
    const ip = parseIpv4(text);
    return Uint8Array.of(ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255);
  }
  return Buffer.from(parseIpv6(text).toString(16).padStart(32, '0'), 'hex');
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** `names` are DNS names and addresses; the first is the common name. */
export function makeCertificate(names: readonly string[], now: number): KeyAndCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(names[0]!.slice(0, 64))))));
  const alternatives = names.map((one) =>
    isIP(one) ? der(0x87, addressBytes(one)) : der(0x82, Buffer.from(one)),
  );
  const serial = randomBytes(16);
  // Positive, and without a leading zero byte.
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const body = sequence(
    explicit(0, der(0x02, Uint8Array.of(2))),
    der(0x02, serial),
    ECDSA_SHA256,
    name,
    // A clock that was set back a little must not refuse what was made a moment ago.
    sequence(time(now - 3_600_000), time(now + VALID_MS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    explicit(
      3,
      sequence(
        // It is its own authority: basic constraints, key usage (signature, signing of certificates), server.
        extension('2.5.29.19', true, sequence(TRUE)),
        extension('2.5.29.15', true, bits(Uint8Array.of(0x84), 2)),
        extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))),
        extension('2.5.29.17', false, sequence(...alternatives)),
      ),
    ),
  );
  const signature = sign('sha256', body, privateKey);
  const whole = sequence(body, ECDSA_SHA256, bits(signature));
  const text = whole.toString('base64').replace(/(.{64})(?!$)/g, '$1\n');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`,
  };
}

/** False for one that is damaged, of other names, or that ends soon. */
export function serves({ key, cert }: KeyAndCertificate, names: readonly string[], now: number): boolean {
  try {
    const read = new X509Certificate(cert);
    if (!read.checkPrivateKey(createPrivateKey(key))) return false;
    if (Date.parse(read.validTo) - now < RENEW_MS || Date.parse(read.validFrom) > now) return false;
    return names.every((name) => (isIP(name) ? read.checkIP(name) : read.checkHost(name)) !== undefined);
  } catch {
    return false;
  }
}
