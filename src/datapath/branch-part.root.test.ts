// A branch that comes or goes alone leaves the kernel as a sync of the whole node does, in both modes and all families,
// and so does the next sync after a failure or a kill at any step.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { formatIp, type Ip, parseCidr, parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import { programsOn } from '../kernel/bpf/hooks.ts';
import { openNetns } from '../kernel/netns.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { Nft } from '../kernel/nftables.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Branch } from './branch.ts';
import { dropBranch, joinBranch, makeBranch } from './branch-part.ts';
import { createDatapath } from './datapath.ts';
import { hostLinkName, standInIndex } from './marks.ts';
import { emptyMemory, type Kernel, type Memory } from './memory.ts';
import { ALL_PARTS } from './parts.ts';
import { Pass } from './pass.ts';
import { syncKernel } from './sync.ts';
import { openSysctlRecord } from './sysctls.ts';
import { eni0, eni1, needsRoot, nodeState, quiet, TestVpc } from './testing.ts';
import type { NodeDatapath, PodWiring } from './types.ts';
import { cutPod, wirePod } from './wire.ts';

type Mode = 'strict' | 'standard';
const V6 = '2600:1f14:1:102::';
const hostIfname = (vlan: number): string =>
  hostLinkName({ network: 'podway', containerId: `c${vlan}`, ifname: 'eth0' });
const branch = (
  vlan: number,
  mode: Mode,
  families: readonly (4 | 6)[],
  over: Partial<Branch> = {},
): Branch => ({
  eniId: `eni-b${vlan}`,
  mac: parseMac(`02:00:00:00:01:${vlan.toString(16).padStart(2, '0')}`),
  vlan,
  subnetCidr: parseCidr('10.0.32.0/19'),
  hostIfname: hostIfname(vlan),
  ips: families.map((family) => parseIp(family === 4 ? `10.0.32.${vlan}` : `${V6}${vlan}`)),
  mode,
  ...over,
});
const held = ({ hostIfname: link, ips, vlan, mode }: Branch) => ({
  hostIfname: link,
  ips,
  eni: eni0,
  vlan,
  mode,
});
const stateOf = (branches: readonly Branch[], over: Partial<NodeDatapath> = {}): NodeDatapath =>
  nodeState({ enis: [eni0], trunk: { mac: eni1.mac }, branches, pods: branches.map(held), ...over });

const KINDS: readonly (readonly [Mode, readonly (4 | 6)[]])[] = [
  ['strict', [4]],
  ['strict', [4, 6]],
  ['strict', [6]],
  ['standard', [4]],
  ['standard', [4, 6]],
  ['standard', [6]],
];

describe('a branch alone', needsRoot, () => {
  let vpc: TestVpc;
  before(() => {
    vpc = new TestVpc();
    for (const vlan of [7, 8, 9]) vpc.addNetns(`pod-${vlan}`).close();
  });
  after(() => vpc[Symbol.dispose]());

  const wiringOf = ({ vlan, mode, ips }: Branch): PodWiring & Disposable => {
    const netnsPath = `/run/netns/${vpc.name(`pod-${vlan}`)}`;
    const netns = openNetns(netnsPath);
    const wiring = {
      ...{ containerId: `c${vlan}`, ifname: 'eth0', netns, netnsPath, ips, eni: eni0, mtu: 9001 },
      ...{ hostIfname: hostIfname(vlan), vlan, mode },
    };
    return { ...wiring, [Symbol.dispose]: () => netns.close() };
  };
  /** What names the branch, its pod or its addresses. */
  const tracesOf = ({ vlan, hostIfname: link, ips }: Branch): string[] => {
    const all = vpc.run('node', [
      'sh',
      '-c',
      'ip -o link; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip neigh; nft -n list ruleset',
    ]);
    const marks = [`pwv${vlan}x?\\b`, link, `${standInIndex(vlan)}\\b`, `lookup ${0x6000 + vlan}\\b`];
    const any = new RegExp([...marks, ...ips.map((ip: Ip) => `${formatIp(ip)}\\b`)].join('|'));
    return all.split('\n').filter((line) => any.test(line));
  };

  for (const [mode, families] of KINDS)
    it(`${mode}, IPv${families.join(' and ')}: makes what a sync makes and takes it away; what is shared is a sync’s`, async () => {
      const drifts: string[] = [];
      const told = createDatapath({
        netns: vpc.node,
        log: quiet,
        onRepair: (changes) => drifts.push(...changes),
      });
      try {
        const [first, second] = [branch(7, mode, families), branch(8, mode, families)];
        await told.syncNode(stateOf([]));
        assert.equal(await told.makeBranch(first), false, 'nothing that it shares is there');
        await told.syncNode(stateOf([first]));
        for (const [one, all] of [
          [first, [first]],
          [second, [first, second]],
        ] as const) {
          assert.equal(await told.makeBranch(one), true);
          using wiring = wiringOf(one);
          assert.equal(told.hasBranch(one), false);
          told.wirePod(wiring);
          assert.equal(told.hasBranch(one), true);
          assert.deepEqual((await told.syncNode(stateOf(all))).changes, []);
        }
        using rt = RtNetlink.open(vpc.node);
        const onPod = programsOn(vpc.node, rt.link(hostIfname(8))!.index, 'ingress');
        assert.equal(onPod.length, mode === 'strict' ? 1 : 0);
        // Another process finds nothing to do but its own tables.
        const next = createDatapath({ netns: vpc.node, log: quiet });
        const found = (await next.syncNode(stateOf([first, second]))).changes;
        await next.close();
        assert.deepEqual(
          found.filter((text) => !/nft (table|map)/.test(text)),
          [],
        );
        told.cutPod({ hostIfname: hostIfname(8) });
        assert.equal(told.dropBranch(second), true);
        await told.reapLinks();
        assert.deepEqual(tracesOf(second), []);
        assert.deepEqual((await told.syncNode(stateOf([first]))).changes, []);
        assert.equal(told.dropBranch(second), false, 'it is gone');
        assert.equal(told.dropBranch(first), false, 'the last one takes along what it shared');
        told.cutPod({ hostIfname: hostIfname(7) });
        await told.syncNode(stateOf([]));
        await told.reapLinks();
        assert.deepEqual(tracesOf(first), []);
        assert.equal(await told.makeBranch(first), false);
        assert.deepEqual(drifts, []);
      } finally {
        await told.removeAll();
        await told.close();
      }
    });

  it('a sync has to, when the VLAN is another’s, the gate is known, the trunk is down or lost its program, or a pod is in another subnet', async () => {
    const datapath = createDatapath({ netns: vpc.node, log: quiet });
    try {
      const first = branch(7, 'standard', [4]);
      const second = branch(8, 'standard', [4]);
      await datapath.syncNode(stateOf([first]));
      assert.equal(await datapath.makeBranch({ ...second, vlan: 7 }), false);
      assert.equal(await datapath.makeBranch({ ...second, gate: [] }), false);
      assert.equal(await datapath.makeBranch({ ...second, subnetCidr: parseCidr('10.0.64.0/19') }), false);
      assert.equal(await datapath.makeBranch({ ...second, mode: 'strict' }), false);
      vpc.ip('node', 'link set eth1 down');
      assert.equal(await datapath.makeBranch(second), false);
      await datapath.syncNode(stateOf([first, second]));
      vpc.run('node', ['nft', 'delete', 'table', 'inet', 'podway-branch']);
      assert.equal(await datapath.makeBranch(second), true);
      using wiring = wiringOf(second);
      datapath.wirePod(wiring);
      assert.equal(datapath.hasBranch(second), false, 'its elements have no set');
      await datapath.syncNode(stateOf([first, second]));
      assert.equal(datapath.hasBranch(second), true);
      assert.deepEqual((await datapath.syncNode(stateOf([first, second]))).changes, []);
    } finally {
      await datapath.removeAll();
      await datapath.close();
    }
  });

  it('comes, goes, or is the last to go while a sync of an older state runs, at any of its steps', async () => {
    // A minute passes between any two damages: nothing backs off.
    let minutes = 0;
    const now = () => performance.now() + minutes * 60_000;
    const datapath = createDatapath({ netns: vpc.node, log: quiet, now });
    const [first, second] = [branch(7, 'strict', [4]), branch(8, 'strict', [4])];
    const turns = async (count: number) => {
      for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    /** A sync that has to make the table anew, this many turns after its beginning. */
    const amid = async (turn: number, branches: readonly Branch[]) => {
      minutes++;
      vpc.run('node', ['nft', 'delete', 'table', 'inet', 'podway-branch']);
      const ends = datapath.syncNode(stateOf(branches));
      await turns(turn);
      return { ends };
    };
    try {
      await datapath.syncNode(stateOf([first]));
      let alone = 0;
      for (const turn of [0, 1, 4, 16, 64]) {
        let sync = await amid(turn, [first]);
        if (await datapath.makeBranch(second)) alone++;
        else await datapath.syncNode(stateOf([first, second]));
        using wiring = wiringOf(second);
        datapath.wirePod(wiring);
        if (!datapath.hasBranch(second)) await datapath.syncNode(stateOf([first, second]));
        await sync.ends;
        assert.deepEqual(
          (await datapath.syncNode(stateOf([first, second]))).changes,
          [],
          `came, turn ${turn}`,
        );
        assert.equal(datapath.hasBranch(second), true, `came, turn ${turn}`);
        sync = await amid(turn, [first, second]);
        datapath.cutPod({ hostIfname: second.hostIfname });
        if (datapath.dropBranch(second)) alone++;
        else await datapath.syncNode(stateOf([first]));
        await sync.ends;
        await datapath.reapLinks();
        assert.deepEqual(tracesOf(second), [], `went, turn ${turn}`);
        assert.deepEqual((await datapath.syncNode(stateOf([first]))).changes, [], `went, turn ${turn}`);
        sync = await amid(turn, [first]);
        await datapath.syncNode(stateOf([]));
        await sync.ends;
        assert.deepEqual(tracesOf(first), [], `the last, turn ${turn}`);
        await datapath.syncNode(stateOf([first]));
      }
      assert.ok(alone > 0, 'some came or went alone');
    } finally {
      await datapath.removeAll();
      await datapath.close();
    }
  });

  for (const [mode, families] of KINDS.filter(([, { length }]) => length === 2))
    it(`${mode}: a failure or a kill at any step leaves what the next sync completes, or takes away`, async () => {
      const whole: Kernel = {
        ...{
          netns: vpc.node,
          rt: RtNetlink.open(vpc.node),
          nf: NfNetlink.open(vpc.node),
          nft: Nft.open(vpc.node),
        },
        openPod: (pod) => RtNetlink.openBriefly(pod),
      };
      const sysctls = openSysctlRecord(vpc.node, undefined);
      const [first, second] = [branch(7, mode, families), branch(8, mode, families)];
      const sync = async (memory: Memory, branches: readonly Branch[]): Promise<string[]> => {
        memory.node = stateOf(branches);
        for (const name of memory.pods.keys())
          if (!branches.some((one) => one.hostIfname === name)) memory.pods.delete(name);
        for (const one of branches)
          if (!memory.cut.has(one.hostIfname)) memory.pods.set(one.hostIfname, held(one));
        const pass = new Pass(() => 'repair');
        const parts = new Set(ALL_PARTS);
        await syncKernel({ kernel: whole, memory, sysctls, parts, pass, now: () => 0, tell: () => {} });
        return pass.changes;
      };
      /** Fails at the step with this number; each use of a door of the kernel is one. */
      const failing = (at: number): { kernel: Kernel; hasFailed: () => boolean } => {
        let step = 0;
        const kernel = new Proxy(whole, {
          get(from, door, self) {
            if (['rt', 'nf', 'netns'].includes(String(door)) && step++ === at) throw new Error(`step ${at}`);
            return Reflect.get(from, door, self);
          },
        });
        return { kernel, hasFailed: () => step > at };
      };
      const add = (kernel: Kernel, memory: Memory) => {
        using wiring = wiringOf(second);
        if (makeBranch(kernel, memory, second) === null) throw new Error('not made');
        wirePod(whole, memory, wiring);
        if (!joinBranch(kernel, memory, second.vlan, second.hostIfname)) throw new Error('not joined');
      };
      const del = (kernel: Kernel, memory: Memory) => {
        cutPod(whole, memory, second, 0);
        if (dropBranch(kernel, memory, second.vlan, second.hostIfname) === null) throw new Error('not gone');
      };
      const reap = (memory: Memory) => {
        whole.rt.tryApply([...memory.cut.keys()].map((name) => ({ op: 'link-del', name }) as const));
        memory.cut.clear();
      };
      const tries = (work: () => void): boolean => {
        try {
          work();
          return true;
        } catch {
          return false;
        }
      };
      try {
        let memory = emptyMemory();
        await sync(memory, [first]);
        const steps = { add: 0, del: 0 };
        for (const verb of ['add', 'del'] as const)
          for (let at = 0; ; at++) {
            // Each step both ways, in one mode or the other.
            const isKilled = (at % 2 === 0) === (mode === 'strict');
            if (verb === 'del') add(whole, memory);
            const { kernel, hasFailed } = failing(at);
            const isDone = tries(() => (verb === 'add' ? add : del)(kernel, memory));
            if (!hasFailed()) {
              assert.ok(isDone, `${verb}: without a failure`);
              steps[verb] = at;
            }
            if (isKilled) memory = emptyMemory();
            const what = `${verb}, step ${at}${isKilled ? ', killed' : ''}`;
            if (verb === 'add') {
              // The lease is there: the ADD goes on by a sync; a second one finds nothing to do.
              await sync(memory, [first, second]);
              using wiring = wiringOf(second);
              if (!whole.rt.link(second.hostIfname)) wirePod(whole, memory, wiring);
              await sync(memory, [first, second]);
              assert.deepEqual(await sync(memory, [first, second]), [], what);
              assert.equal(memory.zoned.size, 1, what);
              cutPod(whole, memory, second, 0);
            }
            // The lease is gone, and the next sync takes the rest.
            if (isKilled && verb === 'del') cutPod(whole, memory, second, 0);
            await sync(memory, [first]);
            reap(memory);
            assert.deepEqual(tracesOf(second), [], what);
            assert.deepEqual(await sync(memory, [first]), [], what);
            if (!hasFailed()) break;
          }
        assert.ok(steps.add >= 12 && steps.del >= 2, JSON.stringify(steps));
      } finally {
        const datapath = createDatapath({ netns: vpc.node, log: quiet });
        await datapath.removeAll();
        await datapath.close();
        whole.rt.close();
        whole.nf.close();
        await whole.nft.close();
      }
    });
});
