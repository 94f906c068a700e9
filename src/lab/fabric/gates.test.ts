import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SecurityGroup, SecurityGroupRule } from '../vpc/model.ts';
import { chainName, gateChain, referencedGroups } from './gates.ts';
import { allow } from './testing.ts';

const group = (id: string, rules: SecurityGroupRule[]): Record<string, SecurityGroup> => ({
  [id]: { id, vpcId: 'vpc-1', name: id, description: '', rules, tags: {} },
});
const rulesOf = (direction: 'egress' | 'ingress', ...rules: SecurityGroupRule[]) =>
  gateChain(direction, ['sg-1'], group('sg-1', rules)).rules;

describe('gateChain', () => {
  const cases: [string, SecurityGroupRule, string][] = [
    ['all from a prefix', allow('ingress', '10.1.0.0/16'), 'ip saddr 10.1.0.0/16 accept'],
    ['all from anywhere', allow('ingress', '0.0.0.0/0'), 'accept'],
    [
      'one TCP port',
      allow('ingress', '10.1.0.0/16', 'tcp', [22, 22]),
      'tcp dport 22 ip saddr 10.1.0.0/16 accept',
    ],
    [
      'UDP ports',
      allow('ingress', '10.1.0.0/16', '17', [53, 99]),
      'udp dport 53-99 ip saddr 10.1.0.0/16 accept',
    ],
    [
      'all TCP',
      allow('ingress', '10.1.0.0/16', 'tcp', [0, 65535]),
      'meta l4proto tcp ip saddr 10.1.0.0/16 accept',
    ],
    ['a group', allow('ingress', 'sg-2', 'tcp', [80, 81]), 'tcp dport 80-81 ip saddr @members_sg_2 accept'],
    [
      'any ICMP',
      allow('ingress', '10.0.0.0/8', 'icmp', [-1, -1]),
      'meta l4proto icmp ip saddr 10.0.0.0/8 accept',
    ],
    [
      'an ICMP type',
      allow('ingress', '10.0.0.0/8', 'icmp', [8, -1]),
      'icmp type 8 ip saddr 10.0.0.0/8 accept',
    ],
    [
      'type and code',
      allow('ingress', '10.0.0.0/8', '1', [3, 4]),
      'icmp type 3 icmp code 4 ip saddr 10.0.0.0/8 accept',
    ],
    ['a protocol', allow('ingress', '10.0.0.0/8', '132'), 'meta l4proto 132 ip saddr 10.0.0.0/8 accept'],
  ];
  for (const [what, rule, line] of cases) {
    it(`accepts ${what}`, () => assert.deepEqual(rulesOf('ingress', rule), [line]));
  }

  it('sends what leaves to the gate of the receiver, never past it', () => {
    assert.deepEqual(rulesOf('egress', allow('egress', '10.1.0.0/16')), [
      'ip daddr 10.1.0.0/16 goto receiver',
    ]);
  });

  it('has no line for the other direction, for IPv6, or for groups that are gone', () => {
    assert.deepEqual(rulesOf('ingress', allow('egress', '0.0.0.0/0'), allow('ingress', '::/0')), []);
    assert.deepEqual(gateChain('ingress', ['sg-9'], {}).rules, []);
  });

  it('joins the rules of all groups, whatever their order, each once', () => {
    const groups = {
      ...group('sg-1', [allow('ingress', '10.1.0.0/16')]),
      ...group('sg-2', [allow('ingress', '10.2.0.0/16'), allow('ingress', '10.1.0.0/16')]),
    };
    const chain = gateChain('ingress', ['sg-2', 'sg-1'], groups);
    assert.deepEqual(chain, gateChain('ingress', ['sg-1', 'sg-2'], groups));
    assert.deepEqual(chain.rules, ['ip saddr 10.1.0.0/16 accept', 'ip saddr 10.2.0.0/16 accept']);
    assert.equal(chain.name, 'to_sg_1__sg_2');
  });

  it('marks flows that AWS does not track: anywhere in, and anywhere out for the answers', () => {
    const web = allow('ingress', '0.0.0.0/0', 'tcp', [80, 80]);
    const anywhereOut = allow('egress', '0.0.0.0/0');
    assert.deepEqual(rulesOf('ingress', web, anywhereOut), [
      'tcp dport 80 ct mark set ct mark | 2 accept',
      'tcp dport 80 accept',
    ]);
    assert.deepEqual(rulesOf('ingress', web), ['tcp dport 80 accept'], 'no open way back');
    assert.deepEqual(
      rulesOf('ingress', web, allow('egress', '0.0.0.0/0', 'udp')),
      ['tcp dport 80 accept'],
      'another protocol',
    );
    assert.deepEqual(
      rulesOf('ingress', web, allow('egress', '0.0.0.0/0', 'tcp', [1024, 65535])),
      ['tcp dport 80 accept'],
      'not all ports',
    );
    assert.deepEqual(
      rulesOf('egress', anywhereOut, allow('ingress', '0.0.0.0/0', 'tcp', [0, 65535])),
      ['meta l4proto 6 ct mark set ct mark | 1 goto receiver', 'goto receiver'],
      'of all traffic only TCP has an open way back',
    );
    assert.deepEqual(rulesOf('ingress', allow('ingress', '0.0.0.0/0', 'icmp'), anywhereOut), [
      'meta l4proto icmp accept',
    ]);
  });
});

describe('chainName', () => {
  it('fits nft whatever the number of groups, and differs with the groups', () => {
    const ids = Array.from({ length: 16 }, (_, i) => `sg-${i.toString(16).padStart(17, '0')}`);
    const names = ids.map((_, i) => chainName('egress', ids.slice(0, i + 1)));
    assert.equal(new Set(names).size, ids.length);
    for (const name of names) assert.match(name, /^[a-z][a-z0-9_]{1,126}$/);
  });
});

describe('referencedGroups', () => {
  it('are the groups that rules name as peers', () => {
    const groups = group('sg-1', [
      allow('ingress', 'sg-2'),
      allow('egress', 'sg-3'),
      allow('ingress', '10.0.0.0/8'),
    ]);
    assert.deepEqual([...referencedGroups(['sg-1', 'sg-0'], groups)].sort(), ['sg-2', 'sg-3']);
  });
});
