// What ADD, DEL and a comparison do to each other, over the real pool and a namespace of the test's own. The datapath is
// a stand-in: nothing is wired.
import assert from 'node:assert/strict';
import { test } from 'node:test';
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
