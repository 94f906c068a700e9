// ADD, DEL and CHECK on the kernel: all of a pod or nothing, whatever is in the way.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { parseCidr, parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import { deleteNetns } from '../kernel/netns.ts';
import { eni0, eni1, eni2, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';
import type { CheckTarget, PodWiring, WiredPod } from './types.ts';

describe('wiring', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  let atRest: string;
  let wired: WiredPod[] = [];
  let addsQueued = false;

  before(async () => {
    vpc = new TestVpc();
    pods = new TestPods(vpc, { addsQueued: () => addsQueued });
    await pods.datapath.syncNode(pods.state());
    atRest = vpc.snapshot('node');
  });
  after(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });
  afterEach(async () => {
    for (const pod of wired) pods.datapath.cutPod(pod);
    wired = [];
    await pods.datapath.reapLinks();
    assert.equal(vpc.snapshot('node'), atRest, 'something was left on the node');
  });

  const add = (where: string, ip: string, over: Partial<PodWiring> = {}): WiredPod => {
    const pod = pods.add(where, ip, eni1, over);
    wired.push(pod);
    return pod;
  };
  const fails = (where: string, over: Partial<PodWiring>, code: string, text: RegExp): void => {
    const wiring = pods.wiring(where, '10.0.0.121', eni1, over);
    try {
      assert.throws(
        () => pods.datapath.wirePod(wiring),
        (error) => {
          assert.ok(error instanceof PodwayError, String(error));
          assert.equal(error.code, code);
          assert.match(error.message, text);
          return true;
        },
      );
    } finally {
      wiring.netns.close();
    }
  };

  it('a pod has its address, gateway, neighbour, routes and MTU, and the node a route and an element', () => {
    const pod = add('p1', '10.0.0.120', { mtu: 8000 });
    assert.match(vpc.ip('p1', '-o -4 addr show dev eth0'), /inet 10\.0\.0\.120\/32 scope global eth0/);
    assert.deepEqual(
      vpc
        .ip('p1', '-4 route')
        .trim()
        .split('\n')
        .map((line) => line.trim().replaceAll(/ proto \S+/g, '')),
      ['default via 169.254.1.1 dev eth0 onlink', '169.254.1.1 dev eth0 scope link'],
    );
    assert.match(vpc.ip('p1', 'neigh show 169.254.1.1'), new RegExp(`lladdr ${pod.hostMac} PERMANENT`));
    assert.match(vpc.ip('p1', 'link show eth0'), new RegExp(`mtu 8000 .*link/ether ${pod.podMac}`, 's'));
    assert.match(vpc.ip('node', `link show ${pod.hostIfname}`), /mtu 8000 .*group 20480 /);
    assert.equal(
      vpc.ip('node', 'route show table 20480').trim(),
      `10.0.0.120 dev ${pod.hostIfname} proto 80 scope link`,
    );
    assert.match(
      vpc.run('node', ['nft', 'list', 'map', 'inet', 'podway', 'pods4']),
      new RegExp(`"${pod.hostIfname}" . 10\\.0\\.0\\.120 : goto eni_0_1`),
    );
    assert.equal(vpc.sysctl('node', `net.ipv4.conf.${pod.hostIfname}.rp_filter`), '0');
    assert.equal(vpc.sysctl('node', `net.ipv4.conf.${pod.hostIfname}.accept_local`), '1');
    assert.equal(vpc.sysctl('node', `net.ipv6.conf.${pod.hostIfname}.disable_ipv6`), '1');
  });

  it('MAC address and routes are as asked', () => {
    const mac = parseMac('02:aa:bb:cc:dd:ee');
    const routes = [
      { dst: parseCidr('10.0.0.0/16'), mtu: 1400 },
      { dst: parseCidr('198.51.100.0/24'), priority: 50, advmss: 1000 },
      { dst: parseCidr('192.0.2.0/24'), table: 100 },
    ];
    assert.equal(add('p2', '10.0.0.120', { mac, routes }).podMac, mac);
    assert.match(vpc.ip('p2', 'link show eth0'), /link\/ether 02:aa:bb:cc:dd:ee/);
    const text = vpc.ip('p2', '-4 route show table all');
    assert.match(text, /10\.0\.0\.0\/16 via 169\.254\.1\.1 .*mtu 1400/);
    assert.match(text, /198\.51\.100\.0\/24 via 169\.254\.1\.1 .*metric 50 onlink advmss 1000/);
    assert.match(text, /192\.0\.2\.0\/24 via 169\.254\.1\.1 dev eth0 table 100/);
    assert.doesNotMatch(text, /default/);
    assert.equal(vpc.ping('p2', PEER), true);
  });

  it('a second interface of a pod is reached, and answers, by its own address', async () => {
    add('p3', '10.0.0.120');
    const wiring = pods.wiring('p3', '10.0.0.77', eni0, { ifname: 'net1' });
    wired.push(pods.datapath.wirePod(wiring));
    wiring.netns.close();
    await vpc.serve('p3', 8080);
    assert.equal(vpc.seenFrom('peer', '10.0.0.120', 8080), PEER);
    assert.equal(vpc.seenFrom('peer', '10.0.0.77', 8080), PEER);
    assert.equal(vpc.ping('p3', PEER), true);
    assert.equal(vpc.wrongSources(), 0);
    // The sandbox stays when an interface of it goes: the rule must go too.
    assert.match(vpc.ip('p3', 'rule'), /from 10\.0\.0\.77/);
    const { hostIfname, ips } = wiring;
    pods.datapath.cutPod({ hostIfname, ips, netnsPath: wiring.netnsPath });
    assert.doesNotMatch(vpc.ip('p3', 'rule'), /10\.0\.0\./);
    pods.datapath.cutPod({ hostIfname, ips, netnsPath: wiring.netnsPath });
  });

  describe('refuses and leaves nothing', () => {
    before(() => {
      vpc.addNetns('bad');
      vpc.ip('bad', 'link add eth0 type veth peer name other');
    });

    it('an interface that the namespace has already, which stays as it is', () => {
      const was = vpc.ip('bad', 'link show eth0');
      fails('bad', {}, 'INVALID_NETNS', /has an interface eth0 already/);
      assert.equal(vpc.ip('bad', 'link show eth0'), was);
    });
    it('the node’s own namespace', () => fails('node', {}, 'INVALID_NETNS', /own network namespace/));
    it('a namespace that has lost its name', () => {
      vpc.addNetns('gone');
      const wiring = pods.wiring('gone', '10.0.0.121', eni1);
      deleteNetns(vpc.name('gone'));
      assert.throws(() => pods.datapath.wirePod(wiring), { code: 'INVALID_NETNS' });
      wiring.netns.close();
    });
    it('an ENI that is not set up', () =>
      fails('bad', { eni: eni2, ifname: 'net1' }, 'DATAPATH_CHANGED', /ENI 0\/2 is not set up/));
    it('a multicast MAC address', () =>
      fails(
        'bad',
        { mac: parseMac('01:00:5e:00:00:01'), ifname: 'net1' },
        'INVALID_CONFIG',
        /01:00:5e:00:00:01/,
      ));
    it('a route that the kernel refuses', () => {
      const wiring = pods.wiring('bad', '10.0.0.121', eni1, {
        ifname: 'net1',
        routes: [
          { dst: parseCidr('0.0.0.0/0'), advmss: 2 ** 31, priority: 1, gateway: parseIp('255.255.255.255') },
        ],
      });
      assert.throws(() => pods.datapath.wirePod(wiring), { code: 'INVALID_CONFIG', message: /route-add/ });
      wiring.netns.close();
      assert.throws(() => vpc.ip('bad', 'link show net1'));
    });
    it('an ENI whose chain somebody deleted', async () => {
      vpc.nft('node', 'delete table inet podway');
      const wiring = pods.wiring('bad', '10.0.0.121', eni1, { ifname: 'net1' });
      assert.throws(() => pods.datapath.wirePod(wiring), { code: 'DATAPATH_CHANGED' });
      wiring.netns.close();
      assert.throws(() => vpc.ip('bad', 'link show net1'));
      await pods.datapath.syncNode(pods.state({ pods: [] }));
    });
    it('an attachment that is wired, which goes on', () => {
      const wiring = pods.wiring('bad', '10.0.0.121', eni1, { ifname: 'net1' });
      wired.push(pods.datapath.wirePod(wiring));
      assert.throws(() => pods.datapath.wirePod(wiring), { code: 'ATTACHMENT_EXISTS' });
      wiring.netns.close();
      assert.equal(vpc.ping('peer', '10.0.0.121'), true);
    });
  });

  describe('cut', () => {
    it('a cut pod neither sends nor receives, at once, and its link goes soon', async () => {
      const pod = add('p4', '10.0.0.120');
      assert.equal(vpc.ping('p4', PEER), true);
      pods.datapath.cutPod({ hostIfname: pod.hostIfname });
      assert.match(vpc.ip('node', `link show ${pod.hostIfname}`), /state DOWN .*group 20481 /);
      assert.equal(vpc.ip('node', 'route show table 20480'), '');
      assert.equal(vpc.isSilent('p4', PEER), true);
      assert.equal(vpc.isSilent('peer', '10.0.0.120'), true);
      await pods.datapath.reapLinks();
      assert.throws(() => vpc.ip('p4', 'link show eth0'));
    });

    it('twice, and what was never wired, is no error', () => {
      const pod = add('p5', '10.0.0.120');
      pods.datapath.cutPod(pod);
      pods.datapath.cutPod(pod);
      pods.datapath.cutPod({ hostIfname: 'pw000000000000' });
      pods.datapath.cutPod({ hostIfname: 'pw000000000000', ips: [parseIp('10.0.0.121')] });
    });

    it('a pod whose namespace went first', () => {
      const pod = add('p6', '10.0.0.120');
      vpc.ip('node', `link del ${pod.hostIfname}`);
      pods.datapath.cutPod(pod);
    });

    it('the same attachment, or the same namespace, can be wired again before the link is gone', () => {
      vpc.addNetns('p8');
      const first = pods.wiring('p8', '10.0.0.120', eni1);
      const second = pods.wiring('p8', '10.0.0.121', eni1);
      pods.datapath.cutPod(pods.datapath.wirePod(first));
      const again = pods.datapath.wirePod(first);
      assert.equal(vpc.ping('p8', PEER), true);
      pods.datapath.cutPod(again);
      wired.push(pods.datapath.wirePod(second));
      assert.equal(vpc.ping('peer', '10.0.0.121'), true);
      first.netns.close();
      second.netns.close();
    });

    it('an attachment moves to a namespace that another has just left, before either link is gone', () => {
      for (const name of ['p10', 'p11']) vpc.addNetns(name);
      const mover = pods.wiring('p10', '10.0.0.120', eni1);
      const { netns, netnsPath, ...other } = pods.wiring('p11', '10.0.0.121', eni1);
      pods.datapath.cutPod(pods.datapath.wirePod(mover));
      pods.datapath.cutPod(pods.datapath.wirePod({ ...other, netns, netnsPath }));
      wired.push(pods.datapath.wirePod({ ...mover, netns, netnsPath }));
      assert.equal(vpc.ping('peer', '10.0.0.120'), true);
      mover.netns.close();
      netns.close();
    });

    it('deletion steps back for ADDs, up to its bound', async () => {
      const pod = add('p9', '10.0.0.120');
      addsQueued = true;
      const began = performance.now();
      pods.datapath.cutPod(pod);
      await pods.datapath.reapLinks();
      const took = performance.now() - began;
      addsQueued = false;
      assert.ok(took >= 75, `deleted after ${took} ms`);
      assert.throws(() => vpc.ip('node', `link show ${pod.hostIfname}`));
    });
  });

  describe('check', () => {
    let pod: WiredPod;
    let target: CheckTarget;
    let number = 0;
    const wire = () => {
      const where = `c${number++}`;
      pod = add(where, '10.0.0.120');
      target = {
        hostIfname: pod.hostIfname,
        ifname: 'eth0',
        netnsPath: `/run/netns/${vpc.name(where)}`,
        ips: pod.ips,
        eni: eni1,
        mac: pod.podMac,
        mtu: pod.mtu,
      };
      return where;
    };
    const wrong = () => pods.datapath.checkPod(target);

    it('right after ADD, and with an additional address and route, nothing is wrong', () => {
      const where = wire();
      assert.deepEqual(wrong(), []);
      vpc.ip(where, 'addr add 192.0.2.1/32 dev eth0');
      vpc.ip(where, 'route add 198.51.100.0/24 dev eth0');
      assert.deepEqual(wrong(), []);
    });

    const cases: [what: string, break_: (where: string) => void, says: RegExp][] = [
      [
        'address removed',
        (where) => vpc.ip(where, 'addr del 10.0.0.120/32 dev eth0'),
        /address 10\.0\.0\.120 is missing/,
      ],
      ['link down', (where) => vpc.ip(where, 'link set eth0 down'), /eth0 is down/],
      [
        'link missing',
        (where) => vpc.ip(where, 'link del eth0'),
        /eth0 is missing.*host link pw.* is missing/,
      ],
      [
        'route missing',
        (where) => vpc.ip(where, 'route del default'),
        /route 0\.0\.0\.0\/0 by eth0 is missing/,
      ],
      [
        'neighbour missing',
        (where) => vpc.ip(where, 'neigh del 169.254.1.1 dev eth0'),
        /permanent neighbour/,
      ],
      [
        'another MAC address',
        (where) => vpc.ip(where, 'link set eth0 address 02:00:00:00:99:99'),
        /has MAC address 02:00:00:00:99:99/,
      ],
      ['host link down', () => vpc.ip('node', `link set ${pod.hostIfname} down`), /host link pw.* is down/],
      [
        'host route missing',
        () => vpc.ip('node', 'route flush table 20480'),
        /route to 10\.0\.0\.120 is missing/,
      ],
      [
        'element missing',
        () => vpc.nft('node', 'flush map inet podway pods4'),
        /leads 10\.0\.0\.120 to nothing/,
      ],
      ['cut', () => pods.datapath.cutPod(pod), /is down/],
    ];
    for (const [what, breakIt, says] of cases) {
      it(`says what is wrong: ${what}`, () => {
        const where = wire();
        breakIt(where);
        assert.match(wrong().join('; '), says);
      });
    }
    it('says that a link of the node has its address', () => {
      wire();
      vpc.ip('node', 'addr add 10.0.0.120/32 dev lo');
      const found = wrong().join('; ');
      vpc.ip('node', 'addr del 10.0.0.120/32 dev lo');
      assert.match(found, /10\.0\.0\.120 is on link 1 of the node/);
    });
    it('says that the namespace is missing', () => {
      const where = wire();
      deleteNetns(vpc.name(where));
      assert.match(wrong().join('; '), /network namespace: /);
    });
  });
});
