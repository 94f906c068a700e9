// What others do to a node is noticed and put right without anybody asking; what we do ourselves is passed over.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, afterEach, before, describe, it } from 'node:test';
import { eventually } from '../../test/support/wait.ts';
import { hostLinkName } from './marks.ts';
import { ALL_PARTS, type Part } from './parts.ts';
import { eni0, eni1, eni2, INTERNET, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';
import type { Told } from './types.ts';

describe('watching', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  let watch: { close(): void };
  const concerns: Part[][] = [];
  const repairs: string[] = [];
  /** A minute passes between any two damages: nothing backs off here. */
  let minutes = 0;
  /** False: what is noticed is written down and left. */
  let isRepairing = true;

  before(async () => {
    vpc = new TestVpc();
    pods = new TestPods(vpc, {
      now: () => performance.now() + minutes * 60_000,
      onRepair: (changes) => repairs.push(...changes),
    });
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', '10.0.0.77', eni0);
    pods.add('pod-b', '10.0.0.120', eni1);
    await pods.datapath.syncNode(pods.state());
    watch = pods.datapath.watch((parts) => {
      concerns.push(parts);
      if (isRepairing) void pods.datapath.repair(parts);
    });
  });
  after(async () => {
    watch.close();
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });
  afterEach(() => {
    minutes++;
  });

  const link = (where: string) => pods.held.get(where)!.hostIfname;
  const allReach = () =>
    ['pod-a', 'pod-b'].every((from) => [PEER, INTERNET].every((to) => !vpc.isSilent(from, to))) &&
    ['10.0.0.77', '10.0.0.120', '10.0.0.40'].every((to) => !vpc.isSilent('internet', to));
  /** Everything in the kernel that others told of before this is read by now. */
  const settled = async () => {
    const mark = `pwmark${minutes}`;
    const before = concerns.length;
    vpc.ip('node', 'rule add pref 999 lookup 20480 protocol 80');
    await eventually(mark, () => concerns.length > before && !vpc.ip('node', 'rule').includes('999:'));
  };

  const damages: [what: string, damage: () => void][] = [
    ['all rules flushed', () => vpc.ip('node', 'rule flush')],
    ['pods’ routes flushed', () => vpc.ip('node', 'route flush table 20480')],
    ['the ENI’s table flushed', () => vpc.ip('node', 'route flush table 20481')],
    ['a route replaced', () => vpc.ip('node', `route replace 10.0.0.120 dev ${link('pod-a')} table 20480`)],
    ['the nft table deleted', () => vpc.nft('node', 'delete table inet podway')],
    ['all of nftables flushed', () => vpc.nft('node', 'flush ruleset')],
    ['a chain’s rules flushed', () => vpc.nft('node', 'flush chain inet podway ways')],
    [
      'an element deleted',
      () => vpc.nft('node', `delete element inet podway pods4 { "${link('pod-b')}" . 10.0.0.120 }`),
    ],
    ['a pod’s host link down', () => vpc.ip('node', `link set ${link('pod-b')} down`)],
    [
      'a pod’s host link down and up again',
      () => {
        vpc.ip('node', `link set ${link('pod-b')} down`);
        vpc.ip('node', `link set ${link('pod-b')} up`);
      },
    ],
    [
      'a pod’s host link with another MAC address',
      () => vpc.ip('node', `link set ${link('pod-b')} address 02:00:00:00:00:99`),
    ],
    ['the ENI down', () => vpc.ip('node', 'link set eth1 down')],
    ['the ENI’s address gone', () => vpc.ip('node', 'addr flush dev eth1')],
    [
      'the ENI renamed',
      () => {
        vpc.ip('node', 'link set eth1 down');
        vpc.ip('node', 'link set eth1 name ens7');
        vpc.ip('node', 'link set ens7 name eth1');
      },
    ],
    ['a pod’s address on lo', () => vpc.ip('node', 'addr add 10.0.0.120/32 dev lo')],
    ['a pod’s address on the primary', () => vpc.ip('node', 'addr add 10.0.0.77/24 dev eth0')],
    [
      'a pod’s neighbour led elsewhere',
      () =>
        vpc.ip(
          'node',
          `neigh replace 10.0.0.120 lladdr 02:00:00:00:00:99 dev ${link('pod-b')} nud permanent`,
        ),
    ],
    ['forwarding off', () => vpc.sysctl('node', 'net.ipv4.ip_forward', '0')],
    ['forwarding off on the ENI', () => vpc.sysctl('node', 'net.ipv4.conf.eth1.forwarding', '0')],
    [
      'a strict filter',
      () => {
        vpc.sysctl('node', 'net.ipv4.conf.all.rp_filter', '1');
        vpc.sysctl('node', 'net.ipv4.conf.eth1.rp_filter', '1');
      },
    ],
  ];
  for (const [what, damage] of damages) {
    it(`puts right: ${what}`, async () => {
      repairs.length = 0;
      damage();
      await eventually('a repair', () => repairs.length > 0);
      await eventually('everybody reaches everybody', allReach);
      await eventually('nothing is left to do', async () => {
        return (await pods.datapath.repair(ALL_PARTS)).changes.length === 0;
      });
    });
  }

  it('passes over what we do ourselves', async () => {
    isRepairing = false;
    vpc.attach(eni2);
    await settledLinks();
    concerns.length = 0;
    pods.add('pod-c', '10.0.0.121', eni1);
    pods.add('pod-d', '10.0.0.78', eni0);
    pods.datapath.cutPod({ hostIfname: link('pod-c') });
    await pods.datapath.reapLinks();
    pods.held.delete('pod-c');
    await pods.datapath.syncNode(pods.state({ vpcCidrs: [] }));
    await pods.datapath.syncNode(pods.state({ enis: [eni0, eni1, eni2] }));
    await pods.datapath.syncNode(pods.state());
    // The last thing that happens is somebody else's.
    vpc.ip('node', 'route add blackhole 192.0.2.1 table 20479 proto 80');
    await eventually('the last change is noticed', () => concerns.length > 0);
    assert.deepEqual(concerns, [['routes']]);
    isRepairing = true;
    vpc.detach(eni2);
    await pods.datapath.repair(ALL_PARTS);
  });
  /** The kernel tells of the ENI's link in the node as it is made. */
  const settledLinks = async () => {
    isRepairing = true;
    await settled();
    isRepairing = false;
  };

  it('passes over what others do to what is theirs', async () => {
    await settled();
    concerns.length = 0;
    vpc.ip('node', 'link add other0 type veth peer name other1');
    vpc.ip('node', 'link set other0 up');
    vpc.ip('node', 'addr add 192.168.7.1/24 dev other0');
    vpc.ip('node', 'rule add pref 100 from 192.168.7.0/24 lookup 100');
    vpc.ip('node', 'route add blackhole 192.168.9.0/24 table 100');
    vpc.nft(
      'node',
      'table inet other { set s { type ipv4_addr; }; chain c { type filter hook input priority 0; }; }',
    );
    vpc.nft('node', 'add element inet other s { 10.0.0.1 }');
    vpc.ip('node', 'route add blackhole 192.0.2.1 table 20479 proto 80');
    await eventually('the last change is noticed', () => concerns.length > 0);
    assert.deepEqual(concerns, [['routes']]);
    vpc.nft('node', 'delete table inet other');
    vpc.ip('node', 'rule del pref 100');
    vpc.ip('node', 'link del other0');
  });

  it('a link that is gone is reported as soon as it is gone', async () => {
    const lost = hostLinkName({ network: 'podway', containerId: 'lost', ifname: 'eth0' });
    assert.ok(lost);
    concerns.length = 0;
    vpc.ip('node', `link del ${link('pod-d')}`);
    await eventually('the link is missed', async () => {
      return (await pods.datapath.repair(['links'])).missingPods.includes(link('pod-d'));
    });
    await eventually('it is noticed', () => concerns.flat().includes('links'));
  });
});

describe('repairing with measure', needsRoot, () => {
  it('the third time in ten seconds it waits and tells; a pod that waits does not wait for that', async () => {
    using vpc = new TestVpc();
    let now = 0;
    const told: Told[] = [];
    const pods = new TestPods(vpc, { now: () => now, onTold: (what) => told.push(what) });
    await pods.datapath.syncNode(pods.state());
    const flush = async (urgent = false) => {
      vpc.ip('node', 'rule flush');
      now += 100;
      return pods.datapath.repair(['rules'], { urgent });
    };
    assert.ok((await flush()).changes.length > 0);
    assert.ok((await flush()).changes.length > 0);
    assert.deepEqual(
      told.map((one) => one.kind),
      ['kernel-rule', 'kernel-rule'],
    );
    const third = await flush();
    assert.deepEqual([third.changes, third.retryAt], [[], 10_200]);
    assert.match(
      told.map((one) => one.text).join('\n'),
      /keeps changing rule IPv4 512 to 10.0.0.0\/24 table 20480/,
    );
    assert.ok((await flush(true)).changes.length > 0, 'a pod waits for it');
    vpc.ip('node', 'rule flush');
    now = 10_200;
    assert.ok((await pods.datapath.repair(['rules'])).changes.length > 0, 'after ten seconds');
    await pods.datapath.close();
  });

  it('a repair that fails is no repair: it is tried again at once', async () => {
    using vpc = new TestVpc();
    const told: Told[] = [];
    const pods = new TestPods(vpc, { now: () => 0, onTold: (what) => told.push(what) });
    await pods.datapath.syncNode(pods.state());
    vpc.nft('node', 'delete table inet podway');
    // A table with an owner can be changed by nobody else, and goes with him.
    const owner = spawn('nsenter', [`--net=/run/netns/${vpc.name('node')}`, 'nft', '-i'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    owner.stdin.write('add table inet podway { flags owner; }\n');
    await eventually('it has an owner', () => vpc.nft('node', 'list tables').includes('podway'));
    for (let i = 0; i < 4; i++) await assert.rejects(pods.datapath.repair(['table']), /not permitted/);
    owner.kill('SIGKILL');
    await eventually('it is gone', () => !vpc.nft('node', 'list tables').includes('podway'));
    const { changes, retryAt } = await pods.datapath.repair(['table']);
    assert.deepEqual([changes[0], retryAt, told], ['make the nft table', null, []]);
    await pods.datapath.close();
  });

  it('report: what others change is told once and left; a new state is made', async () => {
    using vpc = new TestVpc();
    const told: Told[] = [];
    const pods = new TestPods(vpc, { repair: 'report', onTold: (what) => told.push(what) });
    await pods.datapath.syncNode(pods.state());
    vpc.ip('node', 'route flush table 20479');
    vpc.ip('node', 'addr add 10.0.0.40/24 dev eth1');
    for (let look = 0; look < 2; look++)
      assert.deepEqual((await pods.datapath.repair(ALL_PARTS)).changes, []);
    assert.equal(told.filter((one) => one.object === 'route 10.0.0.77/32 table 20479').length, 1);
    assert.ok(told.every((one) => one.kind === 'withheld'));
    vpc.attach(eni2);
    const { changes } = await pods.datapath.syncNode(pods.state({ enis: [eni0, eni1, eni2] }));
    assert.ok(changes.includes('set eth2 up'));
    assert.ok(!changes.includes('add route 10.0.0.77/32 table 20479'), 'it stays as somebody made it');
    assert.match(vpc.ip('node', 'addr show dev eth1'), /10\.0\.0\.40\/24/);
    await pods.datapath.close();
  });

  it('a pod’s address that comes back to a link is told of, and never one that others hang on', async () => {
    using vpc = new TestVpc();
    let now = 0;
    const told: Told[] = [];
    const pods = new TestPods(vpc, { now: () => now, onTold: (what) => told.push(what) });
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', '10.0.0.77', eni0);
    const put = async () => {
      vpc.ip('node', 'addr add 10.0.0.77/32 dev lo');
      return (await pods.datapath.repair(['addresses'])).changes;
    };
    assert.deepEqual(await put(), ['remove address 10.0.0.77/32 of lo, which a pod holds']);
    now = 30_000;
    assert.deepEqual(await put(), []);
    assert.match(told[0]?.text ?? '', /10\.0\.0\.77\/32 of lo, which a pod holds, is back/);
    now = 61_000;
    assert.deepEqual((await pods.datapath.repair(['addresses'])).changes.length, 1, 'a minute later');

    vpc.ip('node', 'addr add 10.0.0.77/25 dev eth0');
    vpc.ip('node', 'addr add 10.0.0.99/25 dev eth0');
    assert.deepEqual((await pods.datapath.repair(['addresses'])).changes, []);
    assert.match(told.at(-1)?.text ?? '', /stays: 10\.0\.0\.99 would go with it/);

    vpc.ip('node', 'addr add 10.0.0.121/32 dev eth0');
    await pods.datapath.repair(['addresses']);
    assert.deepEqual([...pods.datapath.onLinks().values()], ['eth0'], 'a free one is known and left');
    await pods.datapath.close();
  });
});
