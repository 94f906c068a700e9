import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { parseMac } from '../base/mac.ts';
import { assignMarks, findEniLink } from './enis.ts';
import {
  CT_PRIMARY,
  CT_SNAT,
  ENI_MASK,
  eniTable,
  hostLinkName,
  isOurTable,
  isPodLinkName,
  KEEP_MASK,
  linkMacs,
  MAX_ENI_MARK,
  PODS_TABLE,
  slotKey,
  UNHELD_TABLE,
  UNREACHABLE_TABLE,
} from './marks.ts';

it('our mark bits and the rest are the whole word', () => {
  assert.equal((ENI_MASK | KEEP_MASK) >>> 0, 0xffffffff);
  assert.equal(ENI_MASK & KEEP_MASK, 0);
  assert.deepEqual([MAX_ENI_MARK, CT_PRIMARY, CT_SNAT], [0x7c, 0x7e, 0x7f]);
});

it('a table is the ENI’s place, and the primary has none', () => {
  assert.equal(eniTable({ networkCard: 0, deviceIndex: 1 }), 0x5001);
  assert.equal(eniTable({ networkCard: 2, deviceIndex: 0 }), 0x5100);
  assert.throws(() => eniTable({ networkCard: 0, deviceIndex: 0 }), RangeError);
  assert.throws(() => eniTable({ networkCard: 0, deviceIndex: 128 }), /card 0\.\.31, device 0\.\.127/);
  assert.deepEqual(
    [0x4ffd, UNREACHABLE_TABLE, UNHELD_TABLE, PODS_TABLE, 0x5fff, 0x6000, 0x6fff, 0x7001, 254].map(
      isOurTable,
    ),
    [false, true, true, true, true, true, true, false, false],
  );
});

it('a host link name is stable, short, and tells attachments apart', () => {
  const key = { network: 'podway', containerId: 'c1', ifname: 'eth0' };
  assert.equal(hostLinkName(key), 'pw8f70042e5ce2');
  assert.equal(isPodLinkName(hostLinkName(key)), true);
  const others = [
    { ...key, ifname: 'eth1' },
    { ...key, containerId: 'c1eth', ifname: '0' },
    { ...key, network: 'podwa', containerId: 'yc1' },
  ];
  assert.equal(new Set([key, ...others].map(hostLinkName)).size, 4);
  assert.equal(isPodLinkName('pwm0'), false);
});

it('the two ends have different, locally administered unicast addresses', () => {
  const { host, pod } = linkMacs('pw0123456789ab');
  assert.notEqual(host, pod);
  for (const mac of [host, pod]) assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2);
});

it('on the first card the mark is the device index', () => {
  const marks = assignMarks(
    [0, 1, 3].map((deviceIndex) => ({ networkCard: 0, deviceIndex })),
    [],
  );
  assert.deepEqual(
    [...marks],
    [
      ['0/1', 1],
      ['0/3', 3],
    ],
  );
});

it('marks that rules record are kept, whatever comes beside them', () => {
  const enis = [
    { networkCard: 0, deviceIndex: 1 },
    { networkCard: 1, deviceIndex: 1 },
  ];
  const before = assignMarks([enis[1]!], []);
  assert.deepEqual([...before], [['1/1', 1]]);
  const after = assignMarks(enis, [{ table: eniTable(enis[1]!), mark: 1 }]);
  assert.deepEqual(Object.fromEntries(after), { '1/1': 1, '0/1': 2 });
});

it('marks are unique, in range, and stable when recorded, for any ENIs that fit', () => {
  const slot = fc.record({ networkCard: fc.nat(31), deviceIndex: fc.nat(127) });
  fc.assert(
    fc.property(fc.uniqueArray(slot, { selector: slotKey, maxLength: 100 }), fc.nat(), (enis, seed) => {
      const marks = assignMarks(enis, []);
      const values = [...marks.values()];
      assert.equal(new Set(values).size, values.length);
      assert.ok(values.every((mark) => mark >= 1 && mark <= MAX_ENI_MARK));
      const recorded = enis
        .filter((eni) => marks.has(slotKey(eni)))
        .map((eni) => ({ table: eniTable(eni), mark: marks.get(slotKey(eni))! }));
      const shuffled = [...enis].sort(
        (a, b) => ((slotKey(a).length * 31 + seed) % 7) - ((slotKey(b).length * 17 + seed) % 7),
      );
      const again = assignMarks(shuffled, recorded);
      for (const [key, mark] of marks) assert.equal(again.get(key), mark);
    }),
  );
});

it('more ENIs than marks is an error that says so', () => {
  const enis = Array.from({ length: 125 }, (_, i) => ({ networkCard: 1, deviceIndex: i }));
  assert.throws(() => assignMarks(enis, []), /no mark left for ENI 1\/124: 124 of 124 in use/);
});

it('an ENI’s link is the one below bridges and VLANs that share its MAC address', () => {
  const mac = parseMac('02:00:00:00:00:11');
  const links = [
    { name: 'br0', mac, kind: 'bridge' },
    { name: 'ens6', mac, kind: undefined },
    { name: 'ens7', mac: parseMac('02:00:00:00:00:12') },
  ];
  assert.equal(findEniLink(links, mac)?.name, 'ens6');
  assert.equal(findEniLink(links, parseMac('02:00:00:00:00:99')), undefined);
});
