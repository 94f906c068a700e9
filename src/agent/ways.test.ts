import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { eni0, eni1, nodeState } from '../datapath/testing.ts';
import { waysView } from './ways.ts';

test('what keeps a pod’s own address, and what is on the node, is told as text', () => {
  const node = nodeState({
    enis: [eni0, eni1],
    vpcCidrs: [parseCidr('10.0.0.0/16')],
    excludeSnatCidrs: [parseCidr('192.168.0.0/16'), parseCidr('10.0.7.0/24')],
    snat: 'random',
    nodeLocal: [parseIp('169.254.20.10')],
  });
  assert.deepEqual(waysView(node, [parseIp('10.0.0.4'), parseIp('fe80::1')]), {
    snat: 'random',
    snat6: 'none',
    exempt: ['10.0.0.0/16', '192.168.0.0/16'],
    onNode: ['10.0.0.4', 'fe80::1'],
    nodeLocal: ['169.254.20.10'],
  });
});

test('IPv6 leaves with the node’s address only where the node has one', () => {
  const six = { vpcCidrs: [parseCidr('fd00::/56')], snat6: 'random' as const };
  assert.equal(waysView(nodeState({ ...six, enis: [eni0] }), []).snat6, 'none');
  const { snat6, exempt } = waysView(
    nodeState({ ...six, enis: [{ ...eni0, ownIp6: parseIp('fd00::4') as never }] }),
    [],
  );
  assert.deepEqual([snat6, exempt.includes('fd00::/56')], ['random', true]);
});
