// Which connections are removed after the table was away: those without their mark or translation, and none in a zone
// of a branch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import type { ConntrackEntry } from '../kernel/nfnetlink.ts';
import { strayJudge } from './stray.ts';
import type { NodeDatapath } from './types.ts';

const pod = parseIp('10.0.0.5');
const node = {
  enis: [
    {
      ...{
        id: 'eni-0',
        mac: '02:00:00:00:00:01',
        deviceIndex: 0,
        networkCard: 0,
        primaryIp: parseIp('10.0.0.4'),
      },
      ...{ subnetCidr: parseCidr('10.0.0.0/24'), addresses: [pod], prefixes: [] },
    },
  ],
  ...{
    vpcCidrs: [parseCidr('10.0.0.0/16')],
    snat: 'node',
    snat6: 'none',
    excludeSnatCidrs: [],
    eniMtu: 9001,
  },
  ...{ egress4: false, pods: [] },
} as unknown as NodeDatapath;
const entry = (from: string, to: string, zone: number): ConntrackEntry => {
  const tuple = { protocol: 17, sport: 1111, dport: 53 };
  return {
    ...{ id: 1, status: 0, mark: 0, timeout: 30, zone },
    orig: { ...tuple, src: parseIp(from), dst: parseIp(to) },
    reply: { ...tuple, src: parseIp(to), dst: parseIp(from) },
  };
};

test('a connection in a branch’s zone has no mark and no translation of the node, and is no stray', () => {
  const isStray = strayJudge(node, new Set([pod]));
  const rows: [string, string, number, boolean][] = [
    ['10.0.0.5', '203.0.113.10', 0, true],
    ['10.0.0.5', '203.0.113.10', 11, false],
    ['10.0.0.9', '10.0.0.4', 0, true],
    ['10.0.0.5', '10.0.0.4', 11, false],
    ['10.0.0.5', '10.0.7.7', 0, false],
  ];
  for (const [from, to, zone, expected] of rows)
    assert.equal(isStray(entry(from, to, zone)), expected, `${from} to ${to} in zone ${zone}`);
});
