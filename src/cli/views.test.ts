import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IpamNode } from '../lab/daemon/protocol.ts';
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

test('a node tells its trunk or the slot that is kept for it, and each branch with its pod', () => {
  const of = (trunk: IpamNode['trunk']) =>
    ipamText([
      {
        ...{ node: 'node-1', instanceType: 'm5.large', family: 'IPv4', addressing: 'secondary' },
        ...{ limits: { enis: 3, ipv4PerEni: 10, pods: 29 }, warm: { target: 5, cooldownSeconds: 30 } },
        ...(trunk ? { trunk } : {}),
        enis: [
          {
            ...{ id: 'eni-t', deviceIndex: 2, networkCard: 0, mac: '02:00:00:00:00:12', ifname: 'eth1' },
            ...{ subnetId: 'subnet-1', type: 'trunk', trunk: true, primaryIp: '10.0.0.41' },
            ...{ addresses: [], prefixes: [] },
            branches: [
              {
                id: 'eni-b',
                vlanId: 7,
                mac: '',
                ips: ['10.0.0.9'],
                containerId: 'c',
                pod: 'd/web',
                mode: 'strict',
              },
            ],
          },
        ],
        totals: { held: 0, free: 0, cooling: 0, quarantined: 0, foreign: 0 },
      },
    ]);
  assert.match(
    of({ id: 'eni-t', branches: 1, limit: 9 }),
    /; 1 of 9 branches[\s\S]*eni-b.*10\.0\.0\.9.*VLAN 7.*d\/web/,
  );
  assert.match(of({ id: null, branches: 0, limit: 9 }), /; an ENI slot is kept for a trunk/);
  assert.match(
    of({ id: null, branches: 0, limit: 9, lack: 'ENI_LIMIT: it is full' }),
    /ENI_LIMIT: it is full/,
  );
  assert.doesNotMatch(of(undefined), /of 9|a trunk/);
});
