// A security group's ingress rules as nft has them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { type GateRule, renderGates } from './branch-gate.ts';

const rule = (protocol: number | null, ports: [number, number] | null, ...sources: string[]): GateRule => ({
  protocol,
  ports,
  sources: sources.map((cidr) => parseCidr(cidr)),
});
const render = (gate: GateRule[] | undefined): string =>
  renderGates([{ vlan: 7, ips: [parseIp('10.0.9.33'), parseIp('2600::7')], gate }], ['12']).join('\n');
const chainOf = (gate: GateRule[]): string[] =>
  /chain gate_7 \{\n([^}]*(?:\{[^}]*\}[^}]*)*)\n {2}\}/
    .exec(render(gate))![1]!
    .split('\n')
    .map((line) => line.trim());

test('rules that are not known have no chain: what arrives is dropped', () => {
  assert.doesNotMatch(render(undefined), /gate_7/);
  assert.match(
    render([]),
    /map gates4 \{ type ipv4_addr : verdict; elements = \{ 10\.0\.9\.33 : goto gate_7 \}; \}/,
  );
  assert.match(render([]), /map gates6 .*2600::7 : goto gate_7/);
  assert.deepEqual(chainOf([]), ['drop']);
});

test('protocol, ports, types and sources of each family; nothing else passes', () => {
  assert.deepEqual(
    chainOf([
      rule(null, null, '0.0.0.0/0'),
      rule(null, null, '::/0'),
      rule(6, [80, 80], '10.0.0.0/8', '10.1.0.0/16', '2600::/64'),
      rule(17, [53, 60], '10.0.0.1/32'),
      rule(17, [53, 60], '10.0.0.1/32'),
      rule(1, [8, 8], '0.0.0.0/0'),
      rule(58, [128, 128], '::/0'),
      { ...rule(1, [3, 3], '0.0.0.0/0'), code: 4 },
      rule(1, null, '10.0.0.0/8'),
      rule(50, null, '10.0.0.0/8'),
      rule(6, null),
    ]),
    [
      'meta nfproto ipv4 accept',
      'meta nfproto ipv6 accept',
      'ip saddr { 10.0.0.0/8 } meta l4proto 6 th dport 80 accept',
      'ip6 saddr { 2600::/64 } meta l4proto 6 th dport 80 accept',
      'ip saddr { 10.0.0.1/32 } meta l4proto 17 th dport 53-60 accept',
      'meta nfproto ipv4 icmp type 8 accept',
      'meta nfproto ipv6 icmpv6 type 128 accept',
      'meta nfproto ipv4 icmp type 3 icmp code 4 accept',
      'ip saddr { 10.0.0.0/8 } meta l4proto 1 accept',
      'ip saddr { 10.0.0.0/8 } meta l4proto 50 accept',
      'drop',
    ],
  );
});
