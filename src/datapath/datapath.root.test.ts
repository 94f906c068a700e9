// The packets' way on a node, on real packets: a router that checks sources as EC2 does, a node with two ENIs, pods.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { eni0, eni1, IMDS, INTERNET, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';

const PORT = 8080;
const POD_A = '10.0.0.77'; // primary ENI
const POD_B = '10.0.0.120'; // secondary ENI
const UNHELD = '10.0.0.121'; // held by the secondary ENI, by no pod

describe('a node with two ENIs', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;

  before(async () => {
    vpc = new TestVpc();
    // The strictest filter there is elsewhere on the node: ours must win.
    vpc.sysctl('node', 'net.ipv4.conf.all.rp_filter', '1');
    pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', POD_A, eni0);
    pods.add('pod-b', POD_B, eni1);
    for (const where of ['peer', 'internet', 'node', 'pod-a', 'pod-b']) await vpc.serve(where, PORT);
  });
  after(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });
  afterEach(() => assert.equal(vpc.wrongSources(), 0, 'the router dropped packets with a wrong source'));

  const seen: [from: string, to: string, as: string][] = [
    ['pod-a', POD_B, POD_A],
    ['pod-b', POD_A, POD_B],
    ['node', POD_A, '10.0.0.10'],
    ['node', POD_B, '10.0.0.10'],
    ['pod-b', '10.0.0.10', POD_B],
    ['pod-b', '10.0.0.40', POD_B],
    ['pod-a', PEER, POD_A],
    ['pod-b', PEER, POD_B],
    ['peer', POD_A, PEER],
    ['peer', POD_B, PEER],
    ['pod-a', INTERNET, '10.0.0.10'],
    ['pod-b', INTERNET, '10.0.0.10'],
    ['node', INTERNET, '10.0.0.10'],
    // As through an Elastic IP on the pod's address: the reply leaves by the ENI it came in on, untranslated.
    ['internet', POD_A, INTERNET],
    ['internet', POD_B, INTERNET],
    ['internet', '10.0.0.10', INTERNET],
    ['internet', '10.0.0.40', INTERNET],
  ];
  for (const [from, to, as] of seen) {
    it(`${to} sees ${from} as ${as}`, () => assert.equal(vpc.seenFrom(from, to, PORT), as));
  }

  it('pods reach link-local services, as far as the hop limit lets them', () => {
    for (const pod of ['pod-a', 'pod-b']) assert.equal(vpc.ping(pod, IMDS), true, pod);
    vpc.sysctl('vpc', 'net.ipv4.ip_default_ttl', '1');
    assert.equal(vpc.ping('node', IMDS), true);
    assert.equal(vpc.isSilent('pod-b', IMDS), true);
    vpc.sysctl('vpc', 'net.ipv4.ip_default_ttl', '2');
    assert.equal(vpc.ping('pod-b', IMDS), true);
    vpc.sysctl('vpc', 'net.ipv4.ip_default_ttl', '64');
  });

  it('a packet to an address that no pod holds leaves no trace', () => {
    assert.equal(vpc.isSilent('peer', UNHELD), true);
    assert.equal(vpc.isSilent('pod-a', UNHELD), true);
    assert.equal(vpc.isSilent('pod-a', '169.254.1.1'), true);
    using nf = NfNetlink.open(vpc.node);
    assert.deepEqual(nf.conntrack({ ip: parseIp(UNHELD) }), []);
  });

  for (const strict of ['0', '1']) {
    it(`a pod cannot send with an address of another pod or of the node, rp_filter ${strict} on all`, () => {
      vpc.sysctl('node', 'net.ipv4.conf.all.rp_filter', strict);
      using nf = NfNetlink.open(vpc.node);
      // An address that nothing else here speaks to as a target.
      const target = '10.0.0.40';
      for (const source of [POD_A, '10.0.0.10', '203.0.113.99']) {
        vpc.ip('pod-b', `addr add ${source}/32 dev lo`);
        assert.equal(vpc.isSilent('pod-b', target, '-I', source), true, source);
        vpc.ip('pod-b', `addr del ${source}/32 dev lo`);
        const entered = nf
          .conntrack({ ip: parseIp(source) })
          .filter(({ orig }) => orig.dst === parseIp(target));
        assert.deepEqual(entered, [], source);
      }
      assert.equal(vpc.ping('pod-b', target), true);
      vpc.sysctl('node', 'net.ipv4.conf.all.rp_filter', '1');
    });
  }

  it('a full 9001 byte packet passes, one byte more does not', () => {
    assert.equal(vpc.ping('pod-b', PEER, '-M', 'do', '-s', '8973'), true);
    assert.equal(vpc.ping('peer', POD_B, '-M', 'do', '-s', '8973'), true);
    assert.equal(vpc.isSilent('pod-b', PEER, '-M', 'do', '-s', '8974'), true);
  });

  it('a pod learns a smaller MTU beyond the gateway, translated or not', () => {
    vpc.ip('vpc', 'link set einet mtu 1500');
    assert.equal(vpc.isSilent('pod-b', INTERNET, '-M', 'do', '-s', '4000'), true);
    assert.match(vpc.ip('pod-b', `route get ${INTERNET}`), /mtu 1500/);
    vpc.ip('vpc', 'link set einet mtu 9001');
  });

  it('peers learn a pod’s smaller MTU', () => {
    pods.add('pod-small', '10.0.0.78', eni0, { mtu: 1400 });
    assert.equal(vpc.isSilent('peer', '10.0.0.78', '-M', 'do', '-s', '4000'), true);
    assert.match(vpc.ip('peer', 'route get 10.0.0.78'), /mtu 1400/);
    assert.equal(vpc.ping('peer', '10.0.0.78', '-M', 'do', '-s', '1372'), true);
    assert.equal(vpc.ping('peer', '10.0.0.78', '-s', '4000'), true);
  });

  describe('with destination NAT by somebody else', () => {
    before(() => {
      vpc.nft(
        'node',
        `table ip others {
          chain pre { type nat hook prerouting priority -100;
            tcp dport 30001 fib daddr type local dnat to ${POD_B}:${PORT};
            tcp dport 30002 fib daddr type local dnat to ${POD_A}:${PORT};
            tcp dport 30003 fib daddr type local dnat to ${PEER}:${PORT};
            ip daddr 172.20.0.1 tcp dport 80 dnat to ${PEER}:${PORT};
            ip daddr 172.20.0.2 tcp dport 80 dnat to ${INTERNET}:${PORT}; }
          chain post { type nat hook postrouting priority 100; ip daddr ${PEER} ct original ip daddr != 172.20.0.0/16 ct status dnat masquerade; }
        }`,
      );
    });
    after(() => vpc.nft('node', 'delete table ip others'));

    for (const address of ['10.0.0.10', '10.0.0.40']) {
      it(`a node port on ${address} leads to pods of both ENIs, and replies leave by the ENI it came in on`, () => {
        assert.equal(vpc.seenFrom('internet', address, 30001), INTERNET);
        assert.equal(vpc.seenFrom('internet', address, 30002), INTERNET);
      });
      it(`a node port on ${address} leads to another node, masqueraded`, () => {
        assert.equal(vpc.seenFrom('internet', address, 30003), '10.0.0.10');
      });
    }
    it('a service’s real target decides on translation', () => {
      assert.equal(vpc.seenFrom('pod-b', '172.20.0.1', 80), POD_B);
      assert.equal(vpc.seenFrom('pod-b', '172.20.0.2', 80), '10.0.0.10');
    });
  });

  it('mark bits of others stay as they are', () => {
    vpc.nft(
      'node',
      `table ip others {
        chain pre { type filter hook prerouting priority -190; iifname "pw*" meta mark set 0xabcd4080 ct mark set 0x12340080; }
        chain passing { type filter hook forward priority 0; iifname "pw*" meta mark 0xabcd4081 ct mark 0x12340080 counter; }
      }`,
    );
    assert.equal(vpc.ping('pod-b', PEER), true);
    assert.match(vpc.run('node', ['nft', 'list', 'chain', 'ip', 'others', 'passing']), /counter packets 1 /);
    vpc.nft('node', 'delete table ip others');
  });

  describe('with snat none', () => {
    before(() => pods.datapath.syncNode(pods.state({ snat: 'none' })));
    after(() => pods.datapath.syncNode(pods.state()));
    it('pods keep their address everywhere', () => {
      assert.equal(vpc.seenFrom('pod-a', INTERNET, PORT), POD_A);
      assert.equal(vpc.seenFrom('pod-b', INTERNET, PORT), POD_B);
      assert.equal(vpc.seenFrom('internet', POD_B, PORT), INTERNET);
    });
    it('and reach link-local services all the same', () => assert.equal(vpc.ping('pod-b', IMDS), true));
  });

  it('excluded destinations see the pod’s address', async () => {
    await pods.datapath.syncNode(pods.state({ excludeSnatCidrs: [parseCidr('203.0.113.0/24')] }));
    assert.equal(vpc.seenFrom('pod-b', INTERNET, PORT), POD_B);
    await pods.datapath.syncNode(pods.state());
    assert.equal(vpc.seenFrom('pod-b', INTERNET, PORT), '10.0.0.10');
  });

  it('snat node keeps the port, random does not', async () => {
    assert.deepEqual(vpc.seenSocket('pod-b', INTERNET, PORT, 41001), { address: '10.0.0.10', port: 41001 });
    await pods.datapath.syncNode(pods.state({ snat: 'random' }));
    const ports = [41002, 41003].map((port) => vpc.seenSocket('pod-b', INTERNET, PORT, port)?.port === port);
    assert.ok(ports.includes(false), 'both connections kept their port');
    await pods.datapath.syncNode(pods.state());
  });

  it('an address is forgotten by connection tracking', async () => {
    using nf = NfNetlink.open(vpc.node);
    vpc.ping('peer', POD_B);
    assert.ok(nf.conntrack({ ip: parseIp(POD_B) }).length > 0);
    assert.ok((await pods.datapath.forgetAddress(parseIp(POD_B))) > 0);
    assert.deepEqual(nf.conntrack({ ip: parseIp(POD_B) }), []);
    assert.equal(await pods.datapath.forgetAddress(parseIp(POD_B)), 0);
  });
});
