import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseIp } from '../../base/ip.ts';
import { listNetns, openNetns } from '../../kernel/netns.ts';
import { NfNetlink } from '../../kernel/nfnetlink.ts';
import type { VpcState } from '../vpc/model.ts';
import { labOfNetns } from './names.ts';
import {
  addEni,
  addInstance,
  allow,
  type Bench,
  bench,
  edit,
  eniId,
  GATEWAY,
  GROUP,
  INTERNET_HOST,
  SUBNET_B,
  skipReason,
  smallVpc,
  TABLE,
  threeInstances,
} from './testing.ts';

describe('the fabric carries packets', { skip: skipReason }, () => {
  it('within a subnet and across subnets, and answers ARP for held addresses alone', async () => {
    await using lab = bench();
    await lab.fabric.apply(
      edit(threeInstances(), (state) => {
        addEni(state, 0x55, { ips: ['10.0.0.55'] });
      }),
    );
    assert.equal(await lab.ping('a', '10.0.0.11'), 1);
    assert.equal(await lab.ping('a', '10.0.32.10'), 1);
    assert.equal(await lab.ping('a', '10.0.0.1'), 1, 'the router answers');
    assert.equal(await lab.ping('vpc', '10.0.0.10'), 1, 'from the router');
    assert.equal(await lab.ping('a', '10.0.0.55'), 0, 'held, and attached to nothing');
    assert.equal(await lab.ping('a', '10.0.0.99'), 0, 'unused');
    const neighbours = await lab.sh('a', 'ip neigh');
    assert.match(neighbours, /10\.0\.0\.11 dev eth0 lladdr 02:00:00:00:00:0b/, 'the MAC of the ENI itself');
    assert.match(
      neighbours,
      /10\.0\.0\.55 dev eth0 lladdr 02:00:00:00:00:55/,
      'of an ENI that is attached to nothing',
    );
    assert.match(
      neighbours,
      /10\.0\.0\.99 dev eth0 .*(INCOMPLETE|FAILED)/,
      'nothing answers for an unused address',
    );
  });

  it('that meet the inet hooks once, also where br_netfilter is loaded', async () => {
    await using lab = bench();
    await lab.fabric.apply(smallVpc());
    assert.equal(
      await lab.sh('vpc', 'cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0'),
      '0\n',
    );
  });

  it('with the MTU of the VPC', async () => {
    await using lab = bench();
    await lab.fabric.apply(threeInstances());
    assert.equal(await lab.ping('a', '10.0.32.10', '-c1 -W1 -M do -s 8973'), 1);
    assert.equal(await lab.ping('a', '10.0.32.10', '-c1 -W1 -M do -s 8974'), 0);
  });

  it('to a secondary address as soon as it is assigned, and no longer when it is not', async () => {
    await using lab = bench();
    const before = threeInstances();
    await lab.fabric.apply(before);
    await lab.sh('b', 'ip addr add 10.0.0.77/32 dev eth0');
    assert.equal(await lab.ping('a', '10.0.0.77'), 0, 'configured in the guest, held by no ENI');
    const assigned = edit(before, (state) => {
      state.networkInterfaces[eniId(0x0b)]!.privateIps.push('10.0.0.77');
    });
    await lab.fabric.apply(assigned);
    assert.equal(await lab.ping('a', '10.0.0.77', '-c1 -W3'), 1);
    assert.equal(await lab.ping('b', '10.0.0.10', '-c1 -W1 -I 10.0.0.77'), 1, 'and from it');
    await lab.fabric.apply(before);
    assert.equal(await lab.ping('a', '10.0.0.77'), 0);
    assert.equal(await lab.ping('a', '10.0.0.11'), 1);
  });

  it('and forgets the flows of an address that is released, so that its next holder inherits none', async () => {
    await using lab = bench();
    const before = threeInstances();
    await lab.fabric.apply(
      edit(before, (state) => void state.networkInterfaces[eniId(0x0b)]!.privateIps.push('10.0.0.77')),
    );
    await lab.sh('b', 'ip addr add 10.0.0.77/32 dev eth0');
    await lab.serve('b', 8080);
    assert.notEqual(await lab.ask('a', '10.0.0.77', 8080), null);
    using router = openNetns(`/run/netns/${lab.fabric.netnsOf('vpc')}`);
    using nf = NfNetlink.open(router);
    assert.equal(nf.conntrack({ ip: parseIp('10.0.0.77') }).length, 1);
    await lab.fabric.apply(before);
    assert.equal(nf.conntrack({ ip: parseIp('10.0.0.77') }).length, 0);
  });

  it('and drops what an ENI sends under an address that it does not hold, unless its check is off', async () => {
    await using lab = bench();
    const checked = edit(threeInstances(), (state) => {
      // The receiver takes anything, so that only the sender's check can drop.
      state.securityGroups[GROUP]!.rules.push(allow('ingress', '0.0.0.0/0'));
    });
    await lab.fabric.apply(checked);
    await lab.sh('a', 'ip addr add 172.16.0.1/32 dev lo');
    const heard = async () => {
      const listening = lab.sh(
        'c',
        'timeout 1 tcpdump -lni eth0 -c1 icmp and src 172.16.0.1 2>/dev/null || true',
      );
      await lab.sh(
        'a',
        'for i in 1 2 3 4 5; do ping -n -c1 -W0.2 -I 172.16.0.1 10.0.32.10 >/dev/null; done; true',
      );
      return (await listening).includes('172.16.0.1');
    };
    assert.equal(await heard(), false);
    await lab.fabric.apply(
      edit(checked, (state) => {
        state.networkInterfaces[eniId(0x0a)]!.sourceDestCheck = false;
      }),
    );
    assert.equal(await heard(), true);
  });
});

/** An address on a second link, with the routes that make its answers leave by that link. */
const replyBy = (link: string, ip: string) =>
  `ip addr add ${ip}/32 dev ${link}; ip route add default via 10.0.0.1 dev ${link} onlink table 1001; ip rule add from ${ip} table 1001`;

/** An ENI of instance a (eth1) moves to b in one apply, in which `also` may change more. */
async function applyMove({ fabric }: Bench, also: (state: VpcState) => void = () => {}): Promise<void> {
  const before = edit(threeInstances(), (state) => {
    addEni(state, 0x1a, { ips: ['10.0.0.20'], instance: 'i-a', deviceIndex: 1 });
  });
  await fabric.apply(before);
  await fabric.apply(
    edit(before, (state) => {
      const eni = state.networkInterfaces[eniId(0x1a)]!;
      eni.attachment = { ...eni.attachment!, id: 'eni-attach-2', instanceId: 'i-b' };
      also(state);
    }),
  );
}

describe('an ENI is a link in its instance', { skip: skipReason }, () => {
  it('while it is attached; a secondary one appears down, unconfigured, with its MAC', async () => {
    await using lab = bench();
    const before = threeInstances();
    await lab.fabric.apply(before);
    const attached = edit(before, (state) => {
      addEni(state, 0x1a, { ips: ['10.0.0.20'], instance: 'i-a', deviceIndex: 1 });
    });
    await lab.fabric.apply(attached);
    const link = await lab.sh('a', 'ip addr show eth1');
    assert.match(link, /link\/ether 02:00:00:00:00:1a/);
    assert.match(link, /mtu 9001/);
    assert.match(link, /state DOWN/);
    assert.doesNotMatch(link, /inet /);
    assert.equal(await lab.ping('c', '10.0.0.20'), 0, 'down in the guest');
    await lab.linkUp('a', 'eth1');
    await lab.sh('a', replyBy('eth1', '10.0.0.20'));
    assert.equal(await lab.ping('c', '10.0.0.20'), 1);
    await lab.fabric.apply(before);
    await assert.rejects(lab.sh('a', 'ip link show eth1'));
    assert.equal(await lab.ping('c', '10.0.0.20'), 0);
    assert.equal(await lab.ping('c', '10.0.0.10'), 1);
  });

  it('moves to another instance in one apply', async () => {
    await using lab = bench();
    await applyMove(lab);
    await assert.rejects(lab.sh('a', 'ip link show eth1'));
    await lab.linkUp('b', 'eth1');
    await lab.sh('b', replyBy('eth1', '10.0.0.20'));
    assert.equal(await lab.ping('a', '10.0.0.20'), 1);
  });

  it('takes the place of one that moves on in the same apply', async () => {
    await using lab = bench();
    await applyMove(lab, (state) => {
      addEni(state, 0x1b, { ips: ['10.0.0.21'], instance: 'i-a', deviceIndex: 1 });
    });
    await lab.linkUp('a', 'eth1');
    await lab.sh('a', replyBy('eth1', '10.0.0.21'));
    assert.equal(await lab.ping('b', '10.0.0.21'), 1);
  });

  it('leaves when the instance stops and comes back configured when it starts; terminated, the namespace goes', async () => {
    await using lab = bench();
    const running = threeInstances();
    await lab.fabric.apply(running);
    const inState = (name: 'stopped' | 'terminated') =>
      edit(running, (state) => {
        state.instances['i-b']!.state = name;
      });
    await lab.fabric.apply(inState('stopped'));
    await assert.rejects(lab.sh('b', 'ip link show eth0'));
    assert.equal(await lab.ping('a', '10.0.0.11'), 0);
    await lab.fabric.apply(running);
    assert.equal(await lab.ping('a', '10.0.0.11'), 1);
    await lab.fabric.apply(inState('terminated'));
    assert.ok(!listNetns().includes(lab.fabric.netnsOf('b')));
    assert.ok(listNetns().includes(lab.fabric.netnsOf('a')));
  });
});

describe('routes and the internet gateway', { skip: skipReason }, () => {
  const withPublic = () =>
    edit(threeInstances(), (state) => {
      state.publicAddresses['203.0.113.77'] = {
        publicIp: '203.0.113.77',
        networkInterfaceId: eniId(0x0a),
        privateIp: '10.0.0.10',
        tags: {},
      };
      state.securityGroups[GROUP]!.rules.push(allow('ingress', `${INTERNET_HOST}/32`, 'tcp', [8080, 8080]));
    });

  it('translates one to one in both directions, and carries nobody without a public address', async () => {
    await using lab = bench();
    const state = withPublic();
    await lab.fabric.apply(state);
    await lab.serve('internet', 80);
    await lab.serve('a', 8080);
    assert.equal(await lab.ask('a', INTERNET_HOST, 80), `203.0.113.77 ${INTERNET_HOST} hello`);
    assert.equal(await lab.ask('internet', '203.0.113.77', 8080), `${INTERNET_HOST} 10.0.0.10 hello`);
    assert.equal(await lab.ask('b', INTERNET_HOST, 80), null, 'no public address');
    assert.equal(await lab.ping('internet', '203.0.113.77'), 0, 'the group lets in TCP 8080 alone');
    const open = await lab.stream('internet', '203.0.113.77', 8080);
    assert.match((await open.echo('1')) ?? '', / 1$/);
    await lab.fabric.apply(edit(state, (copy) => void delete copy.publicAddresses['203.0.113.77']));
    assert.equal(await lab.ask('a', INTERNET_HOST, 80), null, 'released');
    assert.equal(await open.echo('2'), null, 'a released address carries no flow');
  });

  it('lets an instance reach another by its public address', async () => {
    await using lab = bench();
    const state = edit(withPublic(), (copy) => {
      copy.publicAddresses['203.0.113.78'] = {
        publicIp: '203.0.113.78',
        networkInterfaceId: eniId(0x0c),
        privateIp: '10.0.32.10',
        tags: {},
      };
      copy.securityGroups[GROUP]!.rules.push(allow('ingress', '203.0.113.0/24', 'tcp', [8080, 8080]));
    });
    await lab.fabric.apply(state);
    await lab.serve('a', 8080);
    assert.equal(await lab.ask('c', '203.0.113.77', 8080), '203.0.113.78 10.0.0.10 hello');
  });

  it('tells the sender the path MTU of the internet', async () => {
    await using lab = bench();
    await lab.fabric.apply(withPublic());
    const output = await lab.sh(
      'a',
      `ping -n -c1 -W1 -M do -s 8000 ${INTERNET_HOST}; ip route get ${INTERNET_HOST}`,
    );
    assert.match(output, /mtu = 1500|mtu 1500/);
  });

  it('drops at a blackhole, without a gateway, and without a table entry', async () => {
    await using lab = bench();
    const state = withPublic();
    await lab.fabric.apply(state);
    assert.equal(await lab.ping('a', INTERNET_HOST), 1);
    await lab.fabric.apply(
      edit(state, (copy) => {
        delete copy.internetGateways[GATEWAY]!.vpcId;
      }),
    );
    assert.equal(await lab.ping('a', INTERNET_HOST), 0);
    await lab.fabric.apply(
      edit(state, (copy) => {
        copy.routeTables[TABLE]!.routes.pop();
      }),
    );
    assert.equal(await lab.ping('a', INTERNET_HOST), 0);
    assert.equal(await lab.ping('a', '10.0.32.10'), 1);
  });

  it('sends a prefix to an ENI whose check is off, and drops it when the check is on', async () => {
    await using lab = bench();
    const routed = (sourceDestCheck: boolean) =>
      edit(threeInstances(), (state) => {
        state.networkInterfaces[eniId(0x0c)]!.sourceDestCheck = sourceDestCheck;
        state.routeTables[TABLE]!.routes.push({
          destination: '192.168.7.0/24',
          target: { kind: 'network-interface', id: eniId(0x0c) },
        });
      });
    await lab.fabric.apply(routed(false));
    await lab.sh('c', 'ip addr add 192.168.7.1/32 dev lo');
    assert.equal(await lab.ping('a', '192.168.7.1'), 1);
    await lab.fabric.apply(routed(true));
    assert.equal(await lab.ping('a', '192.168.7.1'), 0);
  });
});

describe('callers of IMDS', { skip: skipReason }, () => {
  it('are known by the port they came in on, also from another address of their ENI', async () => {
    await using lab = bench();
    await lab.fabric.apply(
      edit(threeInstances(), (state) => {
        state.networkInterfaces[eniId(0x0b)]!.privateIps.push('10.0.0.77');
        state.instances['i-c']!.httpEndpoint = 'disabled';
      }),
    );
    const { createServer } = await import('node:http');
    const server = createServer((request, response) => {
      const caller = lab.fabric.instanceOf(request.socket.localAddress ?? '');
      response.end(`${caller?.instanceId} ${request.socket.remoteAddress}`);
    });
    await new Promise<void>((resolve) => server.listen({ fd: lab.fabric.listenImds() }, resolve));
    try {
      const get = (where: string, options = '') =>
        lab.sh(where, `curl -s -m2 ${options} http://169.254.169.254/latest/ || echo none`);
      assert.equal(await get('a'), 'i-a 10.0.0.10');
      await lab.sh('b', 'ip addr add 10.0.0.77/32 dev eth0');
      assert.equal(await get('b', '--interface 10.0.0.77'), 'i-b 10.0.0.77');
      assert.equal((await get('c')).trim(), 'none', 'switched off');
      // The address that tells callers apart is no way in for who would be another.
      await lab.sh('a', 'ip route add 240.0.0.0/4 via 10.0.0.1');
      assert.equal(
        (
          await lab.sh(
            'a',
            'for i in 2 3 4 5 6 7 8 9; do curl -s -m1 http://240.0.0.$i:8169/ && echo; done; true',
          )
        ).trim(),
        '',
      );
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe('a fabric goes', { skip: skipReason }, () => {
  it('and leaves nothing, also when another process made it', async () => {
    const before = listNetns();
    const lab = bench();
    await lab.fabric.apply(threeInstances());
    await lab.fabric.close();
    {
      await using successor = bench({ lab: lab.lab, dir: lab.dir });
      await successor.fabric.destroy();
      await successor.fabric.destroy();
    }
    assert.deepEqual(
      listNetns().filter((name) => labOfNetns(name) === lab.lab),
      [],
    );
    assert.ok(before.length <= listNetns().length + 50);
    await lab[Symbol.asyncDispose]();
  });

  it('without touching a lab whose name begins with its own', async () => {
    await using one = bench();
    await using other = bench({ lab: `${one.lab}-x` });
    await one.fabric.apply(smallVpc());
    await other.fabric.apply(
      edit(
        smallVpc(),
        (state) => void addInstance(state, 'a', 1, { ips: ['10.0.32.5'], subnetId: SUBNET_B }),
      ),
    );
    await one.fabric.destroy();
    assert.equal(listNetns().filter((name) => labOfNetns(name) === other.lab).length, 3);
  });
});
