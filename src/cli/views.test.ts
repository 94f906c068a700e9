import assert from 'node:assert/strict';
import { test } from 'node:test';
import { differenceTable, ipamText } from './views.ts';

test('a side that has nothing to say of a difference shows a dash', () => {
  const shown = differenceTable([
    { kind: 'address', object: 'node-1: 10.0.0.6', journal: 'free', kernel: null, cloud: null, api: null },
    { kind: 'held-twice', object: '10.0.0.7', journal: ['a', 'b'] },
  ]);
  assert.deepEqual(
    shown.split('\n').map((line) => line.split(/ {2,}/)),
    [
      ['KIND', 'OBJECT', 'JOURNAL', 'KERNEL', 'CLOUD', 'API'],
      ['address', 'node-1: 10.0.0.6', 'free', '-', '-', '-'],
      ['held-twice', '10.0.0.7', '["a","b"]', '-', '-', '-'],
    ],
  );
});

test('an ENI without a link is shown as one', () => {
  const text = ipamText([
    {
      node: 'node-1',
      instanceType: 'm5.large',
      family: 'IPv4',
      limits: { enis: 3, ipv4PerEni: 10, pods: 29 },
      addressing: 'secondary' as const,
      warm: { target: 5, cooldownSeconds: 30 },
      enis: [
        {
          id: 'eni-1',
          deviceIndex: 1,
          networkCard: 0,
          mac: '02:00:00:00:00:11',
          ifname: null,
          subnetId: 'subnet-1',
          type: 'interface',
          trunk: false,
          primaryIp: '10.0.0.40',
          addresses: [],
          prefixes: [],
        },
      ],
      totals: { held: 0, free: 0, cooling: 0, quarantined: 0, foreign: 0 },
    },
  ]);
  assert.match(text, /no link\W.*eni-1/);
});
