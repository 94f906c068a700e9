// What the node's state takes from the kernel: a namespace of the test's own stands for the node.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import { CloudError } from '../cloud/port.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { TestNode } from '../ipam/testkit.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { inFreshNetns, needsRoot } from '../kernel/testing.ts';
import { parseAgentConfig } from './config.ts';
import { NodeState } from './node-state.ts';

test(
  'secondary ENIs and new pods take the MTU of the primary ENI’s link, and follow it',
  needsRoot,
  async () => {
    await using node = new TestNode();
    await node.start();
    const { mac } = node.identity.primary;
    const { settings } = parseAgentConfig({ nodeName: 'n', runDir: node.dir });
    await inFreshNetns(async (netns) => {
      using rt = RtNetlink.open(netns);
      const synced: number[] = [];
      const report = { changes: [], missingPods: [], absent: [], retryAt: null };
      const standIn = {
        syncNode: async ({ eniMtu }) => {
          synced.push(eniMtu);
          return report;
        },
        repair: async () => report,
        onLinks: () => new Map(),
      } as Partial<Datapath> as Datapath;
      const state = new NodeState({
        pool: node.pool,
        imds: undefined as never,
        datapath: standIn,
        netns,
        settings,
        file: `${node.dir}/vpc.json`,
        tell: () => {},
        log: { debug() {}, info() {}, warn() {}, error() {} },
      });
      assert.equal(state.desired().eniMtu, 1500, 'the link is not there yet');
      assert.deepEqual([...state.addressesOnLinks()], []);
      const veth = (name: string, mtu: number) =>
        rt.apply([
          { op: 'veth-add', name, mac, mtu, peer: { name: `${name}p`, mac: parseMac('02:00:00:00:00:99') } },
        ]);
      veth('ens5', 9001);
      assert.equal(state.desired().eniMtu, 9001);
      const ip = parseIp('10.0.0.99');
      rt.apply([{ op: 'addr-add', index: rt.link('ens5')!.index, ip, length: 24 }]);
      assert.ok(state.addressesOnLinks().has(ip));
      const { index } = rt.link('ens5')!;
      rt.apply([{ op: 'link-set', index, mtu: 1450 }]);
      assert.equal(state.desired().eniMtu, 1450);
      assert.equal(state.mtu, 1450);
      rt.apply([{ op: 'link-del', index }]);
      assert.equal(state.desired().eniMtu, 1450, 'what was seen last holds while the link is away');
      veth('eth0', 8000);
      assert.equal(state.desired().eniMtu, 8000);
      await state.repair(['sysctls']);
      assert.deepEqual(synced, []);
      rt.apply([{ op: 'link-set', index: rt.link('eth0')!.index, mtu: 1500 }]);
      await state.repair(['sysctls']);
      assert.deepEqual(synced, [1500], 'within the interval of the silent settings');
    });
  },
);

test(
  'after a lost journal nothing of the node is changed until EC2 has told what it has',
  needsRoot,
  async () => {
    await using node = new TestNode();
    await node.start();
    node.stand();
    await node.stop();
    rmSync(node.path);
    node.cloud.before = () => {
      throw new CloudError('DescribeNetworkInterfaces', 'RequestTimeout', 'no answer');
    };
    await node.start();
    const { mac } = node.identity.primary;
    const { settings } = parseAgentConfig({ nodeName: 'n', runDir: node.dir });
    await inFreshNetns(async (netns) => {
      using rt = RtNetlink.open(netns);
      // An MTU that the node has not seen yet, which alone asks for a sync.
      rt.apply([
        {
          op: 'veth-add',
          name: 'ens5',
          mac,
          mtu: 9001,
          peer: { name: 'p', mac: parseMac('02:00:00:00:00:99') },
        },
      ]);
      const asked: string[] = [];
      const report = { changes: [], missingPods: [], absent: [], retryAt: null };
      const datapath = {
        syncNode: async () => {
          asked.push('sync');
          return report;
        },
        repair: async (parts) => {
          asked.push(`repair ${[...parts].join()}`);
          return report;
        },
        onLinks: () => new Map(),
      } as Partial<Datapath> as Datapath;
      const log = { debug() {}, info() {}, warn() {}, error() {} };
      const file = `${node.dir}/vpc.json`;
      const imds = undefined as never;
      const state = new NodeState({
        pool: node.pool,
        imds,
        datapath,
        netns,
        settings,
        file,
        tell: () => {},
        log,
      });
      await state.sync();
      await state.repair(['rules']);
      assert.deepEqual(asked, ['repair ', 'repair ']);
      node.cloud.before = () => {};
      await node.clock.advance(60_000);
      await state.sync();
      assert.equal(asked.at(-1), 'sync');
    });
  },
);
