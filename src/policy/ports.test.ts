import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseCidr, parseIp } from '../base/ip.ts';
import { type Port, SCTP, TCP, UDP, type Verdict } from './model.ts';
import { rulingOf } from './ports.ts';
import { rangesOfBlock, segmentsOf } from './segments.ts';

const port: fc.Arbitrary<Port> = fc
  .tuple(fc.constantFrom(TCP, UDP), fc.nat(20), fc.nat(5))
  .map(([protocol, from, more]) => ({ protocol, from, to: from + more }) as Port);
const rule = fc.record({
  ports: fc.oneof(fc.constant(null), fc.array(port, { maxLength: 4 })),
  verdict: fc.constantFrom<Verdict>('allow', 'deny', 'pass'),
});

describe('ports', () => {
  it('a ruling says of each port what the first matching rule says', () => {
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 6 }), (rules) => {
        const { byProtocol, others } = rulingOf(rules);
        for (const protocol of [TCP, UDP, SCTP] as const) {
          for (let at = 0; at < 30; at++) {
            const first = rules.find(
              ({ ports }) =>
                ports === null ||
                ports.some(
                  (one) => one.protocol === protocol && 'from' in one && one.from <= at && at <= one.to,
                ),
            );
            const span = byProtocol[protocol].filter(({ from, to }) => from <= at && at <= to);
            assert.deepEqual(
              span.map(({ verdict }) => verdict),
              first ? [first.verdict] : [],
            );
          }
        }
        assert.equal(others, rules.find(({ ports }) => ports === null)?.verdict ?? null);
      }),
    );
  });

  it('ten thousand ports of many rules are one span where they touch', () => {
    const many = Array.from({ length: 100 }, (_, rule) => ({
      verdict: 'allow' as const,
      ports: Array.from(
        { length: 100 },
        (_, at): Port => ({ protocol: TCP, from: rule * 100 + at, to: rule * 100 + at }),
      ),
    }));
    assert.deepEqual(rulingOf(many).byProtocol[TCP], [{ from: 0, to: 9999, verdict: 'allow' }]);
  });
});

describe('segments', () => {
  const cidr = fc
    .tuple(fc.nat(63), fc.integer({ min: 26, max: 32 }))
    .map(([host, length]) => parseCidr(`10.0.0.${host}/${length}`, { mask: true }));
  const block = fc.record({ cidr, except: fc.array(cidr, { maxLength: 3 }) });

  it('each address lies in one segment at most, with the items whose blocks contain it', () => {
    fc.assert(
      fc.property(fc.array(fc.array(block, { maxLength: 3 }), { maxLength: 4 }), (items) => {
        const segments = segmentsOf(
          items.map((blocks, item) => ({ blocks, item })),
          4,
        );
        for (let host = 0; host < 64; host++) {
          const ip = parseIp(`10.0.0.${host}`);
          const covering = items.flatMap((blocks, item) =>
            blocks.some((one) => rangesOfBlock(one).some(({ from, to }) => from <= ip && ip <= to))
              ? [item]
              : [],
          );
          const found = segments.filter(({ from, to }) => from <= ip && ip <= to);
          assert.deepEqual(
            found.map(({ of }) => of),
            covering.length === 0 ? [] : [covering],
          );
        }
      }),
    );
  });

  it('the ends of both families are addresses as others', () => {
    for (const [text, last] of [
      ['0.0.0.0/0', '255.255.255.255'],
      ['::/0', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    ] as const) {
      const whole = parseCidr(text);
      assert.deepEqual(rangesOfBlock({ cidr: whole, except: [] }), [{ from: whole.ip, to: parseIp(last) }]);
      assert.deepEqual(rangesOfBlock({ cidr: whole, except: [whole] }), []);
    }
  });
});
