// An ADD that meets a node whose nft table, or a chain of it, somebody removed; the pool is a stand-in.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { decodeRequest } from '../cni/request.ts';
import { eni1, needsRoot, PEER, TestPods, TestVpc } from '../datapath/testing.ts';
import type { AddressPool } from '../ipam/pool.ts';
import { Attachments } from './attachments.ts';

describe('an ADD that meets a missing table', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  let released: string[];
  beforeEach(() => {
    vpc = new TestVpc();
    vpc.addNetns('pod');
    released = [];
  });
  afterEach(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });

  const add = (): Promise<unknown> => {
    const request = decodeRequest(
      {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'c1',
        CNI_NETNS: `/run/netns/${vpc.name('pod')}`,
        CNI_IFNAME: 'eth0',
      },
      JSON.stringify({ cniVersion: '1.1.0', name: 'podway', type: 'podway-cni' }),
    );
    assert.ok(request.verb === 'ADD');
    const lease = {
      owner: { network: 'podway', containerId: 'c1', ifname: 'eth0' },
      ips: [parseIp('10.0.0.120')],
      eni: eni1,
      at: 1,
    };
    const pool = {
      find: () => null,
      hasNameless: false,
      tryAcquire: () => lease,
      release: (_owner: unknown, reason: string) => void released.push(reason),
    } as unknown as AddressPool;
    const attachments = new Attachments({
      pool,
      datapath: pods.datapath,
      ownNetns: vpc.node,
      defaultMtu: () => 1500,
    });
    return attachments.add(request, new AbortController().signal);
  };
  const open = async (repair: 'enforce' | 'report') => {
    pods = new TestPods(vpc, { repair });
    await pods.datapath.syncNode(pods.state());
  };

  for (const damage of [
    'delete table inet podway',
    'flush ruleset',
    'flush table inet podway\ndelete chain inet podway eni_0_1',
  ]) {
    it(`has it put back and succeeds: ${damage.replaceAll('\n', '; ')}`, async () => {
      await open('enforce');
      vpc.nft('node', damage);
      await add();
      assert.ok(vpc.ping('pod', PEER));
      assert.ok(vpc.ping('internet', '10.0.0.120'));
      assert.deepEqual(released, []);
    });
  }

  it('has an ENI set up whose link was away a moment ago', async () => {
    await open('enforce');
    const wrong = 'ip link set eth1 down; ip link set eth1 address 02:00:00:00:99:99';
    vpc.run('node', ['sh', '-c', wrong]);
    assert.equal((await pods.datapath.repair(['links'])).absent.length, 1);
    vpc.run('node', ['sh', '-c', `ip link set eth1 address ${eni1.mac}`]);
    await add();
    assert.ok(vpc.ping('pod', PEER));
  });

  it('fails with the cause when the node only reports, and leaves nothing', async () => {
    await open('report');
    vpc.nft('node', 'delete table inet podway');
    await assert.rejects(add(), { code: 'DATAPATH_CHANGED', message: /table inet podway lacks/ });
    assert.deepEqual(released, ['add-failed']);
    assert.throws(() => vpc.ip('pod', 'link show eth0'));
  });
});
