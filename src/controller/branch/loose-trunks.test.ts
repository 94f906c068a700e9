// Which trunks that hang loose are nobody's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EniId } from '../../cloud/port.ts';
import { FakeCloud } from '../../cloud/testing.ts';
import { looseTrunks, type Seen } from './loose-trunks.ts';
import { TRUNK, trunkTags } from './tags.ts';

test('a loose trunk of an instance that no Node is goes after two looks, no other', async () => {
  const cloud = new FakeCloud();
  const make = async (instanceId: string, cluster: string | undefined) =>
    (
      await cloud.createNetworkInterface({
        subnetId: 'subnet-0a',
        groupIds: [],
        description: '',
        secondaryCount: 0,
        interfaceType: 'trunk',
        tags: trunkTags({ name: 'n', instanceId, cluster }),
        clientToken: `${instanceId} ${cluster}`,
      })
    ).id;
  const gone = await make('i-0gone', 'c');
  await make('i-0live', 'c');
  await make('i-0gone', 'other');
  await make('i-0gone', undefined);
  const attached = await make('i-0gone2', 'c');
  const at = { instanceId: cloud.instanceId, deviceIndex: 1, networkCard: 0 };
  await cloud.attachNetworkInterface({ eniId: attached, ...at });
  const enis = await cloud.describeNetworkInterfaces({ kind: 'tags', tags: TRUNK });
  const [live, clusters] = [new Set(['i-0live']), new Set(['c'])];
  let seen: Seen = new Map();
  const look = (instances: ReadonlySet<string> | null): EniId[] => {
    const found = looseTrunks(seen, enis, instances, clusters);
    seen = found.seen;
    return found.over;
  };
  assert.deepEqual(look(live), []);
  assert.deepEqual(look(live), [gone]);
  assert.deepEqual(look(null), [], 'a Node that does not say its instance may be this one');
  assert.deepEqual(look(live), [], 'and the looks begin anew');
});
