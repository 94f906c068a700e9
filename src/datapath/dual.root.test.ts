// Pods with an address of each family, and with IPv6 alone: what ADD makes, where packets go and with which source, what a
// repair puts back, and that nothing is left. Real packets through the small VPC.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { eni0, eni1, IMDS, INTERNET, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';
import { addSix, dual0, dual1, IMDS6, INTERNET6, PEER6 } from './testing-six.ts';
import type { Eni, PodWiring, WiredPod } from './types.ts';

const P0 = ['10.0.0.77', '2001:db8:1:0:a::77'];
const P1 = ['10.0.0.120', '2001:db8:1:0:b::1'];
const SIX = '2001:db8:1:0:b:0:0:2';

describe('both families', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  let pristine: string;
  let atRest: string;
  let wired: WiredPod[] = [];
  const state = () => pods.state({ enis: [dual0, dual1] });

  before(async () => {
    vpc = new TestVpc();
    addSix(vpc);
    pristine = vpc.snapshot('node');
    pods = new TestPods(vpc);
    await pods.datapath.syncNode(state());
    atRest = vpc.snapshot('node');
  });
  after(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });
  afterEach(async () => {
    for (const pod of wired) pods.datapath.cutPod(pod);
    for (const where of pods.held.keys()) vpc.removeNetns(where);
    pods.held.clear();
    wired = [];
    await pods.datapath.reapLinks();
    assert.equal(vpc.snapshot('node'), atRest, 'something was left on the node');
    assert.equal(vpc.ip('node', '-6 route show table 20480').trim(), '');
  });

  const add = (where: string, ips: readonly string[], eni: Eni, over: Partial<PodWiring> = {}): WiredPod => {
    const pod = pods.add(where, ips[0]!, eni, { ips: ips.map(parseIp), ...over });
    wired.push(pod);
    return pod;
  };
  const sixOf = (where: string) =>
    vpc
      .ip(where, '-6 route')
      .trim()
      .split('\n')
      .map((line) => line.trim().replaceAll(/ proto \S+| pref \S+/g, ''));
  const check = (where: string, pod: WiredPod, eni: Eni) =>
    pods.datapath.checkPod({
      hostIfname: pod.hostIfname,
      ifname: 'eth0',
      netnsPath: `/run/netns/${vpc.name(where)}`,
      ips: pod.ips,
      eni,
    });

  it('the node forwards, keeps its own default route by advertisements, and takes all back', async () => {
    const read = (key: string) => vpc.sysctl('node', `net.ipv6.conf.${key}`);
    assert.deepEqual(['all.forwarding', 'eth0.accept_ra', 'eth1.accept_ra'].map(read), ['1', '2', '0']);
    const modes = () => ['eth0', 'eth1'].map((link) => read(`${link}.addr_gen_mode`));
    assert.deepEqual(modes(), ['0', '1'], 'the secondary ENI has no link-local address of the kernel’s own');
    await pods.datapath.removeAll();
    assert.equal(vpc.snapshot('node'), pristine);
    assert.deepEqual(modes(), ['0', '0']);
    vpc.ip('node', 'link set eth1 up');
    assert.match(vpc.ip('node', '-6 addr show dev eth1'), /inet6 fe80::ff:fe00:11\/64/);
    vpc.ip('node', 'link set eth1 down');
    await pods.datapath.syncNode(state());
    assert.equal(vpc.snapshot('node'), atRest);
  });

  it('a pod has both addresses at once, none of them tentative', () => {
    const pod = add('p1', P1, dual1);
    const addresses = vpc.ip('p1', '-o -6 addr show dev eth0');
    assert.match(addresses, /inet6 2001:db8:1:0:b::1\/128 scope global nodad/);
    assert.match(addresses, /inet6 fe80::\S+\/64 scope link nodad/);
    assert.doesNotMatch(addresses, /tentative|dadfailed/);
    assert.doesNotMatch(vpc.ip('node', `-6 addr show dev ${pod.hostIfname}`), /tentative/);
    assert.deepEqual(
      sixOf('p1').filter((line) => line.startsWith('default')),
      ['default via fe80::1 dev eth0 metric 1024'],
    );
    assert.match(vpc.ip('p1', 'neigh show fe80::1'), new RegExp(`lladdr ${pod.hostMac} PERMANENT`));
    assert.equal(vpc.sysctl('p1', 'net.ipv6.conf.eth0.accept_ra'), '0');
    assert.deepEqual(pod.gateways.map(String), [parseIp('169.254.1.1'), parseIp('fe80::1')].map(String));
    assert.match(vpc.ip('node', '-6 route show table 20480'), /^2001:db8:1:0:b::1 dev pw\w+ proto 80/);
    assert.match(
      vpc.run('node', ['nft', 'list', 'map', 'inet', 'podway', 'pods6']),
      new RegExp(`"${pod.hostIfname}" . 2001:db8:1:0:b::1 : goto eni_0_1`),
    );
    assert.deepEqual(check('p1', pod, dual1), []);
  });

  it('a pod whose IPv6 address comes first is wired, checked and found like the other', () => {
    const pod = add('p1', P1.toReversed(), dual1);
    assert.deepEqual(pod.ips, P1.toReversed().map(parseIp));
    assert.deepEqual(pod.gateways, ['fe80::1', '169.254.1.1'].map(parseIp));
    assert.deepEqual(check('p1', pod, dual1), []);
    for (const ip of [PEER, PEER6]) assert.ok(vpc.ping('p1', ip), ip);
  });

  it('a pod with IPv6 alone reaches IPv4 hosts with the node’s address, where it may', async () => {
    const egress = { enis: [dual0, dual1], egress4: true };
    await pods.datapath.syncNode(pods.state(egress));
    const pod = add('six', [SIX, '169.254.172.1'], dual1);
    add('p0', P0, dual0);
    await vpc.serve('internet', 8084);
    await vpc.serve('peer', 8085);
    assert.equal(vpc.seenFrom('six', INTERNET, 8084), '10.0.0.10');
    assert.equal(vpc.seenFrom('six', PEER, 8085), '10.0.0.10', 'inside the VPC, too');
    assert.equal(vpc.seenFrom('six', INTERNET6, 8084), '2001:db8:1:0:b::2', 'IPv6 with its own');
    assert.ok(vpc.ping('six', IMDS));
    assert.ok(vpc.ping('six', P0[0]!), 'a pod of the same node');
    assert.equal(vpc.wrongSources(), 0);
    assert.deepEqual(check('six', pod, dual1), []);
    assert.deepEqual((await pods.datapath.syncNode(pods.state(egress))).changes, []);
    pods.datapath.cutPod(wired.shift()!);
    pods.held.delete('six');
    vpc.removeNetns('six');
    await pods.datapath.syncNode(state());
  });

  it('an MTU below the least of IPv6 is refused by name, and leaves nothing', () => {
    assert.throws(() => add('small', P1, dual1, { mtu: 1200 }), /mtu is 1200, below 1280/);
    vpc.removeNetns('small');
    add('least', P1, dual1, { mtu: 1280 });
    assert.ok(vpc.ping('least', PEER6, '-s', '1232', '-M', 'do'));
  });

  it('a pod with IPv6 alone has nothing of IPv4', () => {
    const pod = add('six', [SIX], dual1);
    assert.equal(vpc.ip('six', '-4 addr show dev eth0').trim(), '');
    assert.equal(vpc.ip('six', '-4 route').trim(), '');
    assert.ok(vpc.ping('six', PEER6));
    assert.deepEqual(check('six', pod, dual1), []);
  });

  it('a node that turns IPv6 off for new links changes nothing', () => {
    vpc.sysctl('node', 'net.ipv6.conf.default.disable_ipv6', '1');
    try {
      vpc.addNetns('off');
      vpc.sysctl('off', 'net.ipv6.conf.all.disable_ipv6', '1');
      const wiring = pods.wiring('off', P1[0]!, dual1, { ips: P1.map(parseIp) });
      wired.push(pods.datapath.wirePod(wiring));
      pods.held.set('off', { hostIfname: wiring.hostIfname, ips: wiring.ips, eni: dual1 });
      wiring.netns.close();
      assert.ok(vpc.ping('off', PEER6));
    } finally {
      vpc.sysctl('node', 'net.ipv6.conf.default.disable_ipv6', '0');
    }
  });

  it('pods, node, peer and internet reach each other in both families, and see the real source', async () => {
    add('p0', P0, dual0);
    add('p1', P1, dual1);
    for (const [from, to] of [
      ['p0', P1],
      ['p1', P0],
      ['node', P0],
      ['node', P1],
      ['peer', P0],
      ['peer', P1],
      ['internet', [P0[1]!]],
      ['internet', [P1[1]!]],
      ['p0', [PEER, PEER6, '2001:db8:1::10', INTERNET6]],
      ['p1', [PEER, PEER6, '2001:db8:1::10', INTERNET6]],
    ] as [string, string[]][])
      for (const ip of to) assert.ok(vpc.ping(from, ip), `${from} to ${ip}`);
    await vpc.serve('peer', 8081);
    await vpc.serve('internet', 8082);
    await vpc.serve('p1', 8083);
    assert.equal(vpc.seenFrom('p1', PEER6, 8081), '2001:db8:1:0:b::1');
    assert.equal(vpc.seenFrom('p0', PEER6, 8081), '2001:db8:1:0:a::77');
    assert.equal(vpc.seenFrom('p1', INTERNET6, 8082), '2001:db8:1:0:b::1', 'no translation of IPv6');
    assert.equal(vpc.seenFrom('p0', P1[1]!, 8083), '2001:db8:1:0:a::77');
    assert.equal(vpc.seenFrom('peer', P1[1]!, 8083), PEER6);
    assert.equal(vpc.wrongSources(), 0, 'the VPC dropped something for its source');
  });

  it('the services of the VPC see the node, by the primary ENI', () => {
    add('p1', P1, dual1);
    assert.ok(vpc.ping('p1', IMDS6));
    assert.equal(vpc.wrongSources(), 0);
  });

  it('a pod can use no IPv6 address that it does not hold', () => {
    add('p1', P1, dual1);
    vpc.ip('p1', 'addr add 2001:db8:1:0:b::99/128 dev eth0 nodad');
    assert.ok(vpc.isSilent('p1', PEER6, '-I', '2001:db8:1:0:b::99'));
    assert.ok(vpc.ping('p1', PEER6, '-I', '2001:db8:1:0:b::1'));
  });

  it('nobody holds the rest of a /80: a process of the node hears it, others nothing', () => {
    add('p1', P1, dual1);
    const held = vpc.ip('node', 'route get 2001:db8:1:0:b::1 from 2001:db8:1::20 iif eth1');
    assert.match(held, /dev pw/);
    assert.throws(() => vpc.ip('node', 'route get 2001:db8:1:0:b::9'), /unreachable|No route/);
    assert.ok(vpc.isSilent('peer', '2001:db8:1:0:b::9'));
    assert.equal(
      vpc.ip('node', '-6 route show table 20479').trim().split('\n').length,
      2,
      'one for each /80',
    );
  });

  it('the pod finds its gateway after somebody flushed its neighbours', () => {
    add('p1', P1, dual1);
    vpc.ip('p1', 'neigh flush all nud permanent');
    vpc.ip('p1', 'neigh flush all');
    assert.ok(vpc.ping('p1', PEER6));
  });

  it('what others take away is back after a repair', async () => {
    const pod = add('p1', P1, dual1);
    const damages: [string, () => void][] = [
      ['routes', () => vpc.ip('node', '-6 route flush table 20480')],
      ['routes', () => vpc.ip('node', '-6 route flush table 20481')],
      ['rules', () => vpc.ip('node', '-6 rule flush')],
      ['addresses', () => vpc.ip('node', `addr del fe80::1/128 dev ${pod.hostIfname}`)],
      ['links', () => vpc.ip('node', `link set ${pod.hostIfname} down`)],
      ['sysctls', () => vpc.sysctl('node', 'net.ipv6.conf.all.forwarding', '0')],
      ['sysctls', () => vpc.sysctl('node', `net.ipv6.conf.${pod.hostIfname}.disable_ipv6`, '1')],
      ['elements', () => vpc.nft('node', 'flush map inet podway pods6')],
      ['table', () => vpc.nft('node', 'delete table inet podway')],
    ];
    for (const [what, damage] of damages) {
      await pods.datapath.syncNode(state());
      assert.ok(vpc.ping('p1', PEER6), `before: ${what}`);
      vpc.ip('node', `neigh flush dev ${pod.hostIfname}`);
      damage();
      await pods.datapath.repair(['links', 'addresses', 'rules', 'routes', 'sysctls', 'elements', 'table'], {
        urgent: true,
      });
      assert.deepEqual(check('p1', pod, dual1), [], what);
      assert.ok(vpc.ping('p1', PEER6), what);
      assert.ok(vpc.ping('peer', P1[1]!), what);
    }
  });

  it('a cut removes both elements, also where others took one of them away', () => {
    for (const taken of [[], ['pods4'], ['pods6'], ['pods4', 'pods6']]) {
      const pod = add('p1', P1, dual1);
      for (const map of taken) vpc.nft('node', `flush map inet podway ${map}`);
      pods.datapath.cutPod(pod);
      const table = vpc.run('node', ['nft', 'list', 'table', 'inet', 'podway']);
      assert.doesNotMatch(table, /goto eni_0_1/, taken.join());
      vpc.removeNetns('p1');
      pods.held.delete('p1');
    }
  });

  it('a second sync changes nothing, and a new process finds the pods', async () => {
    add('p1', P1, dual1);
    add('six', [SIX], dual1);
    await pods.datapath.syncNode(state());
    assert.deepEqual((await pods.datapath.syncNode(state())).changes, []);
    const again = new TestPods(vpc);
    try {
      const found = again.datapath.standing().pods.map(({ ips }) => ips.map(String));
      assert.deepEqual(
        found.sort((a, b) => b.length - a.length),
        [P1.map((ip) => String(parseIp(ip))), [String(parseIp(SIX))]],
      );
      assert.deepEqual(
        (await again.datapath.syncNode(state())).changes.filter((text) => !/nft table/.test(text)),
        [],
      );
    } finally {
      await again.datapath.close();
    }
  });

  it('IPv4 pods go on when the node gets and loses IPv6', async () => {
    await pods.datapath.syncNode(pods.state({ enis: [eni0, eni1] }));
    const pod = add('p1', [P1[0]!], eni1);
    assert.equal(vpc.sysctl('node', `net.ipv6.conf.${pod.hostIfname}.disable_ipv6`), '1');
    await pods.datapath.syncNode(state());
    assert.ok(vpc.ping('p1', PEER));
    add('six', [SIX], dual1);
    assert.ok(vpc.ping('six', PEER6));
    pods.datapath.cutPod(wired.pop()!);
    pods.held.delete('six');
    await pods.datapath.reapLinks();
    await pods.datapath.syncNode(pods.state({ enis: [eni0, eni1] }));
    assert.ok(vpc.ping('p1', PEER));
    assert.doesNotMatch(vpc.run('node', ['nft', 'list', 'table', 'inet', 'podway']), /ip6|pods6/);
    assert.doesNotMatch(vpc.ip('node', '-6 rule'), /lookup (2048|2047)/);
    vpc.removeNetns('six');
    await pods.datapath.syncNode(state());
  });
});
