// IPv6 on real packets: what an instance is given, who is reached, what is dropped, and that a fresh look at the kernel
// finds what the last one made.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseIp } from '../../base/ip.ts';
import { openNetns } from '../../kernel/netns.ts';
import { NfNetlink } from '../../kernel/nfnetlink.ts';
import type { VpcState } from '../vpc/model.ts';
import {
  addEni,
  allow,
  bench,
  edit,
  eniId,
  GROUP,
  giveIpv6,
  skipReason,
  TABLE,
  threeInstances,
  VPC,
} from './testing.ts';

const A = '2600:1f14:1:101::a';
const B = '2600:1f14:1:101::b';
const C = '2600:1f14:1:102::c';
const PREFIX = '2600:1f14:1:101:8000::/80';
const POD = '2600:1f14:1:101:8000::7';
const HOST = '2001:db8:113::10';

/** a and b in one subnet, c in another; the groups let the members talk and everything out. */
function dual(): VpcState {
  const state = threeInstances();
  giveIpv6(state);
  for (const [number, ip] of [
    [0x0a, A],
    [0x0b, B],
    [0x0c, C],
  ] as const)
    state.networkInterfaces[eniId(number)]!.ipv6Addresses = [ip];
  return state;
}

const withPrefix = (state: VpcState): VpcState =>
  edit(state, (copy) => void copy.networkInterfaces[eniId(0x0b)]!.ipv6Prefixes.push(PREFIX));

describe('the fabric carries IPv6', { skip: skipReason }, () => {
  it('between instances whose only neighbour is the router at fe80:ec2::1', async () => {
    await using lab = bench();
    await lab.fabric.apply(dual());
    assert.equal(await lab.ping('a', B), 1);
    assert.equal(await lab.ping('a', C), 1);
    assert.equal(await lab.ping('a', 'fe80:ec2::1%eth0'), 1);
    assert.equal(await lab.ping('a', '2600:1f14:1:101::1'), 1, "the router's address in the subnet");
    assert.match(await lab.sh('a', 'ip -6 route show default'), /^default via fe80:ec2::1 dev eth0 /);
    assert.doesNotMatch(await lab.sh('a', 'ip -6 addr'), /tentative/);
    const neighbours = (await lab.sh('a', 'ip -6 neigh')).trim().split('\n');
    assert.deepEqual(
      neighbours.map((line) => line.split(' ')[0]),
      ['fe80:ec2::1'],
    );
    assert.equal(await lab.ping('a', '2600:1f14:1:101::99'), 0, 'held by nobody');
    assert.equal(await lab.ping('a', '2600:1f14:1:103::1'), 0, 'of no subnet');
  });

  it('for every address of a /80 once it is assigned, and no longer when it is not', async () => {
    await using lab = bench();
    await lab.fabric.apply(dual());
    await lab.sh('b', `ip addr add ${POD}/128 dev lo`);
    await lab.serve('b', 8080, '::');
    assert.equal(await lab.ping('a', POD), 0);
    await lab.fabric.apply(withPrefix(dual()));
    assert.equal(await lab.ping('a', POD), 1);
    assert.equal(await lab.ping('b', A, `-c1 -W0.5 -I ${POD}`), 1, 'and from it');
    assert.equal(await lab.ask('a', POD, 8080), `${A} ${POD} hello`);
    using router = openNetns(`/run/netns/${lab.fabric.netnsOf('vpc')}`);
    using nf = NfNetlink.open(router);
    assert.notEqual(nf.conntrack({ ip: parseIp(POD) as never }).length, 0);
    await lab.fabric.apply(dual());
    assert.equal(nf.conntrack({ ip: parseIp(POD) as never }).length, 0, 'its flows are forgotten');
    assert.equal(await lab.ping('a', POD), 0);
    assert.equal(await lab.ping('a', B), 1);
  });

  it('and drops a source that the ENI does not hold, unless its check is off', async () => {
    await using lab = bench();
    const open = edit(dual(), (state) => {
      state.securityGroups[GROUP]!.rules.push(allow('ingress', '::/0'));
    });
    await lab.fabric.apply(open);
    await lab.sh('c', 'ip -6 addr add 2600:1f14:1:101::99/128 dev lo');
    await lab.sh('a', 'ip -6 addr add 2600:1f14:1:101::99/128 dev lo');
    const drops = async () =>
      Number(/icmp6InEchos\s+(\d+)/i.exec(await lab.sh('b', 'grep Icmp6InEchos /proc/net/snmp6'))?.[1] ?? 0);
    const before = await drops();
    await lab.ping('a', B, '-c1 -W0.3 -I 2600:1f14:1:101::99');
    assert.equal(await drops(), before);
    await lab.fabric.apply(
      edit(open, (state) => {
        state.networkInterfaces[eniId(0x0a)]!.sourceDestCheck = false;
      }),
    );
    await lab.ping('a', B, '-c1 -W0.3 -I 2600:1f14:1:101::99');
    assert.equal(await drops(), before + 1);
  });

  it('through both gates of the groups, by group, range and ICMPv6 type', async () => {
    await using lab = bench();
    await lab.fabric.apply(dual());
    await lab.serve('c', 80, '::');
    await lab.serve('c', 81, '::');
    assert.notEqual(await lab.ask('a', C, 80), null, 'members of the group');
    const ranged = edit(dual(), (state) => {
      state.securityGroups[GROUP]!.rules = [
        allow('egress', '::/0'),
        allow('ingress', '2600:1f14:1:101::/64', 'tcp', [80, 80]),
        allow('ingress', '::/0', 'icmpv6', [128, -1]),
        allow('egress', '0.0.0.0/0'),
        allow('ingress', '0.0.0.0/0', 'tcp', [81, 81]),
      ];
    });
    await lab.fabric.apply(ranged);
    assert.notEqual(await lab.ask('a', C, 80), null);
    assert.equal(await lab.ask('a', C, 81), null, 'an IPv4 range says nothing of IPv6');
    assert.equal(await lab.ping('a', C), 1);
    await lab.fabric.apply(
      edit(ranged, (state) => {
        const group = state.securityGroups[GROUP]!;
        group.rules = group.rules.filter((rule) => rule.peer.kind !== 'cidr' || rule.peer.cidr !== '::/0');
      }),
    );
    assert.equal(await lab.ask('a', C, 80), null, 'the sender is not let out');
    assert.equal(await lab.ping('a', '10.0.32.10'), 0);
  });

  it('to and from the internet by an internet gateway, and only out by an egress-only one', async () => {
    await using lab = bench();
    const open = edit(dual(), (state) => {
      state.securityGroups[GROUP]!.rules.push(allow('ingress', '::/0'));
    });
    await lab.fabric.apply(open);
    await lab.serve('internet', 80, '::');
    await lab.serve('a', 80, '::');
    assert.equal(await lab.ask('a', HOST, 80), `${A} ${HOST} hello`, 'under its own address');
    assert.equal(await lab.ask('internet', A, 80), `${HOST} ${A} hello`);
    const egressOnly = edit(open, (state) => {
      state.egressOnlyInternetGateways['eigw-1'] = { id: 'eigw-1', vpcId: VPC, tags: {} };
      const table = state.routeTables[TABLE]!;
      table.routes = table.routes.map((route) =>
        route.destination === '::/0'
          ? { ...route, target: { kind: 'egress-only-internet-gateway', id: 'eigw-1' } }
          : route,
      );
    });
    await lab.fabric.apply(egressOnly);
    assert.equal(await lab.ask('a', HOST, 80), `${A} ${HOST} hello`);
    assert.equal(await lab.ask('internet', A, 80), null);
    await lab.fabric.apply(
      edit(egressOnly, (state) => void delete state.egressOnlyInternetGateways['eigw-1']),
    );
    assert.equal(await lab.ask('a', HOST, 80), null, 'the gateway is gone');
    assert.equal(await lab.ping('a', B), 1);
  });

  it('with the largest packets of the VPC, and tells a sender of the internet’s smaller ones', async () => {
    await using lab = bench();
    await lab.fabric.apply(dual());
    assert.equal(await lab.ping('a', C, '-c1 -W1 -M do -s 8953'), 1);
    assert.equal(await lab.ping('a', C, '-c1 -W1 -M do -s 8954'), 0);
    const output = await lab.sh('a', `ping -n -c1 -W1 -M do -s 4000 ${HOST} 2>&1 || true`);
    assert.match(output, /From 2600:1f14:1:101::1 .*Packet too big: mtu=1500/);
  });

  it('after a restart of the lab, and after somebody broke it', async () => {
    await using first = bench();
    const state = withPrefix(dual());
    await first.fabric.apply(state);
    await first.sh('b', `ip addr add ${POD}/128 dev lo`);
    assert.equal(await first.ping('a', POD), 1);
    const routes = await first.sh('vpc', 'ip -6 route show table 20224');
    await first.fabric.close();
    const second = bench({ lab: first.lab, dir: first.dir });
    await second.fabric.apply(state);
    assert.equal(await second.sh('vpc', 'ip -6 route show table 20224'), routes);
    assert.equal(await second.ping('a', POD), 1);
    await second.sh('vpc', `ip -6 route del ${PREFIX} table 20224; ip -6 rule del priority 1001`);
    await second.sh('vpc', 'nft delete table ip6 podway-fabric');
    assert.equal(await second.ping('a', POD), 0);
    await second.fabric.repair();
    assert.equal(await second.ping('a', POD), 1);
    assert.equal(await second.ping('c', A), 1);
    await second.fabric.close();
  });

  it('on an instance that gets its first address while it runs', async () => {
    await using lab = bench();
    const without = threeInstances();
    await lab.fabric.apply(without);
    assert.equal(await lab.sh('vpc', 'ip -6 addr; ip -6 route; nft list tables | grep ip6 || true'), '');
    await lab.fabric.apply(dual());
    assert.equal(await lab.ping('a', C), 1);
    await lab.fabric.apply(
      edit(dual(), (state) => {
        addEni(state, 0x1a, { ips: ['10.0.0.20'], instance: 'i-a', deviceIndex: 1 }).ipv6Addresses = [
          '2600:1f14:1:101::1a',
        ];
      }),
    );
    await lab.linkUp('a', 'eth1');
    assert.match(await lab.sh('a', 'ip -6 addr show dev eth1'), /fe80::ff:fe00:1a\/64 scope link/);
    assert.doesNotMatch(await lab.sh('a', 'ip -6 addr show dev eth1'), /global/);
    await lab.fabric.apply(without);
    assert.equal(await lab.ping('a', C), 0, 'the block is gone');
    assert.equal(await lab.sh('vpc', 'nft list tables | grep ip6 || true'), '');
    assert.equal(await lab.ping('a', '10.0.32.10'), 1);
  });
});
