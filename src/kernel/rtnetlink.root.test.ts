// Links, addresses, routes, rules, neighbours and forwarding entries against the kernel itself.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { addToIp, formatCidr, hostCidr, type Ipv4, parseCidr, parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import { createAnonymousNetns, type Netns, withNetns } from './netns.ts';
import { NetlinkError, RtNetlink, type RtOp } from './rtnetlink.ts';
import { readSysctl } from './sysctl.ts';
import { inFreshNetns, needsRoot, refusal } from './testing.ts';

const mac = parseMac('02:00:00:00:00:11');
const gateway = parseIp('169.254.1.1');

/** Runs with a socket in a fresh namespace that holds the pair v0, v1 (both up). */
const withPair = (test: (rt: RtNetlink, v0: number, v1: number, ns: Netns) => void | Promise<void>) =>
  inFreshNetns(async (ns) => {
    using rt = RtNetlink.open(ns);
    rt.apply([
      { op: 'link-set', name: 'lo', up: true },
      { op: 'veth-add', name: 'v0', peer: { name: 'v1' } },
      { op: 'link-set', name: 'v0', up: true },
      { op: 'link-set', name: 'v1', up: true },
    ]);
    await test(rt, rt.link('v0')!.index, rt.link('v1')!.index, ns);
  });

describe('rtnetlink', needsRoot, () => {
  test('the far end of a pair tells its addresses from this end, and an alias comes with the way up', () =>
    inFreshNetns((host) => {
      using pod = createAnonymousNetns();
      using other = createAnonymousNetns();
      using rt = RtNetlink.open(host);
      rt.apply([
        { op: 'veth-add', name: 'pw0', peer: { name: 'eth0', netns: pod } },
        { op: 'veth-add', name: 'pw1', peer: { name: 'eth0', netns: other } },
      ]);
      const alias = 'x'.repeat(254);
      rt.apply([{ op: 'link-set', index: rt.link('pw0')!.index, up: true, alias }]);
      const [mine, others] = [rt.link('pw0')!, rt.link('pw1')!];
      assert.deepEqual([mine.alias, mine.up, others.alias], [alias, true, null]);
      const ip = parseIp('10.0.0.5');
      using inPod = RtNetlink.open(pod);
      inPod.apply([{ op: 'addr-add', index: mine.peerIndex, ip, length: 32 }]);
      const ips = (link: typeof mine) => rt.addresses(link.peerIndex, link.peerNetnsId!).map((it) => it.ip);
      assert.deepEqual([ips(mine), ips(others)], [[ip], []]);
    }));

  test('a link that is made tells itself, has one queue a way, and takes settings of IPv4 on its way up', () =>
    inFreshNetns((host) => {
      using pod = createAnonymousNetns();
      using rt = RtNetlink.open(host);
      const pair = { op: 'veth-add', name: 'pw0', queues: 1, peer: { name: 'eth0', netns: pod } } as const;
      const made = rt.tryCreate(pair);
      assert.deepEqual(made, rt.link('pw0'));
      assert.ok(made !== null && !(made instanceof NetlinkError) && made.peerIndex > 0);
      const again = rt.tryCreate(pair);
      assert.ok(again instanceof NetlinkError && again.code === 'EEXIST', String(again));
      const conf = () =>
        ['rp_filter', 'src_valid_mark', 'accept_local'].map((key) =>
          readSysctl(host, `net/ipv4/conf/pw0/${key}`),
        );
      rt.apply([{ op: 'link-set', index: made.index, up: true, conf4: { rpFilter: 2 } }]);
      assert.deepEqual([rt.link('pw0')?.up, ...conf()], [true, '2', '0', '0']);
      rt.apply([{ op: 'link-set', index: made.index, conf4: { srcValidMark: 1, acceptLocal: 1 } }]);
      assert.deepEqual(conf(), ['2', '1', '1']);
      const queues = (ns: Netns) =>
        withNetns(ns, () => execFileSync('ip', ['-d', 'link'], { encoding: 'utf8' }));
      for (const ns of [host, pod]) assert.match(queues(ns), /(pw0|eth0)@.* numtxqueues 1 numrxqueues 1 /s);
    }));

  test('a socket for one batch answers refusals in the kernel’s words', () =>
    inFreshNetns((ns) => {
      using rt = RtNetlink.openBriefly(ns);
      const [link, route] = rt.tryApply([
        { op: 'link-set', index: 999, up: true },
        { op: 'route-add', dst: parseCidr('10.0.0.0/8'), table: 254, gateway: parseIp('192.0.2.1') },
      ]);
      assert.deepEqual([link?.code, route?.code], ['ENODEV', 'ENETUNREACH']);
      assert.match(route?.kernelText ?? '', /gateway/);
    }));

  test('a pod’s wiring: pair across namespaces, address, neighbour, routes', () =>
    inFreshNetns((host) => {
      using pod = createAnonymousNetns();
      using rt = RtNetlink.open(host);
      rt.apply([
        {
          op: 'veth-add',
          name: 'pw0',
          mac,
          mtu: 9001,
          group: 80,
          alias: 'default/web',
          peer: { name: 'eth0', netns: pod, mtu: 1400 },
        },
      ]);
      const link = rt.link('pw0')!;
      assert.deepEqual(
        [link.mac, link.mtu, link.group, link.alias, link.kind, link.up],
        [mac, 9001, 80, 'default/web', 'veth', false],
      );
      assert.notEqual(link.peerNetnsId, null);
      using inPod = RtNetlink.open(pod);
      const eth0 = inPod.link('eth0')!;
      assert.deepEqual([eth0.mtu, eth0.index], [1400, link.peerIndex]);
      const ip = parseIp('10.0.0.5');
      inPod.apply([
        { op: 'link-set', index: eth0.index, up: true },
        { op: 'addr-add', index: eth0.index, ip, length: 32 },
        { op: 'neigh-replace', index: eth0.index, ip: gateway, mac },
        { op: 'route-add', dst: hostCidr(gateway), table: 254, oif: eth0.index },
        { op: 'route-add', dst: parseCidr('0.0.0.0/0'), table: 254, gateway, oif: eth0.index, mtu: 1400 },
      ]);
      rt.apply([
        { op: 'link-set', index: link.index, up: true },
        { op: 'route-add', dst: hostCidr(ip), table: 20480, oif: link.index },
      ]);
      assert.deepEqual(
        inPod.addresses(eth0.index).filter((it) => typeof it.ip === 'number'),
        [{ index: eth0.index, ip, length: 32, noPrefixRoute: false, scope: 0, secondary: false }],
      );
      assert.deepEqual(
        inPod.neighbours(eth0.index).filter((it) => it.ip === gateway),
        [{ index: eth0.index, ip: gateway, mac, state: 'permanent', extLearn: false, proxy: false }],
      );
      const routes = inPod.routes({ table: 254, protocol: 80 });
      assert.deepEqual(routes.map((it) => `${formatCidr(it.dst)} ${it.scope} ${it.mtu}`).sort(), [
        '0.0.0.0/0 universe 1400',
        '169.254.1.1/32 link null',
      ]);
      assert.equal(rt.routes({ table: 20480, oif: link.index }).length, 1);
      assert.equal(rt.routes({ table: 20480, oif: 1 }).length, 0);
      assert.deepEqual(rt.routes({ table: 4242 }), []);
    }));

  test('a refusal names operation, place and errno with the kernel’s words, and what follows is done', () =>
    withPair((rt, v0) => {
      const ops: RtOp[] = [
        { op: 'addr-add', index: v0, ip: parseIp('10.0.0.1'), length: 24 },
        { op: 'route-add', dst: parseCidr('10.9.0.0/16'), table: 254, gateway: parseIp('192.0.2.1') },
        { op: 'addr-add', index: v0, ip: parseIp('10.0.0.1'), length: 24 },
        { op: 'neigh-replace', index: v0, ip: parseIp('10.0.0.2'), mac },
      ];
      const error = refusal(() => rt.apply(ops));
      assert.deepEqual([error.op, error.index, error.code], ['route-add', 1, 'ENETUNREACH']);
      assert.match(error.kernelText, /gateway/i);
      assert.match(error.message, /10\.9\.0\.0\/16 table 254 via 192\.0\.2\.1.*gateway/i);
      assert.equal(rt.neighbours(v0).filter((it) => it.mac === mac).length, 1);
      const results = rt.tryApply(ops.slice(0, 3));
      assert.deepEqual(
        results.map((it) => it?.code ?? null),
        ['EEXIST', 'ENETUNREACH', 'EEXIST'],
      );
    }));

  test('links: rename, master, port flags, group, and what is not there', () =>
    withPair((rt, v0, v1) => {
      rt.apply([{ op: 'bridge-add', name: 'br0', mac, mtu: 9001, ageingTime: 0, mcastSnooping: false }]);
      const br0 = rt.link('br0')!.index;
      rt.apply([
        { op: 'link-set', index: v1, up: false },
        { op: 'link-set', index: v1, newName: 'port', master: br0, group: 9, alias: 'a port' },
        {
          op: 'link-set',
          name: 'port',
          port: { isolated: true, neighSuppress: true, learning: false, flood: false },
        },
        { op: 'fdb-replace', index: v1, mac: parseMac('02:00:00:00:00:77'), permanent: 'master-static' },
      ]);
      const port = rt.link('port')!;
      assert.deepEqual([port.index, port.masterIndex, port.group, port.alias], [v1, br0, 9, 'a port']);
      assert.deepEqual([port.port?.isolated, port.port?.learning, port.port?.hairpin], [true, false, false]);
      assert.ok(
        rt.fdb().some((it) => it.mac === '02:00:00:00:00:77' && it.masterIndex === br0 && it.index === v1),
      );
      rt.apply([{ op: 'link-set', index: v1, master: 0 }]);
      assert.equal(rt.link(v1)?.masterIndex, 0);
      assert.equal(rt.link('nothing'), null);
      assert.equal(rt.link(4242), null);
      assert.equal(refusal(() => rt.apply([{ op: 'link-del', name: 'nothing' }])).code, 'ENODEV');
      assert.throws(() => rt.apply([{ op: 'link-set', name: 'v0', newName: 'x' }]), TypeError);
      assert.equal(rt.link(v0)?.name, 'v0');
    }));

  test('the index of a new link can be chosen', () =>
    inFreshNetns((ns) => {
      using pod = createAnonymousNetns();
      using rt = RtNetlink.open(ns);
      rt.apply([
        { op: 'veth-add', name: 'pw0', index: 7000, peer: { name: 'eth0', index: 200, netns: pod } },
      ]);
      assert.equal(rt.link('pw0')?.index, 7000);
      using inPod = RtNetlink.open(pod);
      assert.equal(inPod.link('eth0')?.index, 200);
    }));

  test('rules: both families, marks and masks, deleted by what they say', () =>
    inFreshNetns((ns) => {
      using rt = RtNetlink.open(ns);
      const rule = {
        family: 4,
        priority: 512,
        fwmark: 0x80000001,
        fwmask: 0xffffffff,
        table: 20481,
      } as const;
      rt.apply([
        { op: 'rule-add', ...rule },
        { op: 'rule-add', family: 6, priority: 513, from: parseCidr('fd00::/64'), table: 20482 },
        { op: 'rule-add', family: 4, priority: 514, to: parseCidr('10.0.0.0/8'), table: 100, invert: true },
      ]);
      const ours = rt.rules().filter((it) => it.protocol === 80);
      assert.deepEqual(
        ours.map((it) => it.priority),
        [512, 514, 513],
      );
      assert.deepEqual([ours[0]?.fwmark, ours[0]?.fwmask, ours[0]?.table], [0x80000001, 0xffffffff, 20481]);
      assert.equal(refusal(() => rt.apply([{ op: 'rule-add', ...rule }])).code, 'EEXIST');
      assert.equal(refusal(() => rt.apply([{ op: 'rule-del', ...rule, protocol: 99 }])).code, 'ENOENT');
      rt.apply([
        { op: 'rule-del', ...rule },
        { op: 'rule-del', family: 6, priority: 513, table: 20482 },
        { op: 'rule-del', family: 4, priority: 514, table: 100, to: parseCidr('10.0.0.0/8'), invert: true },
      ]);
      assert.equal(rt.rules().filter((it) => it.protocol === 80).length, 0);
    }));

  test('a foreign route is not deleted by its prefix', () =>
    withPair((rt, v0) => {
      const dst = parseCidr('10.7.0.0/16');
      rt.apply([{ op: 'route-add', dst, table: 254, oif: v0, protocol: 4 }]);
      assert.equal(refusal(() => rt.apply([{ op: 'route-del', dst, table: 254 }])).code, 'ESRCH');
      rt.apply([{ op: 'route-del', dst, table: 254, protocol: 0 }]);
      assert.deepEqual(rt.routes({ protocol: 4 }), []);
    }));

  test('five thousand operations and a dump of them', () =>
    withPair((rt, v0) => {
      const first = parseIp('10.128.0.0') as Ipv4;
      const ops = Array.from({ length: 5000 }, (_, i): RtOp => {
        return { op: 'route-add', dst: hostCidr(addToIp(first, i)), table: 20480, oif: v0 };
      });
      rt.apply(ops);
      assert.equal(rt.routes({ table: 20480, family: 4 }).length, 5000);
      const again = rt.tryApply(ops);
      assert.equal(again.filter((it) => it?.code === 'EEXIST').length, 5000);
      assert.equal(again[4999]?.index, 4999);
    }));

  test('a closed namespace handle is not missed: later sockets find the namespace by the first', async () => {
    const ns = createAnonymousNetns();
    using rt = RtNetlink.open(ns);
    ns.close();
    using _other = createAnonymousNetns(); // takes the number of the closed descriptor
    assert.deepEqual(await rt.applyAsync([{ op: 'bridge-add', name: 'here' }]), [null]);
    assert.equal(rt.link('here')?.kind, 'bridge');
  });

  test('a group is deleted off the main thread, all links of it and no other', () =>
    inFreshNetns(async (ns) => {
      using rt = RtNetlink.open(ns);
      rt.apply(
        Array.from({ length: 10 }, (_, i) => {
          return { op: 'veth-add', name: `g${i}`, group: i < 8 ? 77 : 78, peer: { name: `p${i}` } } as const;
        }),
      );
      let turns = 0;
      const ticking = setInterval(() => turns++, 1);
      const [first, second] = await Promise.all([
        rt.applyAsync([{ op: 'group-del', group: 77 }]),
        rt.applyAsync([{ op: 'group-del', group: 77 }]),
      ]);
      clearInterval(ticking);
      assert.deepEqual(first, [null]);
      assert.equal(second[0]?.code, 'ENODEV');
      assert.ok(turns > 0, 'the event loop stood still');
      assert.deepEqual(
        rt
          .links()
          .map((it) => it.name)
          .sort(),
        ['g8', 'g9', 'lo', 'p8', 'p9'],
      );
      assert.throws(() => rt.apply([{ op: 'group-del', group: 0 }]), RangeError);
    }));
});
