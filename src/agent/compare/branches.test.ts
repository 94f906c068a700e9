// Each way in which the four views of a branch may disagree, by the name that `ipam check` gives it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Mac } from '../../base/mac.ts';
import type { EniId } from '../../cloud/port.ts';
import { FakeCloud } from '../../cloud/testing.ts';
import { branchViews, compareBranches } from './branches.ts';
import type { CompareOptions } from './difference.ts';

type Views = Parameters<typeof compareBranches>[0];

const face = { id: 'eni-7', vlan: 7, mac: '02:00:00:00:00:07', ips: ['10.0.0.7'] };
const agreed: Views = {
  trunk: { id: 'eni-t' as EniId, mac: '02:00:00:00:00:aa' as Mac },
  journal: [{ ...face, pod: 'd/a' }],
  kernel: [{ id: 'eni-7', vlan: 7, mac: face.mac, link: 'pwv7', up: true }],
  hasTrunkLink: true,
  cloud: [{ ...face, trunk: 'eni-t', isOn: true }],
  api: [{ ...face, pod: 'd/a' }],
};
const kernel = (over: object) => ({ kernel: [{ ...agreed.kernel[0]!, ...over }] });
const cloud = (over: object) => ({ cloud: [{ ...agreed.cloud[0]!, ...over }] });
const api = (over: object) => ({ api: [{ ...agreed.api![0]!, ...over }] });

const rows: [string, Partial<Views>, string[]][] = [
  ['all agree', {}, []],
  ['no API is configured', { api: null }, []],
  ['a hand-made branch without tags', { cloud: [{ ...face, isOn: true }] }, []],
  ['no stand-in', { kernel: [] }, ['branch-kernel eni-7 of d/a']],
  ['a stand-in that is down', kernel({ up: false }), ['branch-kernel eni-7 of d/a']],
  ['a stand-in of another MAC', kernel({ mac: '02:00:00:00:00:08' }), ['branch-kernel eni-7 of d/a']],
  ['a stand-in of another branch', kernel({ id: 'eni-8' }), ['branch-kernel eni-7 of d/a']],
  ['no interface in EC2', { cloud: [] }, ['branch-cloud eni-7 of d/a']],
  ['an interface on no trunk', cloud({ isOn: false }), ['branch-cloud eni-7 of d/a']],
  ['on another trunk', cloud({ trunk: 'eni-u' }), ['branch-cloud eni-7 of d/a']],
  ['another VLAN id in EC2', cloud({ vlan: 8 }), ['branch-cloud eni-7 of d/a']],
  ['another address in EC2', cloud({ ips: ['10.0.0.8'] }), ['branch-cloud eni-7 of d/a']],
  ['no annotation', { api: [] }, ['branch-api eni-7 of d/a']],
  ['an annotation of another branch', api({ id: 'eni-8' }), ['branch-api eni-7 of d/a']],
  ['an annotation of another VLAN id', api({ vlan: 8 }), ['branch-api eni-7 of d/a']],
  ['no trunk', { trunk: null, hasTrunkLink: false }, ['trunk trunk']],
  ['a trunk without its link', { hasTrunkLink: false }, ['trunk eni-t']],
  [
    'a stand-in and an interface of no pod',
    { journal: [], api: [] },
    ['branch-stray pwv7', 'branch-loose eni-7'],
  ],
  ['an interface whose pod has not started', { journal: [], kernel: [] }, []],
  ['an interface that rests', { journal: [], kernel: [], api: [], ...cloud({ isOn: false }) }, []],
];
for (const [what, change, expected] of rows)
  test(what, () => {
    const found = compareBranches({ ...agreed, ...change });
    assert.deepEqual(
      found.map(({ kind, object }) => `${kind} ${object}`),
      expected,
    );
  });

test('a row tells all four views', () => {
  const [row] = compareBranches({ ...agreed, ...cloud({ isOn: false }) });
  assert.deepEqual(row, {
    kind: 'branch-cloud',
    object: 'eni-7 of d/a',
    journal: 'eni-7 VLAN 7 02:00:00:00:00:07 10.0.0.7',
    kernel: 'pwv7 eni-7 VLAN 7 02:00:00:00:00:07',
    cloud: 'on no trunk',
    api: 'eni-7 VLAN 7 02:00:00:00:00:07 10.0.0.7',
  });
});

/** A node without a trunk whose journal has these branches. */
function withJournal(ids: readonly string[], cloud: FakeCloud): CompareOptions {
  const leases = ids.map((id, at) => ({ owner: {}, ips: [], branch: { ...face, id, vlan: at + 1 } }));
  return {
    config: {},
    api: { isConfigured: false, pods: async () => [] },
    pool: { trunk: null, held: () => leases },
    cloud,
    datapath: { observeNode: () => ({ standIns: [], linkMacs: new Set() }) },
  } as unknown as CompareOptions;
}

test('branches that the trunk does not tell of are asked for at once; those that are gone are told', async () => {
  const cloud = new FakeCloud();
  const plain = { subnetId: 'subnet-0a', groupIds: [], description: '', secondaryCount: 0, tags: {} };
  const { id } = await cloud.createNetworkInterface({ ...plain, clientToken: 'one' });
  const found = await branchViews(withJournal(['eni-gone', id, 'eni-away'], cloud));
  const seen = found.filter(({ kind }) => kind === 'branch-cloud');
  assert.deepEqual(
    seen.map(({ object, cloud: says }) => [object, says]),
    [
      ['eni-gone', 'no such interface'],
      [id, 'on no trunk'],
      ['eni-away', 'no such interface'],
    ],
  );
  assert.deepEqual(cloud.calls, ['CreateNetworkInterface', 'DescribeNetworkInterfaces']);
});

test('a failure of EC2 is no missing interface', async () => {
  const cloud = new FakeCloud();
  cloud.describeNetworkInterfaces = async () => {
    throw new Error('EC2 is away');
  };
  await assert.rejects(branchViews(withJournal(['eni-7'], cloud)), /EC2 is away/);
});
