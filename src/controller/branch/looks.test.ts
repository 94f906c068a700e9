// What looking costs: calls of EC2 in a while, by how many branches there are.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { parseIpv4 } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { Looks } from './looks.ts';
import { BranchRecord } from './record.ts';

/** ms */
const SPAN = 20 * 60_000;

/** Pages that a minute's looks ask for, and the longest time in which a loss of each kind is first seen (ms). */
async function minuteOf(nodes: number, branches: number) {
  const eni = (index: number): EniDescription => ({
    ...{
      id: `eni-${index}` as EniId,
      mac: parseMac('02:00:00:00:00:01'),
      subnetId: 's',
      vpcId: 'v',
      zone: 'z',
    },
    ...{ description: '', interfaceType: 'branch', status: 'in-use', groupIds: [], requesterId: '' },
    ...{ addresses: [{ ip: parseIpv4('10.0.0.9'), primary: true, public: false }], ipv6Addresses: [] },
    ...{ ipv4Prefixes: [], ipv6Prefixes: [], attachment: null },
    tags: {
      ...{ 'podway.io/purpose': 'branch', 'podway.io/trunk': `eni-t${index % nodes}`, 'podway.io/pod': 'p' },
      ...{ 'podway.io/vlan': String(1 + Math.floor(index / nodes)), 'podway.io/pod-uid': `${index}` },
    },
  });
  const enis = Array.from({ length: branches }, (_, index) => eni(index));
  const associations = enis.map(({ id, tags }) => ({
    ...{ id: `a-${id}`, branchId: id, trunkId: tags['podway.io/trunk'] as EniId },
    vlanId: Number(tags['podway.io/vlan']),
  }));
  let now = 0;
  let pages = 0;
  const at: Record<'loose' | 'all' | 'associations', number[]> = { loose: [], all: [], associations: [] };
  const over = new AbortController();
  const looks = new Looks({
    cloud: {
      describeNetworkInterfaces: async (filter) => {
        const isLoose = filter.kind === 'tags' && filter.loose === true;
        pages += isLoose ? 1 : Math.ceil((branches + nodes) / 1_000);
        at.loose.push(now);
        if (!isLoose) at.all.push(now);
        return isLoose ? [] : enis;
      },
      describeTrunkAssociations: async () => {
        pages += Math.ceil(branches / 255);
        at.associations.push(now);
        return associations;
      },
    },
    record: new BranchRecord(),
    clock: {
      now: () => now,
      sleep: async (ms) => {
        now += ms;
        if (now > SPAN) over.abort(new Error('over'));
      },
    },
    log: pino({ level: 'silent' }),
    isReady: () => true,
    isHeld: () => true,
    trunks: () => [],
    onLook: async () => {},
    onLoss: ({ vanished, gone }) => assert.deepEqual([vanished, gone], [[], []]),
  });
  await looks.keep(over.signal);
  const longest = (times: number[]) => Math.max(...times.slice(1).map((time, index) => time - times[index]!));
  return { pages: pages / (SPAN / 60_000), loose: longest(at.loose), all: longest(at.all) };
}

test('two calls every ten seconds in a small cluster', async () => {
  const { pages, loose, all } = await minuteOf(3, 27);
  assert.ok(pages < 13, `${pages} pages`);
  assert.deepEqual([loose, all], [10_000, 10_000]);
});

test('of 1,000 nodes with 9,000 branches fewer than 45 calls a minute, and all are seen within 20 s', async () => {
  const { pages, loose, all } = await minuteOf(1_000, 9_000);
  assert.ok(pages < 45, `${pages} pages a minute`);
  assert.equal(loose, 10_000);
  assert.equal(all, 20_000);
});

test('of 1,000 nodes with 50 branches each what hangs loose is seen as soon, at no more calls', async () => {
  const { pages, loose } = await minuteOf(1_000, 50_000);
  assert.ok(pages < 50, `${pages} pages a minute`);
  assert.equal(loose, 10_000);
});
