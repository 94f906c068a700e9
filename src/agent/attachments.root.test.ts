// What ADD, DEL and a comparison do to each other, over the real pool and a namespace of the test's own. The datapath is
// a stand-in: nothing is wired.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import type { Cloud } from '../cloud/port.ts';
import { decodeRequest } from '../cni/request.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { podOwner, settle, TestNode } from '../ipam/testkit.ts';
import { currentNetns } from '../kernel/netns.ts';
import { inFreshNetns, needsRoot } from '../kernel/testing.ts';
import { createApiServer } from './api-server.ts';
import { Attachments } from './attachments.ts';
import { journalAndKernel } from './compare/kernel.ts';
import { parseAgentConfig } from './config.ts';

const standIn = (over: Partial<Datapath> = {}): Datapath =>
  ({ cutPod: () => {}, reapLinks: async () => {}, ...over }) as Datapath;

const requestOf = (verb: 'ADD' | 'DEL', containerId: string, netns: string) =>
  decodeRequest(
    { CNI_COMMAND: verb, CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: 'eth0' },
    JSON.stringify({ cniVersion: '1.1.0', name: 'podway', type: 'podway-cni' }),
  );

test('a DEL ends the ADD of its attachment that waits for an address', needsRoot, async () => {
  await using node = new TestNode();
  await node.start();
  await node.clock.advance(1_000);
  // No call to EC2 ends any more: the pool cannot grow.
  node.cloud.before = () => new Promise(() => {});
  const others = await Promise.all(Array.from({ length: 4 }, (_, i) => node.pool.acquire(podOwner(`p${i}`))));
  assert.equal(others.length, 4);
  await inFreshNetns(async (ns) => {
    using ownNetns = currentNetns();
    const attachments = new Attachments({
      pool: node.pool,
      datapath: standIn(),
      ownNetns,
      defaultMtu: () => 1500,
    });
    const path = `/proc/self/fd/${ns.fd}`;
    const add = requestOf('ADD', 'waiting', path);
    const del = requestOf('DEL', 'waiting', path);
    assert.ok(add.verb === 'ADD' && del.verb === 'DEL');
    const adding = attachments.add(add, new AbortController().signal).then(
      () => 'added',
      (error: Error) => error.message,
    );
    await settle(1);
    assert.equal(node.pool.counts().waiting, 1);
    // The clock stands still: whoever waits for anything else than the DEL waits for ever.
    await attachments.del({ network: 'podway', containerId: 'waiting', ifname: 'eth0' });
    assert.match(await adding, /was deleted while it waited/);
    assert.equal(node.pool.counts().waiting, 0);
    assert.equal(node.pool.held().length, 4);
  });
});

test(
  'a pod with a branch: held before its parts are made, answered when all is done, and nothing held after a failure',
  needsRoot,
  async () => {
    await using node = new TestNode();
    await node.start();
    await node.clock.advance(1_000);
    const ip = parseIp('10.0.9.33');
    const ref = { id: 'eni-b', mac: parseMac('02:00:00:00:01:07'), vlan: 7, subnetCidr: '10.0.9.0/24' };
    const did: string[] = [];
    let failing = '';
    const step = (name: string) => {
      did.push(`${name} ${node.pool.held().length}`);
      if (name === failing) throw new Error(`${name} fails`);
    };
    let forgotten = () => {};
    const datapath = standIn({
      wirePod: ({ ips, hostIfname, mtu }) => {
        step('wire');
        const mac = parseMac('02:00:00:00:00:01');
        const ends = { hostIfindex: 1, hostMac: mac, podIfindex: 2, podMac: mac };
        return { hostIfname, ...ends, mtu, ips, gateways: [ip], routes: [] };
      },
      cutPod: () => step('cut'),
    });
    await inFreshNetns(async (ns) => {
      using ownNetns = currentNetns();
      const attachments = new Attachments({
        ...{ pool: node.pool, datapath, ownNetns, defaultMtu: () => 1500 },
        branches: {
          of: async () => ({ ref, ips: [ip] }),
          concerns: () => true,
          trunk: async () => {},
          make: async () => step('make'),
          join: async () => step('join'),
          drop: async () => step('drop'),
          forget: async () => {
            step('forget');
            if (failing === '') await new Promise<void>((resolve) => (forgotten = resolve));
          },
        },
      });
      const request = (containerId: string) => {
        const add = requestOf('ADD', containerId, `/proc/self/fd/${ns.fd}`);
        assert.ok(add.verb === 'ADD');
        return { ...add, pod: { namespace: 'default', name: containerId, uid: 'u' } };
      };
      for (const [name, after] of [
        ['make', []],
        ['forget', ['make 1', 'wire 1', 'join 1']],
        ['wire', ['make 1', 'wire 1']],
        ['join', ['make 1', 'wire 1', 'join 1']],
      ] as const) {
        did.length = 0;
        failing = name;
        await assert.rejects(attachments.add(request(`fails-${name}`), new AbortController().signal), {
          message: `${name} fails`,
        });
        const begun = name === 'make' ? ['forget 1', 'make 1'] : ['forget 1', ...after];
        assert.deepEqual(did, [...begun, 'cut 1', 'drop 0'], name);
      }
      did.length = 0;
      failing = '';
      let isAnswered = false;
      const adding = attachments.add(request('lives'), new AbortController().signal).then(() => {
        isAnswered = true;
      });
      await settle(5);
      assert.deepEqual([did, isAnswered], [['forget 1', 'make 1', 'wire 1', 'join 1'], false]);
      forgotten();
      await adding;
      did.length = 0;
      await attachments.del({ network: 'podway', containerId: 'lives', ifname: 'eth0' });
      assert.deepEqual(did, ['cut 1', 'drop 0']);
    });
  },
);

test('a comparison lists the node once and gives way between pods', async () => {
  await using node = new TestNode();
  await node.start();
  await node.clock.advance(1_000);
  for (let i = 0; i < 4; i++) await node.pool.acquire(podOwner(`p${i}`));
  let listed = 0;
  const turns: number[] = [];
  let turn = 0;
  let counting = true;
  const count = () => {
    turn++;
    if (counting) setImmediate(count);
  };
  count();
  const datapath = standIn({
    observeNode: () => {
      listed++;
      return {
        podLinks: [],
        standIns: [],
        linkMacs: new Set<string>(),
        routes: [],
        elements: [],
        addresses: [],
      };
    },
    checkPod: () => {
      turns.push(turn);
      return [];
    },
  });
  const config = parseAgentConfig({ nodeName: 'node-1', runDir: '/run/podway' });
  await journalAndKernel({
    config,
    api: createApiServer(config),
    pool: node.pool,
    cloud: {} as Cloud,
    datapath,
  });
  counting = false;
  assert.equal(listed, 1);
  assert.equal(new Set(turns).size, 4, `pods looked at on turns ${turns}`);
});
