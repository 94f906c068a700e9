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
  ['standard to strict beside it: by the VPC', pod('loose'), pod('one'), ['eni-13', 13, 'eni-11', 11]],
  ['standard to outside', pod('loose'), outside, ['eni-13', 13]],
  ['the node to a strict pod of it', { node: 'n-1' }, pod('one'), [null, 0]],
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
