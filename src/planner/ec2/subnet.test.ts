import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cidrContains, hostCidr, type Ipv4, parseCidr } from '../../base/ip.ts';
import { randomFrom } from '../random.ts';
import { Subnet } from './subnet.ts';

const subnet = (cidr: string, seed = 1) => new Subnet('subnet-1', parseCidr(cidr), randomFrom(seed));

test('a /28 has eleven addresses and no whole /28', () => {
  const small = subnet('10.0.0.0/28');
  assert.equal(small.free, 11);
  assert.equal(small.takeBlock(), null);
  const taken = Array.from({ length: 11 }, () => small.takeAny());
  assert.equal(new Set(taken).size, 11);
  assert.equal(small.takeAny(), null);
});

test('scattered addresses leave free addresses and no whole /28', () => {
  const one = subnet('10.0.0.0/24');
  for (let i = 0; i < 120; i++) one.takeAny();
  assert.equal(one.free, 131);
  assert.ok(one.wholeBlocks <= 1, `${one.wholeBlocks} whole /28s`);
});

test('an address is taken once, and what comes back can be had again', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2), { maxLength: 200 }), fc.nat(), (steps, seed) => {
      const one = subnet('10.0.0.0/25', seed);
      const ips: Ipv4[] = [];
      const blocks: { ip: Ipv4; length: number }[] = [];
      for (const step of steps) {
        if (step === 0) {
          const ip = one.takeAny();
          if (ip !== null) {
            assert.ok(!ips.includes(ip) && !blocks.some((block) => cidrContains(block, ip)));
            ips.push(ip);
          }
        } else if (step === 1) {
          const block = one.takeBlock() as { ip: Ipv4; length: number } | null;
          if (block) {
            assert.ok(!ips.some((ip) => cidrContains(block, ip)));
            blocks.push(block);
          }
        } else if (blocks.length > 0) one.release(blocks.pop()!);
        else if (ips.length > 0) one.release(hostCidr(ips.pop()!));
        assert.equal(one.free, 123 - ips.length - 16 * blocks.length);
      }
    }),
  );
});
