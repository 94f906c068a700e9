// Which way a connection goes, for pods with and without branches, on one node and on two.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IpamNode } from '../lab/daemon/protocol.ts';
import { type WayEnd, waysOf, wayText } from './trace-ways.ts';

const branch = (pod: string, vlanId: number, mode?: 'standard') => ({
  ...{ id: `eni-${vlanId}`, vlanId, mac: '', ips: [], containerId: '', pod },
  ...(mode ? { mode } : {}),
});
const shown = [
  {
    node: 'n-1',
    enis: [
      { id: 'eni-a', ifname: 'ens5', addresses: [{ ip: '10.0.0.5', state: 'held', pod: 'd/plain' }] },
      {
        ...{ id: 'eni-t', ifname: 'ens7', addresses: [] },
        branches: [branch('d/one', 11), branch('d/two', 12), branch('d/loose', 13, 'standard')],
      },
    ],
  },
] as unknown as IpamNode[];
const pod = (name: string): WayEnd => ({ node: 'n-1', pod: `d/${name}` });
const outside: WayEnd = {};
const rows: [string, WayEnd, WayEnd, (number | string | null)[]][] = [
  ['strict to strict beside it: twice, in two zones', pod('one'), pod('two'), ['eni-11', 11, 'eni-12', 12]],
  ['strict to outside', pod('one'), outside, ['eni-11', 11]],
  ['plain to strict beside it: by the VPC', pod('plain'), pod('one'), ['eni-a', 0, 'eni-11', 11]],
  ['strict to plain beside it', pod('one'), pod('plain'), ['eni-11', 11, 'eni-a', 0]],
  ['standard to plain beside it: on the node', pod('loose'), pod('plain'), [null, 0, null, 0]],
  ['standard to strict beside it: by the VPC', pod('loose'), pod('one'), ['eni-13', 0, 'eni-11', 11]],
  ['standard to outside', pod('loose'), outside, ['eni-13', 0]],
  ['the node to a strict pod of it', { node: 'n-1' }, pod('one'), [null, 11]],
  ['another node to a strict pod', { node: 'n-2' }, pod('one'), ['eni-11', 11]],
  ['outside to plain', outside, pod('plain'), ['eni-a', 0]],
  ['a pod that no agent knows', { node: 'n-1', pod: 'd/gone' }, pod('one'), ['eni-11', 11]],
];
for (const [what, from, to, expected] of rows)
  test(what, () => {
    const found = waysOf(shown, from, to);
    assert.deepEqual(
      found.flatMap((way) => [way.interface?.eniId ?? null, way.zone]),
      expected,
    );
    for (const way of found) assert.match(wayText(way), /n-1/);
  });

const ways = {
  ...{ snat: 'node', snat6: 'none', exempt: ['10.0.0.0/16', '192.168.7.0/24', 'fd77::/56'] },
  ...{
    onNode: ['127.0.0.1', '10.0.0.4', '10.100.0.10', '169.254.20.10'],
    nodeLocal: ['10.100.0.10', '10.100.0.11'],
  },
};
const at = (of: Partial<typeof ways> = {}) =>
  [
    {
      node: 'n-1',
      ways: { ...ways, ...of },
      enis: [
        { id: 'eni-0', ifname: 'eth0', deviceIndex: 0, networkCard: 0, addresses: [] },
        ...shown[0]!.enis,
      ],
    },
  ] as unknown as IpamNode[];
const ip = (...ips: string[]): WayEnd => ({ ips });
/** By the pod's own interface, by the primary ENI with the node's address, or on the node. */
const [OWN, NODE, ON_NODE] = ['own', 'node', null] as const;
type Told = typeof OWN | typeof NODE | typeof ON_NODE;
const table: [string, WayEnd, strict: Told, standard: Told, plain: Told, of?: Partial<typeof ways>][] = [
  ['IMDS', ip('169.254.169.254'), NODE, NODE, NODE],
  ['IMDS, snat none', ip('169.254.169.254'), NODE, NODE, NODE, { snat: 'none' }],
  ['IMDS of IPv6', ip('fd00:ec2::254'), NODE, NODE, NODE],
  ['link-local on the node', ip('169.254.20.10'), ON_NODE, ON_NODE, ON_NODE],
  ['listed, on the node', ip('10.100.0.10'), ON_NODE, ON_NODE, ON_NODE],
  ['listed, away, in the VPC', ip('10.100.0.11'), OWN, OWN, OWN, { exempt: ['10.100.0.0/16'] }],
  ['its node by address', ip('10.0.0.4'), OWN, ON_NODE, ON_NODE],
  ['its node by name', { node: 'n-1', ips: ['10.0.0.4'] }, OWN, ON_NODE, ON_NODE],
  ['another node', { node: 'n-2', ips: ['10.0.0.9'] }, OWN, OWN, OWN],
  ['another node by address', ip('10.0.0.9'), OWN, OWN, OWN],
  ['a plain pod beside it', { ...pod('other'), ips: ['10.0.0.6'] }, OWN, ON_NODE, ON_NODE],
  ['a standard pod beside it', { ...pod('loose2'), ips: ['10.0.0.14'] }, OWN, ON_NODE, ON_NODE],
  ['a strict pod beside it', { ...pod('two'), ips: ['10.0.0.12'] }, OWN, OWN, OWN],
  ['a pod of another node', { node: 'n-2', pod: 'd/far', ips: ['10.0.0.77'] }, OWN, OWN, OWN],
  ['an instance of the VPC', ip('10.0.32.238'), OWN, OWN, OWN],
  ['excludeSnatCidrs', ip('192.168.7.1'), OWN, OWN, OWN],
  ['outside', ip('203.0.113.9'), OWN, NODE, NODE],
  ['outside, snat random', ip('203.0.113.9'), OWN, NODE, NODE, { snat: 'random' }],
  ['outside, snat none', ip('203.0.113.9'), OWN, OWN, OWN, { snat: 'none' }],
  ['outside by IPv6', ip('2001:db8::9'), OWN, OWN, OWN],
  ['outside by IPv6, snat6 node', ip('2001:db8::9'), OWN, NODE, NODE, { snat6: 'node' }],
];
const owns = { one: ['eni-11', 11], loose: ['eni-13', 0], plain: ['eni-a', 0] } as const;
for (const [what, to, strict, standard, plain, of] of table)
  test(`to ${what}: strict, standard and plain`, () => {
    const told = Object.keys(owns).map((name) => {
      const [{ interface: by, zone, source }] = waysOf(at(of), pod(name), to) as [
        ReturnType<typeof waysOf>[0],
      ];
      return [by?.eniId ?? null, zone, source];
    });
    const expected = Object.values(owns).map((own, index) => {
      const kind = [strict, standard, plain][index];
      if (kind === OWN) return [...own, undefined];
      return kind === NODE ? ['eni-0', 0, 'node'] : [null, 0, undefined];
    });
    assert.deepEqual(told, expected);
  });

test('from an address of the node: on the node; of another: by the branch', () => {
  for (const [from, eniId] of [
    ['10.0.0.4', undefined],
    ['10.0.0.9', 'eni-11'],
  ] as const)
    assert.equal(waysOf(at(), ip(from), pod('one'))[0]?.interface?.eniId, eniId);
});

test('an older agent does not say what is translated: services are known all the same', () => {
  const [{ ways: _, ...old }] = at() as [IpamNode];
  const [told] = waysOf([old], pod('loose'), ip('169.254.169.254'));
  assert.equal(wayText(told!), "egress: by eni-0 (eth0) of n-1, with the node's address");
  assert.equal(waysOf([old], pod('loose'), ip('203.0.113.9'))[0]?.interface?.eniId, 'eni-13');
});
