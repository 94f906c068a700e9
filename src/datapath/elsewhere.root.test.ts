// Beside another network plugin: a pod of its own, with an address of our ENI and a route in the main table, as ptp and
// the AWS VPC CNI make them, keeps its network through our syncs; when the route goes, the address is ours alone.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { eni0, INTERNET, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';

const THEIRS = '10.0.0.78';

test(
  'a pod that another plugin routes keeps its network, and its address is withheld',
  needsRoot,
  async () => {
    using vpc = new TestVpc();
    vpc.addNetns('theirs');
    const there = vpc.name('theirs');
    vpc.ip('node', `link add eni123 type veth peer name eth0 netns ${there}`);
    vpc.ip('node', 'link set eni123 up');
    // As the other plugin has set it before us: what we put back in the end.
    execFileSync('ip', [
      'netns',
      'exec',
      vpc.name('node'),
      'sh',
      '-c',
      'echo 1 > /proc/sys/net/ipv4/ip_forward',
    ]);
    vpc.ip('theirs', `addr add ${THEIRS}/32 dev eth0`);
    vpc.ip('theirs', 'link set eth0 up');
    vpc.ip('theirs', 'route add 169.254.1.1 dev eth0 scope link');
    vpc.ip('theirs', 'route add default via 169.254.1.1');
    const mac = /link\/ether (\S+)/.exec(vpc.ip('node', 'link show eni123'))![1]!;
    vpc.ip('theirs', `neigh add 169.254.1.1 lladdr ${mac} dev eth0 nud permanent`);
    vpc.ip('node', `route add ${THEIRS}/32 dev eni123 scope link`);
    const pods = new TestPods(vpc);
    try {
      await pods.datapath.syncNode(pods.state());
      pods.add('ours', '10.0.0.77', eni0);
      const reach = () => {
        for (const from of ['peer', 'ours', 'node'])
          assert.ok(vpc.ping(from, THEIRS), `${from} reaches the pod of the other plugin`);
        for (const to of [PEER, INTERNET, '10.0.0.77']) assert.ok(vpc.ping('theirs', to), `it reaches ${to}`);
      };
      reach();
      assert.match(pods.datapath.onLinks().get(parseIp(THEIRS)) ?? '', /eni123/);
      assert.deepEqual((await pods.datapath.syncNode(pods.state())).changes, []);
      reach();
      vpc.ip('node', `route del ${THEIRS}/32 dev eni123`);
      await pods.datapath.syncNode(pods.state());
      assert.equal(pods.datapath.onLinks().has(parseIp(THEIRS)), false);
      assert.equal(vpc.isSilent('peer', THEIRS), true, 'a black hole again');
      // A pod of the other plugin that comes while we serve.
      const concerned: string[] = [];
      const watch = pods.datapath.watch((parts) => concerned.push(...parts));
      vpc.ip('node', `route add ${THEIRS}/32 dev eni123 scope link`);
      for (let i = 0; i < 3_000 && concerned.length === 0; i++)
        await new Promise((resolve) => setTimeout(resolve, 10));
      watch.close();
      assert.deepEqual(concerned, ['addresses']);
      await pods.datapath.repair(['addresses']);
      reach();
      await pods.datapath.removeAll();
      assert.ok(vpc.ping('peer', THEIRS), 'also when we are gone');
    } finally {
      await pods.datapath.close();
    }
  },
);
