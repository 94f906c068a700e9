// Host links that somebody deleted, on a node with a real datapath; the pool and the attachments' locks are stand-ins.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Ip } from '../base/ip.ts';
import { eni1, needsRoot, PEER, quiet, TestPods, TestVpc } from '../datapath/testing.ts';
import type { Eni } from '../datapath/types.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import { openNetns } from '../kernel/netns.ts';
import type { Attachments } from './attachments.ts';
import { LostLinks } from './lost-links.ts';
import type { Telling } from './tell.ts';

describe('lost links', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  let lost: LostLinks;
  let leases: Lease[];
  let given: Lease[];
  let told: Telling[];

  const pod = (where: string, ip: string, eni: Eni): string => {
    vpc.addNetns(where);
    const wiring = pods.wiring(where, ip, eni, { mtu: 1500 });
    pods.datapath.wirePod(wiring);
    wiring.netns.close();
    const { containerId, ifname, netnsPath, ips, hostIfname } = wiring;
    const owner = {
      network: 'podway',
      containerId,
      ifname,
      netns: netnsPath,
      pod: { namespace: 'default', name: where },
    };
    leases.push({ owner, ips: ips as Ip[], eni: eni as never, at: 1 });
    return hostIfname;
  };
  const open = (mayRepair = true) =>
    new LostLinks({
      pool: { held: () => leases } as unknown as AddressPool,
      datapath: pods.datapath,
      attachments: {
        whileHeld: async (_lease: Lease, work: () => void) => work(),
        wiredEnd: () => undefined,
        giveUp: (lease: Lease) => given.push(lease),
        sandboxOf: ({ owner }: Lease) => {
          try {
            return openNetns(owner.netns!);
          } catch {
            return null;
          }
        },
      } as unknown as Attachments,
      log: quiet,
      tell: (telling) => told.push(telling),
      mayRepair,
      now: () => 10_000,
    });

  beforeEach(async () => {
    [leases, given, told] = [[], [], []];
    vpc = new TestVpc();
    pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    lost = open();
  });
  afterEach(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });

  const remove = async (link: string) => {
    vpc.ip('node', `link del ${link}`);
    const { missingPods } = await pods.datapath.repair(['links']);
    assert.deepEqual(missingPods, [link]);
    return lost.restore(missingPods);
  };

  it('one whose sandbox lives is made again, as the pod’s end was', async () => {
    const link = pod('pod-b', '10.0.0.120', eni1);
    // As the chained plugin `tuning` does.
    vpc.ip('pod-b', 'link set eth0 address 0a:00:00:00:00:77');
    await lost.learn();
    await remove(link);
    assert.match(vpc.ip('pod-b', 'link show eth0'), /mtu 1500.*0a:00:00:00:00:77/s);
    assert.ok(vpc.ping('pod-b', PEER));
    assert.ok(vpc.ping('internet', '10.0.0.120'));
    assert.match(told[0]!.text, /was deleted and made again/);
    const map = vpc.run('node', ['nft', 'list', 'map', 'inet', 'podway', 'pods4']);
    assert.equal(map.split('10.0.0.120').length, 2, map);
    assert.deepEqual((await pods.datapath.repair(['links', 'elements'])).changes, []);
  });

  it('one whose pod this agent has never seen is told of on the pod, and stays held', async () => {
    const link = pod('pod-b', '10.0.0.120', eni1);
    await remove(link);
    assert.deepEqual([told[0]?.kind, told[0]?.pod?.name], ['lost-link', 'pod-b']);
    assert.match(told[0]!.text, /10\.0\.0\.120 was deleted and is not made again: this agent has not seen/);
    assert.deepEqual(given, []);
  });

  it('with repair: report it is told of and left', async () => {
    lost = open(false);
    const link = pod('pod-b', '10.0.0.120', eni1);
    await lost.learn();
    await remove(link);
    assert.match(told[0]!.text, /repair is report/);
    assert.throws(() => vpc.ip('node', `link show ${link}`));
  });

  it('one whose sandbox is gone is given up', async () => {
    const link = pod('pod-b', '10.0.0.120', eni1);
    await lost.learn();
    vpc.removeNetns('pod-b');
    assert.equal(await lost.restore([link]), null);
    assert.deepEqual(given, leases);
  });

  it('the third time in ten seconds it waits, and the pod is told of', async () => {
    const link = pod('pod-b', '10.0.0.120', eni1);
    await lost.learn();
    assert.equal(await remove(link), null);
    assert.equal(await remove(link), null);
    assert.ok((await remove(link))! > performance.now() + 5_000);
    assert.match(told.at(-1)!.text, /deleted three times in 10 s/);
    assert.deepEqual(given, []);
  });
});
