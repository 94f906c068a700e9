// Tagged frames of a guest with a trunk, on the kernel: each tag is judged as the branch ENI it is, both ways, in both
// families; what bears no tag goes on as before; an unknown tag is counted and dropped; a process that comes anew finds
// everything as it is.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr, parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { programsOn, setProgram } from '../../kernel/bpf/hooks.ts';
import { popByIndex, pushTo } from '../../kernel/bpf/programs.ts';
import { openNetns } from '../../kernel/netns.ts';
import { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { VpcState } from '../vpc/model.ts';
import { createFabric } from './fabric.ts';
import { portName } from './names.ts';
import {
  addEni,
  addGroup,
  addInstance,
  allow,
  type Bench,
  bench,
  edit,
  eniId,
  GROUP,
  giveIpv6,
  OPEN_GROUP,
  SUBNET_B,
  skipReason,
  smallVpc,
} from './testing.ts';

const BASE = 0x500000;
const [TRUNK, BRANCH, CLOSED] = [0x71, 0xb1, 0xb2];
const CLOSED_GROUP = 'sg-0cccccccccccccccc';

const hang = (state: VpcState, branch: number, vlanId: number) => {
  const id = `trunk-assoc-${vlanId}`;
  const ends = { branchInterfaceId: eniId(branch), trunkInterfaceId: eniId(TRUNK) };
  state.trunkAssociations[id] = { id, ...ends, vlanId };
  state.networkInterfaces[eniId(branch)]!.status = 'in-use';
};

/** `node` with a trunk and two branches in the other subnet, VLAN 7 open to all and 8 closed; `db` in the first subnet. */
function shape(): VpcState {
  const state = smallVpc();
  giveIpv6(state);
  addGroup(state, OPEN_GROUP, [
    allow('ingress', '0.0.0.0/0'),
    allow('ingress', '::/0'),
    allow('egress', '0.0.0.0/0'),
    allow('egress', '::/0'),
  ]);
  addGroup(state, CLOSED_GROUP, []);
  addInstance(state, 'db', 0x0a, { ips: ['10.0.0.10'], groups: [OPEN_GROUP] });
  addInstance(state, 'node', 0x0b, { ips: ['10.0.0.11'], groups: [OPEN_GROUP] });
  addEni(state, TRUNK, { ips: ['10.0.0.71'], groups: [OPEN_GROUP], instance: 'i-node', deviceIndex: 1 });
  state.networkInterfaces[eniId(TRUNK)]!.interfaceType = 'trunk';
  addEni(state, BRANCH, { ips: ['10.0.32.71'], subnetId: SUBNET_B, groups: [OPEN_GROUP] });
  addEni(state, CLOSED, { ips: ['10.0.32.72'], subnetId: SUBNET_B, groups: [CLOSED_GROUP] });
  state.networkInterfaces[eniId(0x0a)]!.ipv6Addresses.push('2600:1f14:1:101::10');
  state.networkInterfaces[eniId(BRANCH)]!.ipv6Addresses.push('2600:1f14:1:102::71');
  state.networkInterfaces[eniId(CLOSED)]!.ipv6Addresses.push('2600:1f14:1:102::72');
  hang(state, BRANCH, 7);
  hang(state, CLOSED, 8);
  return state;
}

/** What a node does with its trunk, by hand: a namespace-wide link for each branch, with the branch's MAC and addresses. */
async function tagGuest(
  lab: Bench,
  branches: { vlan: number; number: number; ips: string[] }[],
): Promise<void> {
  await lab.linkUp('node', 'eth1');
  using ns = openNetns(`/run/netns/${lab.fabric.netnsOf('node')}`);
  using rt = RtNetlink.open(ns);
  const trunk = rt.link('eth1')!.index;
  for (const { vlan, number, ips } of branches) {
    const index = BASE + vlan;
    const mac = parseMac(`02:00:00:00:00:${number.toString(16)}`);
    rt.apply([
      { op: 'veth-add', name: `br${vlan}`, index, mac, mtu: 9001, peer: { name: `end${vlan}` } },
      { op: 'link-set', name: `end${vlan}`, up: true },
      { op: 'link-set', index, up: true },
      ...ips.map((ip) => ({
        op: 'addr-add' as const,
        index,
        ip: parseIp(ip),
        length: ip.includes(':') ? 128 : 32,
        noDad: true,
      })),
      { op: 'route-replace', dst: parseCidr('10.0.32.1/32'), table: 0x100 + vlan, oif: index, scope: 'link' },
      {
        op: 'route-replace',
        dst: parseCidr('0.0.0.0/0'),
        table: 0x100 + vlan,
        gateway: parseIp('10.0.32.1'),
        oif: index,
        onlink: true,
      },
      {
        op: 'route-replace',
        dst: parseCidr('::/0'),
        table: 0x100 + vlan,
        gateway: parseIp('fe80:ec2::1'),
        oif: index,
        onlink: true,
      },
      ...ips.map((ip) => ({
        op: 'rule-add' as const,
        family: ip.includes(':') ? (6 as const) : (4 as const),
        priority: 100,
        from: parseCidr(`${ip}/${ip.includes(':') ? 128 : 32}`),
        table: 0x100 + vlan,
      })),
    ]);
    setProgram(ns, index, 'egress', pushTo(vlan, trunk));
  }
  setProgram(ns, trunk, 'ingress', popByIndex(BASE));
}

const guest = (lab: Bench) =>
  tagGuest(lab, [
    { vlan: 7, number: BRANCH, ips: ['10.0.32.71', '2600:1f14:1:102::71'] },
    { vlan: 8, number: CLOSED, ips: ['10.0.32.72', '2600:1f14:1:102::72'] },
    { vlan: 9, number: 0xb3, ips: ['10.0.32.73'] },
  ]);

describe('a trunk in the fabric', { skip: skipReason }, () => {
  it('carries tagged frames of branches, each judged by its own groups, and others as before', async () => {
    await using lab = bench();
    const state = shape();
    await lab.fabric.apply(state);
    await guest(lab);
    await lab.serve('db', 8080, '::');
    const from = (ip: string, to = '10.0.0.10') => lab.ping('node', to, `-c1 -W1 -I ${ip}`);
    assert.equal(await from('10.0.32.71'), 1, 'an open branch');
    assert.equal(await from('10.0.32.72'), 0, 'a branch without rules');
    assert.equal(await lab.ping('node', '10.0.0.10'), 1, 'the primary ENI');
    assert.equal(await from('2600:1f14:1:102::71', '2600:1f14:1:101::10'), 1, 'IPv6');
    assert.equal(await from('2600:1f14:1:102::72', '2600:1f14:1:101::10'), 0, 'IPv6 without rules');
    assert.equal(await lab.ping('db', '10.0.32.71'), 1, 'towards an open branch');
    assert.equal(await lab.ping('db', '10.0.32.72'), 0, 'towards a closed one');
    // Replies of what is let in are tracked: db may begin, the branch may not.
    const opened = edit(state, (copy) => {
      copy.securityGroups[CLOSED_GROUP]!.rules.push(
        allow('ingress', GROUP),
        allow('ingress', '10.0.0.10/32'),
      );
    });
    await lab.fabric.apply(opened);
    assert.equal(await lab.ping('db', '10.0.32.72'), 1, 'a reply of a branch that may not begin');
    assert.equal(await from('10.0.32.72'), 0);
    // Another branch's address by this one's tag: the source check knows which ENI holds what.
    await lab.sh('node', 'ip addr add 10.0.32.99/32 dev br7');
    await lab.sh('node', 'ip rule add from 10.0.32.99 lookup 263');
    assert.equal(await from('10.0.32.99'), 0, 'a source that the branch does not hold');
    assert.equal(
      await lab.ping('node', '10.0.0.10', '-c1 -W1 -M do -s 8973 -I 10.0.32.71'),
      1,
      'the whole MTU',
    );
  });

  it('shows the tags to a capture, and counts frames of tags that no branch has', async () => {
    await using lab = bench();
    await lab.fabric.apply(shape());
    await guest(lab);
    let isOver = false;
    const capture = lab
      .sh('node', 'timeout 20 tcpdump -enli eth1 -c2 vlan 7 and icmp 2>/dev/null || true')
      .finally(() => {
        isOver = true;
      });
    // The capture begins when it begins: it is asked for until it has seen two.
    while (!isOver) await lab.sh('node', 'ping -n -c1 -W0.3 -I 10.0.32.71 10.0.0.10 >/dev/null; true');
    const seen = await capture;
    assert.match(seen, /vlan 7, .*10\.0\.32\.71 > 10\.0\.0\.10: ICMP echo request/);
    assert.match(seen, /vlan 7, .*10\.0\.0\.10 > 10\.0\.32\.71: ICMP echo reply/);
    const unknown = async () =>
      Number(
        /packets (\d+)/.exec(await lab.sh('vpc', 'nft list counter bridge podway-fabric unknown_tags'))?.[1],
      );
    assert.equal(await unknown(), 0);
    assert.equal(await lab.ping('node', '10.0.0.10', '-c1 -W0.5 -I 10.0.32.73'), 0);
    assert.ok((await unknown()) > 0, 'nobody answered for VLAN 9');
  });

  it('follows associations that come and go, and an instance that boots', async () => {
    await using lab = bench();
    const whole = shape();
    const alone = edit(whole, (copy) => {
      copy.trunkAssociations = {};
    });
    await lab.fabric.apply(alone);
    await guest(lab);
    const open = () => lab.ping('node', '10.0.0.10', '-c1 -W0.7 -I 10.0.32.71');
    assert.equal(await open(), 0);
    await lab.fabric.apply(whole);
    assert.equal(await open(), 1);
    const moved = edit(whole, (copy) => {
      copy.trunkAssociations = {};
      hang(copy, BRANCH, 8);
    });
    await lab.fabric.apply(moved);
    assert.equal(await open(), 0, 'its tag belongs to nobody now');
    await lab.fabric.apply(whole);
    assert.equal(await open(), 1);
    const rebooted = edit(whole, (copy) => {
      copy.instances['i-node']!.rebootedAt = 5;
    });
    await lab.fabric.apply(rebooted);
    await guest(lab);
    assert.equal(await open(), 1, 'the trunk has a new link');
    await lab.fabric.apply(alone);
    assert.equal(await open(), 0);
    const links = await lab.sh('vpc', 'ip -br link');
    assert.doesNotMatch(links, new RegExp(`${portName(eniId(BRANCH))}|tag`));
  });

  it('goes on while no process is alive, and is taken over and repaired by the next one', async () => {
    await using lab = bench();
    const state = shape();
    await lab.fabric.apply(state);
    await guest(lab);
    const open = () => lab.ping('node', '10.0.0.10', '-c1 -W0.7 -I 10.0.32.71');
    assert.equal(await open(), 1);
    await lab.fabric.close();
    assert.equal(await open(), 1, 'nobody is needed');
    const names = (fabric: { netnsOf(where: string): string }) => {
      using ns = openNetns(`/run/netns/${fabric.netnsOf('vpc')}`);
      using rt = RtNetlink.open(ns);
      return [
        ...programsOn(ns, rt.link(portName(eniId(TRUNK)))!.index, 'ingress'),
        ...programsOn(ns, rt.link(portName(eniId(BRANCH)))!.index, 'egress'),
      ];
    };
    const before = names(lab.fabric);
    const next = createFabric({ lab: lab.lab, dir: lab.dir });
    try {
      await next.apply(state);
      assert.deepEqual(names(next), before);
      assert.equal(await open(), 1);
      using ns = openNetns(`/run/netns/${next.netnsOf('vpc')}`);
      using rt = RtNetlink.open(ns);
      setProgram(ns, rt.link(portName(eniId(TRUNK)))!.index, 'ingress', null);
      setProgram(ns, rt.link(portName(eniId(BRANCH)))!.index, 'egress', null);
      assert.equal(await open(), 0);
      await next.repair();
      assert.deepEqual(names(next), before);
      assert.equal(await open(), 1);
    } finally {
      await next.close();
    }
  });
});
