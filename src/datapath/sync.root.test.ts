// Reconciling on the kernel: once is enough, whatever others did is put right, running pods notice nothing, what is not
// ours is not touched, and nothing is left in the end, whenever a kill came.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { formatIp, parseCidr, parseIp } from '../base/ip.ts';
import { createDatapath } from './datapath.ts';
import {
  eni0,
  eni1,
  eni2,
  INTERNET,
  needsRoot,
  nodeState,
  PEER,
  quiet,
  TestPods,
  TestVpc,
} from './testing.ts';
import type { HeldPod } from './types.ts';

describe('sync', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  const repairs: string[] = [];
  /** A minute passes between any two damages: nothing backs off here. */
  let minutes = 0;
  const now = () => performance.now() + minutes * 60_000;

  before(async () => {
    vpc = new TestVpc();
    pods = new TestPods(vpc, { now, onRepair: (changes) => repairs.push(...changes) });
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', '10.0.0.77', eni0);
    pods.add('pod-b', '10.0.0.120', eni1);
  });
  after(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });

  const allReach = () => {
    for (const from of ['pod-a', 'pod-b'])
      for (const to of [PEER, INTERNET]) assert.ok(vpc.ping(from, to), `${from} to ${to}`);
    for (const to of ['10.0.0.77', '10.0.0.120', '10.0.0.40'])
      assert.ok(vpc.ping('internet', to), `internet to ${to}`);
    assert.equal(vpc.isSilent('peer', '10.0.0.121'), true);
    assert.equal(vpc.wrongSources(), 0);
  };

  it('a second sync changes nothing', async () => {
    const before = vpc.snapshot('node');
    assert.deepEqual(await pods.datapath.syncNode(pods.state()), {
      changes: [],
      missingPods: [],
      absent: [],
      retryAt: null,
    });
    assert.equal(vpc.snapshot('node'), before);
  });

  const pod = () => pods.held.get('pod-b')!.hostIfname;
  const damages: [what: string, damage: () => void][] = [
    ['the nft table deleted', () => vpc.nft('node', 'delete table inet podway')],
    ['all of nftables flushed', () => vpc.nft('node', 'flush ruleset')],
    [
      'a table of another layout',
      () =>
        vpc.nft(
          'node',
          'delete table inet podway\nadd table inet podway\nadd map inet podway pods4 { type ipv4_addr : verdict; }\nadd chain inet podway ways { type filter hook input priority 5; }',
        ),
    ],
    ['one chain’s rules flushed', () => vpc.nft('node', 'flush chain inet podway from_pod')],
    ['a rule added to our chain', () => vpc.nft('node', 'insert rule inet podway ways drop')],
    ['the VPC’s CIDRs flushed', () => vpc.nft('node', 'flush set inet podway exempt4')],
    ['the pods’ map flushed', () => vpc.nft('node', 'flush map inet podway pods4')],
    [
      'a stray element',
      () => vpc.nft('node', 'add element inet podway pods4 { "lo" . 10.9.9.9 : goto eni_0_1 }'),
    ],
    ['all rules flushed, the kernel’s own too', () => vpc.ip('node', 'rule flush')],
    ['the gateway’s address gone', () => vpc.ip('node', 'addr flush dev lo scope link')],
    ['policy rules flushed, as systemd-networkd does', () => vpc.ip('node', 'rule flush protocol 80')],
    [
      'rules doubled',
      () => vpc.ip('node', 'rule add pref 512 to 10.0.0.0/24 lookup 20480 protocol 80 suppress_ifgroup 4000'),
    ],
    ['a rule of ours without its prefix', () => vpc.ip('node', 'rule add pref 512 lookup 20480 protocol 80')],
    ['pods’ routes flushed', () => vpc.ip('node', 'route flush table 20480')],
    ['black holes flushed', () => vpc.ip('node', 'route flush table 20479')],
    ['the ENI’s table flushed', () => vpc.ip('node', 'route flush table 20481')],
    ['the ENI down', () => vpc.ip('node', 'link set eth1 down')],
    ['the ENI’s address gone', () => vpc.ip('node', 'addr flush dev eth1')],
    ['the ENI configured by a cloud image', () => vpc.ip('node', 'addr add 10.0.0.40/24 dev eth1')],
    ['a pod’s address on the ENI', () => vpc.ip('node', 'addr add 10.0.0.120/32 dev eth1')],
    ['a pod’s address on lo', () => vpc.ip('node', 'addr add 10.0.0.120/32 dev lo')],
    ['a pod’s address on the primary', () => vpc.ip('node', 'addr add 10.0.0.77/24 dev eth0')],
    [
      'a pod’s neighbour led elsewhere',
      () => vpc.ip('node', `neigh replace 10.0.0.120 lladdr 02:00:00:00:00:99 dev ${pod()} nud permanent`),
    ],
    [
      'the router’s neighbour led elsewhere',
      () => vpc.ip('node', 'neigh replace 10.0.0.1 lladdr 02:00:00:00:00:99 dev eth1 nud permanent'),
    ],
    ['the ENI’s MTU lowered', () => vpc.ip('node', 'link set eth1 mtu 1500')],
    ['a pod’s host link down', () => vpc.ip('node', `link set ${pod()} down`)],
    [
      'strict filters',
      () => {
        for (const link of ['all', 'eth0', 'eth1', pod()])
          vpc.sysctl('node', `net.ipv4.conf.${link}.rp_filter`, '1');
      },
    ],
    ['forwarding off', () => vpc.sysctl('node', 'net.ipv4.ip_forward', '0')],
    ['early demultiplexing on', () => vpc.sysctl('node', 'net.ipv4.ip_early_demux', '1')],
  ];
  for (const [what, damage] of damages) {
    it(`repairs: ${what}`, async () => {
      damage();
      minutes++;
      repairs.length = 0;
      const report = await pods.datapath.syncNode(pods.state());
      assert.ok(report.changes.length > 0, 'nothing was repaired');
      assert.deepEqual(repairs, report.changes);
      assert.deepEqual((await pods.datapath.syncNode(pods.state())).changes, []);
      allReach();
    });
  }

  it('repairs all of it at once', async () => {
    for (const [, damage] of damages) {
      try {
        damage();
      } catch {
        // what another damage took away
      }
    }
    minutes++;
    await pods.datapath.syncNode(pods.state());
    assert.deepEqual((await pods.datapath.syncNode(pods.state())).changes, []);
    allReach();
  });

  it('says which held pods have no link', async () => {
    const lost: HeldPod = { hostIfname: 'pwabcdefabcdef', ips: [parseIp('10.0.0.78')], eni: eni0 };
    const report = await pods.datapath.syncNode(pods.state({ pods: [...pods.held.values(), lost] }));
    assert.deepEqual(report.missingPods, ['pwabcdefabcdef']);
    await pods.datapath.syncNode(pods.state());
  });

  it('a state that was put together before a pod was wired does not undo it', async () => {
    const old = pods.state();
    pods.add('pod-c', '10.0.0.121', eni1);
    await pods.datapath.syncNode(old);
    assert.equal(vpc.ping('peer', '10.0.0.121'), true);
    const { hostIfname } = pods.held.get('pod-c')!;
    const during = pods.state();
    pods.datapath.cutPod({ hostIfname });
    await pods.datapath.syncNode(during);
    assert.equal(vpc.isSilent('peer', '10.0.0.121'), true, 'a cut pod came back');
    await pods.datapath.reapLinks();
    pods.held.delete('pod-c');
    await pods.datapath.syncNode(pods.state());
  });

  it('running pods lose no packet while agents come and go and the state changes', async () => {
    const flood = (from: string, to: string) =>
      new Promise<string>((resolve) => {
        const child = spawn('ip', [
          'netns',
          'exec',
          vpc.name(from),
          'ping',
          '-q',
          '-i',
          '0.002',
          '-c',
          '400',
          '-W',
          '1',
          to,
        ]);
        let out = '';
        child.stdout.on('data', (chunk) => (out += chunk));
        child.once('exit', () => resolve(out));
      });
    const floods = [
      flood('pod-b', PEER),
      flood('pod-a', INTERNET),
      flood('pod-b', INTERNET),
      flood('internet', '10.0.0.120'),
    ];
    for (let i = 0; i < 6; i++) {
      const next = createDatapath({ netns: vpc.node, log: quiet });
      await next.syncNode(pods.state());
      await next.syncNode(
        pods.state({
          snat: i % 2 === 0 ? 'random' : 'node',
          vpcCidrs: [parseCidr('10.0.0.0/16'), parseCidr(`100.${64 + i}.0.0/16`)],
        }),
      );
      await next.close();
    }
    for (const out of await Promise.all(floods)) assert.match(out, / 0% packet loss/);
    await pods.datapath.syncNode(pods.state());
  });

  it('with policy enforced, pods are reached by judged packets and the node alone', async () => {
    await pods.datapath.syncNode(pods.state({ judged: { mark: 0x100, mask: 0x300 } }));
    assert.equal(vpc.isSilent('peer', '10.0.0.120'), true);
    assert.equal(vpc.isSilent('pod-a', '10.0.0.120'), true);
    assert.equal(vpc.ping('node', '10.0.0.120'), true);
    vpc.nft(
      'node',
      'table inet judge { chain c { type filter hook prerouting priority -80; meta mark set meta mark & 0xfffffcff | 0x100; }; }\n',
    );
    assert.equal(vpc.ping('peer', '10.0.0.120'), true);
    assert.equal(vpc.ping('pod-a', '10.0.0.120'), true);
    assert.equal(vpc.ping('pod-b', INTERNET), true);
    vpc.nft('node', 'delete table inet judge');
    await pods.datapath.syncNode(pods.state());
    allReach();
  });

  it('a new state is no repair', async () => {
    repairs.length = 0;
    const grown = { ...eni1, addresses: [...eni1.addresses, parseIp('10.0.0.122')] };
    const report = await pods.datapath.syncNode(pods.state({ enis: [eni0, grown] }));
    assert.deepEqual(report.changes, [
      'add route 10.0.0.122/32 table 20479',
      'add route 10.0.0.122/32 table 20478',
    ]);
    assert.deepEqual((await pods.datapath.syncNode(pods.state())).changes, [
      'delete route 10.0.0.122/32 table 20478',
      'delete route 10.0.0.122/32 table 20479',
    ]);
    assert.deepEqual(repairs, []);
  });

  it('an ENI comes, serves a pod, and goes without a trace', async () => {
    const before = vpc.snapshot('node');
    vpc.attach(eni2);
    const enis = [eni0, eni1, eni2];
    await pods.datapath.syncNode(pods.state({ enis }));
    pods.add('pod-e', '10.0.0.130', eni2);
    assert.equal(vpc.ping('pod-e', PEER), true);
    assert.equal(vpc.ping('internet', '10.0.0.130'), true);
    assert.match(vpc.ip('node', 'rule'), /fwmark 0x2\/0x7f lookup 20482/);
    pods.datapath.cutPod(pods.held.get('pod-e')!);
    pods.held.delete('pod-e');
    await pods.datapath.reapLinks();
    await pods.datapath.syncNode(pods.state());
    assert.match(vpc.ip('node', 'addr show dev eth2'), /state DOWN/);
    assert.doesNotMatch(vpc.ip('node', 'addr show dev eth2'), /inet /);
    vpc.detach(eni2);
    assert.equal(vpc.snapshot('node'), before);
  });

  it('waits for the link of an ENI that has just been attached', async () => {
    const enis = [eni0, eni1, eni2];
    const synced = pods.datapath.syncNode(pods.state({ enis }));
    vpc.attach(eni2);
    await synced;
    assert.match(vpc.ip('node', 'route show table 20482'), /default via 10\.0\.0\.1 dev eth2/);
    vpc.detach(eni2);
    const { absent } = await pods.datapath.syncNode(pods.state({ enis }));
    assert.deepEqual(absent, [eni2]);
    await pods.datapath.syncNode(pods.state());
    allReach();
  });
});

describe('what is not ours', needsRoot, () => {
  it('is the same after all of it, and nothing of ours is left', async () => {
    using vpc = new TestVpc();
    const dir = mkdtempSync(join(tmpdir(), 'pwt-datapath-'));
    const node = (command: string) => vpc.ip('node', command);
    node('link add other0 type veth peer name other1');
    node('link add pw0123456789ab type veth peer name other2'); // our pattern, not our group
    node('link set other0 up');
    node('link set other1 up');
    node('addr add 192.168.7.1/24 dev other0');
    node('rule add pref 100 from 192.168.7.0/24 lookup 100');
    node('rule add pref 512 to 192.168.8.0/24 lookup 20480');
    node('rule add pref 2000 fwmark 0x1/0x7f lookup 100 protocol 99');
    node('route add 192.168.9.0/24 via 192.168.7.2 table 100');
    node('route add 192.168.10.0/24 via 192.168.7.2 proto 80'); // our number, not our table
    node('route add 192.168.11.0/24 via 192.168.7.2 table 20480 proto 99'); // our table, not our number
    vpc.nft(
      'node',
      'table inet podwayx { chain c { type filter hook input priority 0; }; }\ntable ip podway { map pods4 { type ipv4_addr : verdict; }; }\n',
    );
    vpc.sysctl('node', 'net.ipv4.conf.eth0.rp_filter', '1');
    vpc.sysctl('node', 'net.ipv4.conf.eth1.arp_announce', '1');
    const before = vpc.snapshot('node');

    const sysctlFile = join(dir, 'run', 'sysctls.json');
    const first = new TestPods(vpc, { sysctlFile });
    await first.datapath.syncNode(first.state());
    first.add('pod-a', '10.0.0.77', eni0);
    first.add('pod-b', '10.0.0.120', eni1);
    assert.equal(vpc.ping('pod-b', PEER), true);
    await first.datapath.close();
    assert.equal(JSON.parse(readFileSync(sysctlFile, 'utf8'))['net/ipv4/conf/eth0/rp_filter'].before, '1');

    // Another process, after a restart, takes it all away.
    const second = createDatapath({ netns: vpc.node, log: quiet, sysctlFile });
    await second.syncNode(first.state());
    assert.equal(vpc.ping('pod-b', PEER), true);
    await second.removeAll();
    assert.equal(vpc.snapshot('node'), before);
    await second.removeAll();
    await second.close();
    assert.equal(vpc.snapshot('node'), before);
    rmSync(dir, { recursive: true });
  });
});

describe('kill -9', needsRoot, () => {
  it('at any moment, the next start converges and nothing is left in the end', async () => {
    using vpc = new TestVpc();
    const before = vpc.snapshot('node');
    for (let i = 0; i < 4; i++) vpc.addNetns(`pod-${i}`);
    const dir = mkdtempSync(join(tmpdir(), 'pwt-datapath-'));
    const sysctlFile = join(dir, 'sysctls.json');
    const ips = ['10.0.0.77', '10.0.0.78', '10.0.0.120', '10.0.0.121'];
    /** Held pods as the child's lines say, like a journal: the line is out before the deed. */
    let held = new Map<string, HeldPod>();
    for (let round = 0; round < 8; round++) {
      const child = spawn(
        process.execPath,
        [new URL('./testing-churn.ts', import.meta.url).pathname, vpc.name(''), sysctlFile, ips.join(',')],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let out = '';
      child.stdout.on('data', (chunk) => {
        // Spread over the first sync, ADDs, DELs and reaps: at the n-th line of the child.
        out += chunk;
        if (out.split('\n').length > 1 + round * 5) child.kill('SIGKILL');
      });
      await new Promise((resolve) => child.once('close', resolve));
      held = new Map();
      for (const line of out.split('\n').slice(0, -1)) {
        const [what, hostIfname, ip] = line.split(' ');
        if (what === 'hold') {
          held.set(hostIfname!, {
            hostIfname: hostIfname!,
            ips: [parseIp(ip!)],
            eni: ip!.startsWith('10.0.0.7') ? eni0 : eni1,
          });
        } else if (what === 'release') held.delete(hostIfname!);
      }
      const next = createDatapath({ netns: vpc.node, log: quiet, sysctlFile });
      const state = nodeState({ pods: [...held.values()] });
      const { missingPods } = await next.syncNode(state);
      assert.deepEqual((await next.syncNode(state)).changes, []);
      await next.reapLinks();
      const links = [...vpc.ip('node', '-br link').matchAll(/^(pw[0-9a-f]{12})@/gm)].map(
        (match) => match[1]!,
      );
      const there = [...held.keys()].filter((name) => !missingPods.includes(name));
      assert.deepEqual(links.sort(), there.sort(), `round ${round}`);
      for (const name of there) {
        const ip = formatIp(held.get(name)!.ips[0]!);
        assert.match(vpc.ip('node', 'route show table 20480'), new RegExp(`^${ip} dev ${name} `, 'm'));
        next.cutPod({ hostIfname: name });
      }
      await next.reapLinks();
      if (round % 4 === 3) {
        await next.removeAll();
        assert.equal(vpc.snapshot('node'), before, `round ${round}`);
      }
      await next.close();
    }
    rmSync(dir, { recursive: true });
  });
});
