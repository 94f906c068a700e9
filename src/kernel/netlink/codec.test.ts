// Properties of the codec: what one side writes the other reads, every message keeps its alignment and lengths, and
// bytes that are no message are refused and never read past their end.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { cidrOf, type Ip, type Ipv4, type Ipv6 } from '../../base/ip.ts';
import { macFromBytes } from '../../base/mac.ts';
import { encodeRtOp, type RtOp } from '../rtnetlink.ts';
import { decodeAddress } from './address.ts';
import {
  Attributes,
  beginNest,
  eachAttribute,
  endNest,
  MalformedMessage,
  putBytes,
  putText,
  putU32,
} from './attribute.ts';
import { ByteWriter } from './bytes.ts';
import { decodeLink } from './link.ts';
import { eachMessage, type Message, readAcknowledgement } from './message.ts';
import { decodeFdb, decodeNeighbour } from './neighbour.ts';
import { decodeRoute } from './route.ts';
import { decodeRule } from './rule.ts';
import { concatKey, decodeElements, encodeElementOp, type NftElementOp } from './set-element.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const index = fc.integer({ min: 1, max: 0x7fffffff });
const ipv4 = u32.map((value) => value as Ipv4);
const ipv6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => value as Ipv6);
const ip: fc.Arbitrary<Ip> = fc.oneof(ipv4, ipv6);
const cidr = fc.oneof(
  fc.tuple(ipv4, fc.integer({ min: 0, max: 32 })).map(([it, length]) => cidrOf(it, length)),
  fc.tuple(ipv6, fc.integer({ min: 0, max: 128 })).map(([it, length]) => cidrOf(it, length)),
);
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes);
const linkName = fc.stringMatching(/^[a-z0-9._-]{1,15}$/);
const table = fc.oneof(
  fc.integer({ min: 1, max: 255 }),
  u32.filter((it) => it > 255),
);

function messagesOf(encode: (w: ByteWriter) => unknown): Message[] {
  const w = new ByteWriter(16);
  encode(w);
  assert.equal(w.length % 4, 0);
  const found: Message[] = [];
  eachMessage(w.copy(), w.length, (message) => found.push(message));
  return found;
}

const only = (op: RtOp): Message => {
  const messages = messagesOf((w) => encodeRtOp(w, op));
  assert.equal(messages.length, 1);
  return messages[0]!;
};

/** The same family for every address of one value. */
const family = <T>(
  make: (address: fc.Arbitrary<Ip>, prefix: fc.Arbitrary<ReturnType<typeof cidrOf>>) => fc.Arbitrary<T>,
) =>
  fc.oneof(
    make(
      ipv4,
      cidr.filter((it) => typeof it.ip === 'number'),
    ),
    make(
      ipv6,
      cidr.filter((it) => typeof it.ip === 'bigint'),
    ),
  );

describe('encode, then decode', () => {
  test('route', () => {
    const routes = family((address, prefix) =>
      fc.record({
        dst: prefix,
        table,
        gateway: address,
        oif: index,
        src: address,
        metric: u32,
        mtu: u32,
        advmss: u32,
        onlink: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(routes, (values) => {
        const route = decodeRoute(only({ op: 'route-add', ...values }));
        assert.deepEqual(route, { ...values, type: 'unicast', scope: 'universe', protocol: 0x50 });
      }),
    );
  });

  test('rule', () => {
    const rules = family((_, prefix) =>
      fc.record({
        from: prefix.filter((it) => it.length > 0),
        to: prefix.filter((it) => it.length > 0),
        priority: u32,
        iifname: linkName,
        oifname: linkName,
        fwmark: u32,
        fwmask: u32,
        invert: fc.boolean(),
        table,
        suppressPrefixLength: fc.integer({ min: 0, max: 128 }),
      }),
    );
    fc.assert(
      fc.property(rules, (values) => {
        const of = typeof values.from.ip === 'number' ? 4 : 6;
        const rule = decodeRule(only({ op: 'rule-add', family: of, ...values }));
        assert.deepEqual(rule, { family: of, ...values, protocol: 0x50, action: 'lookup', goto: null });
      }),
    );
  });

  test('address', () => {
    fc.assert(
      fc.property(
        ip,
        fc.integer({ min: 0, max: 32 }),
        index,
        fc.boolean(),
        (address, length, link, noPrefixRoute) => {
          const decoded = decodeAddress(
            only({ op: 'addr-add', ip: address, length, index: link, noPrefixRoute }),
          );
          assert.deepEqual(decoded, {
            ip: address,
            length,
            index: link,
            noPrefixRoute,
            scope: 0,
            secondary: false,
          });
        },
      ),
    );
  });

  test('neighbour and forwarding entry', () => {
    fc.assert(
      fc.property(ip, mac, index, fc.boolean(), (address, hardware, link, extLearn) => {
        const neighbour = decodeNeighbour(
          only({ op: 'neigh-replace', ip: address, mac: hardware, index: link, extLearn }),
        );
        const wanted = {
          ip: address,
          mac: hardware,
          index: link,
          extLearn,
          state: 'permanent',
          proxy: false,
        };
        assert.deepEqual(neighbour, wanted);
        const entry = decodeFdb(only({ op: 'fdb-replace', mac: hardware, index: link }));
        assert.deepEqual(entry, {
          mac: hardware,
          index: link,
          masterIndex: 0,
          state: 'reachable',
          extLearn: false,
        });
      }),
    );
  });

  test('link', () => {
    fc.assert(
      fc.property(linkName, mac, u32, u32, (name, hardware, mtu, group) => {
        const link = decodeLink(
          only({ op: 'veth-add', name, mac: hardware, mtu, group, peer: { name: 'peer', mac: hardware } }),
        );
        assert.deepEqual(
          [link.name, link.mac, link.mtu, link.group, link.kind],
          [name, hardware, mtu, group, 'veth'],
        );
        assert.equal(link.up, false);
      }),
    );
  });

  test('element', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 40 });
    const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,30}$/);
    const verdict = fc.oneof(
      fc.record({ kind: fc.constantFrom('jump' as const, 'goto' as const), chain: name }),
      fc.record({ kind: fc.constantFrom('accept' as const, 'drop' as const, 'return' as const) }),
    );
    const element = fc.oneof(
      fc.record({ key: bytes, keyEnd: bytes }),
      fc.record({ key: bytes, verdict }),
      fc.record({ key: bytes, data: bytes }),
      fc.record({ key: bytes, intervalEnd: fc.constant(true) }),
    ) as fc.Arbitrary<Pick<NftElementOp, 'key' | 'keyEnd' | 'data' | 'verdict' | 'intervalEnd'>>;
    fc.assert(
      fc.property(name, name, element, (tableName, set, drawn) => {
        const values = structuredClone(drawn); // plain objects: fast-check's have no prototype
        const [message] = messagesOf((w) =>
          encodeElementOp(w, { op: 'add', family: 'inet', table: tableName, set, ...values }),
        );
        assert.deepEqual(decodeElements(message!), [
          { keyEnd: null, data: null, verdict: null, intervalEnd: false, ...values },
        ]);
      }),
    );
  });

  test('a concatenated key pads each field to four bytes', () => {
    assert.deepEqual(
      [...concatKey(Uint8Array.of(1), Uint8Array.of(2, 3, 4, 5, 6))],
      [1, 0, 0, 0, 2, 3, 4, 5, 6, 0, 0, 0],
    );
  });
});

describe('attributes', () => {
  test('nested and grown writers keep every value', () => {
    const values = fc.array(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 70 })), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(values, fc.string({ maxLength: 30 }), (pairs, text) => {
        const w = new ByteWriter(1);
        const nest = beginNest(w, 7);
        for (const [type, value] of pairs) putBytes(w, type, value);
        endNest(w, nest);
        putText(w, 8, text.replaceAll('\0', ''));
        putU32(w, 9, 0xdeadbeef);
        const outer = new Attributes(w.copy(), 0, w.length);
        const seen: [number, Uint8Array][] = [];
        const payload = outer.payload(7)!;
        eachAttribute(payload, 0, payload.length, (type, at, length) =>
          seen.push([type, payload.slice(at, at + length)]),
        );
        assert.deepEqual(seen, pairs);
        assert.equal(outer.text(8), text.replaceAll('\0', ''));
        assert.equal(outer.u32(9), 0xdeadbeef);
      }),
    );
  });

  test('a payload that is too long for its length field is refused', () => {
    assert.throws(() => putBytes(new ByteWriter(), 1, new Uint8Array(65532)), RangeError);
  });
});

describe('bytes from outside', () => {
  test('random bytes give values or MalformedMessage, never another error', () => {
    const decoders = [
      decodeLink,
      decodeRoute,
      decodeRule,
      decodeAddress,
      decodeNeighbour,
      decodeFdb,
      decodeElements,
      readAcknowledgement,
    ];
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 120 }),
        fc.nat(decoders.length - 1),
        (bytes, which) => {
          const view = new DataView(bytes.buffer);
          view.setUint32(0, bytes.length, true); // a message that claims what it has; its attributes are random
          try {
            eachMessage(bytes, bytes.length, (message) => {
              if (message.end - message.start >= 20) decoders[which]!(message);
            });
          } catch (error) {
            if (!(error instanceof MalformedMessage) && (error as Error).name !== 'AddressError') throw error;
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('an acknowledgement gives errno, sentence and offset, with and without the request in it', () => {
    for (const capped of [true, false]) {
      const w = new ByteWriter();
      w.u32(0); // length, below
      w.u16(2);
      w.u16(0x200 | (capped ? 0x100 : 0));
      w.u32(1);
      w.u32(0);
      w.u32(-17 >>> 0);
      w.u32(capped ? 16 : 24); // the request's header
      w.raw(new Uint8Array(capped ? 12 : 20));
      putText(w, 1, 'kernel says no');
      putU32(w, 2, 40);
      w.view.setUint32(0, w.length, true);
      eachMessage(w.copy(), w.length, (message) => {
        assert.deepEqual(readAcknowledgement(message), {
          errno: 17,
          kernelText: 'kernel says no',
          offset: 40,
        });
      });
    }
  });
});
