import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  AddressError,
  addToIp,
  cidrContains,
  cidrCovers,
  cidrOf,
  cidrSize,
  formatCidr,
  formatIp,
  type Ip,
  type Ipv4,
  type Ipv6,
  ipFromBytes,
  ipToBytes,
  parseCidr,
  parseInterfaceAddress,
  parseIp,
} from './ip.ts';

const ipv4 = fc.integer({ min: 0, max: 0xffffffff }).map((n) => n as Ipv4);
const ipv6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => n as Ipv6);
const anyIp: fc.Arbitrary<Ip> = fc.oneof(ipv4, ipv6);

test('text and bytes round trip for both families', () => {
  fc.assert(
    fc.property(anyIp, (ip) => {
      assert.equal(parseIp(formatIp(ip)), ip);
      assert.equal(ipFromBytes(ipToBytes(ip)), ip);
    }),
  );
});

test('RFC 5952 text', () => {
  const cases = [
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::0', '2001:db8::'],
    ['::', '::'],
    ['::1', '::1'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ] as const;
  for (const [text, canonical] of cases) assert.equal(formatIp(parseIp(text)), canonical);
});

test('malformed text is a typed error that names it', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4.5',
    ':::',
    '1::2::3',
    'g::',
    '1:2:3:4:5:6:7',
    '12345::',
  ]) {
    assert.throws(
      () => parseIp(text),
      (error) => error instanceof AddressError && error.message.includes(`"${text}"`),
      text,
    );
  }
  for (const text of ['10.0.0.1/24', '10.0.0.0', '10.0.0.0/33', '10.0.0.0/x', '10.0.0.0/08', '::/129']) {
    assert.throws(() => parseCidr(text), AddressError, text);
  }
});

test('a prefix holds exactly its range', () => {
  fc.assert(
    fc.property(anyIp, fc.integer({ min: 1, max: 32 }), (ip, length) => {
      const cidr = cidrOf(ip, length);
      assert.ok(cidrContains(cidr, ip) && cidrContains(cidr, cidr.ip));
      assert.ok(cidrCovers(cidr, cidrOf(ip, length + (length < 32 ? 1 : 0))));
      assert.deepEqual(parseCidr(formatCidr(cidr)), cidr);
    }),
  );
  const subnet = parseCidr('10.0.32.0/19');
  assert.equal(cidrSize(subnet), 8192);
  assert.equal(cidrContains(subnet, parseIp('10.0.63.255')), true);
  assert.equal(cidrContains(subnet, parseIp('10.0.64.0')), false);
  assert.equal(cidrContains(subnet, parseIp('::a00:2000')), false);
  assert.equal(formatIp(addToIp(subnet.ip, 1)), '10.0.32.1');
  assert.deepEqual(parseInterfaceAddress('10.0.32.7/19'), { ip: parseIp('10.0.32.7'), length: 19 });
});
