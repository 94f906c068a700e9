// The packets' way on a node: pods' links, routes, rules, marks and source NAT. Entry: createDatapath().
// Owns everything that carries PROTOCOL, the nft table `inet podway`, links of our groups, and the set-up of secondary
// ENIs; nothing else is changed. Invariant: the kernel is written from values alone (desired.ts, nft.ts); syncNode
// converges from any state, and wirePod and cutPod are its hot special cases. Must never import cloud, ipam or kube.
// Map: marks (numbers and names), types, desired, nft, enis, diff (pure); observe, sync, wire, reap, check, sysctls.
import type { Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Netns } from '../kernel/netns.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { Nft } from '../kernel/nftables.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { checkPod, type NodeView, observeNode } from './check.ts';
import { slotKey } from './marks.ts';
import { emptyMemory, type Kernel } from './memory.ts';
import { createReaper } from './reap.ts';
import { removeKernel } from './remove.ts';
import { observeStanding, type Standing } from './standing.ts';
import { linksOfEnis, syncKernel } from './sync.ts';
import { openSysctlRecord } from './sysctls.ts';
import type {
  CheckTarget,
  CutTarget,
  Eni,
  HeldPod,
  NodeDatapath,
  PodWiring,
  SyncReport,
  WiredPod,
} from './types.ts';
import { cutPod, wirePod } from './wire.ts';

export type DatapathOptions = {
  /** The node's namespace; stays open as long as the datapath. */
  netns: Netns;
  log: Log;
  /** Where the sysctls' old values are kept, under the node's run directory; in memory only when absent. */
  sysctlFile?: string;
  /** True while ADDs wait: the deletion of cut links steps back for them. */
  addsQueued?: () => boolean;
  /** Called for each thing that a sync found changed although the state, pods aside, was the same as before. */
  onRepair?: (change: string) => void;
  /** Milliseconds, monotonic. */
  now?: () => number;
};

export type Datapath = {
  /**
   * Makes the kernel as the state says; calls run one after another, and of those that wait only the newest state
   * counts. Rejects when an ENI has no link yet (after a bounded wait), with everything else in place.
   */
  syncNode(node: NodeDatapath): Promise<SyncReport>;
  /** What stands in the kernel of pods, whatever this process remembers. Reads only. */
  standing(): Standing;
  wirePod(wiring: PodWiring): WiredPod;
  cutPod(target: CutTarget): void;
  reapLinks(): Promise<void>;
  /** The node's side of all pods, for `checkPod` of many. */
  observeNode(): NodeView;
  checkPod(target: CheckTarget, view?: NodeView): string[];
  /** Removes the connection tracking entries that name the address; how many there were. */
  forgetAddress(ip: Ip): Promise<number>;
  /** Removes all that is ours and puts the sysctls back: for a node that has no pod and no ENI of ours any more. */
  removeAll(): Promise<void>;
  /** Closes sockets and threads; changes nothing in the kernel but links that are cut already. */
  close(): Promise<void>;
};

/** A link follows its attachment in EC2 by this long at most, ms. */
const LINK_WAIT_MS = 5_000;
const LINK_STEP_MS = 50;

const shapeOf = ({ pods: _, ...node }: NodeDatapath): string =>
  JSON.stringify(node, (_key, value) => (typeof value === 'bigint' ? `${value}` : value));

export function createDatapath(options: DatapathOptions): Datapath {
  const { netns, log } = options;
  const now = options.now ?? (() => performance.now());
  const kernel: Kernel = {
    netns,
    rt: RtNetlink.open(netns),
    nf: NfNetlink.open(netns),
    nft: Nft.open(netns),
  };
  const memory = emptyMemory();
  const sysctls = openSysctlRecord(netns, options.sysctlFile);
  const reaper = createReaper({ kernel, memory, log, now, addsQueued: options.addsQueued ?? (() => false) });
  /** Links wired by this process: a state that was put together before does not know them. */
  const wiredHere = new Set<string>();
  /** ENIs whose link has come, or was waited for in vain. */
  const met = new Set<string>();
  let tail: Promise<unknown> = Promise.resolve();
  /** What the last sync made true, pods aside: with the same again, a change is a repair. */
  let settled: string | undefined;
  let waiting: Promise<SyncReport> | undefined;

  function adopt(node: NodeDatapath): void {
    memory.node = node;
    const pods = new Map<string, HeldPod>();
    for (const pod of node.pods) if (!memory.cut.has(pod.hostIfname)) pods.set(pod.hostIfname, pod);
    for (const [name, pod] of memory.pods) if (wiredHere.has(name)) pods.set(name, pod);
    memory.pods = pods;
    const present = new Set(node.enis.map((eni) => eni.id));
    for (const id of met) if (!present.has(id)) met.delete(id);
  }

  /** Waits, once for each ENI, until links have come for those that had none; true when one came. */
  async function waitForLinks(absent: readonly Eni[]): Promise<boolean> {
    const isThere = () => {
      const found = linksOfEnis(memory.node!, kernel.rt.links());
      return absent.some((eni) => found.has(slotKey(eni)));
    };
    // An ENI that was here is on its way out: nobody waits for its link.
    if (absent.every((eni) => met.has(eni.id))) return false;
    for (const eni of absent) met.add(eni.id);
    for (const end = now() + LINK_WAIT_MS; now() < end; ) {
      if (isThere()) return true;
      await new Promise((resolve) => setTimeout(resolve, LINK_STEP_MS));
    }
    return false;
  }

  const enqueue = <T>(work: () => Promise<T>): Promise<T> => {
    const done = tail.then(work);
    tail = done.catch(() => undefined);
    return done;
  };

  async function sync(): Promise<SyncReport> {
    waiting = undefined;
    const node = memory.node!;
    let result = await syncKernel(kernel, memory, sysctls, now);
    const changes = [...result.changes];
    // All else is in place before anything waits, so a slow attachment holds up nobody else's repair.
    while (result.absent.length > 0 && (await waitForLinks(result.absent))) {
      result = await syncKernel(kernel, memory, sysctls, now);
      changes.push(...result.changes);
    }
    for (const eni of memory.node!.enis) if (memory.ready.has(slotKey(eni))) met.add(eni.id);
    const shape = shapeOf(node);
    if (settled === shape) for (const change of changes) options.onRepair?.(change);
    settled = shape;
    if (changes.length > 0) log.debug({ changes }, 'datapath synced');
    if (memory.cut.size > 0) void reaper.reap();
    if (result.absent.length > 0) {
      throw new Error(
        result.absent.map((eni) => `${eni.id}: no link has its MAC address ${eni.mac}`).join('; '),
      );
    }
    return { changes, missingPods: result.missingPods };
  }

  return {
    syncNode(node) {
      adopt(node);
      // A sync that has not begun will read this state.
      waiting ??= enqueue(sync);
      return waiting;
    },
    standing: () => observeStanding(kernel),
    wirePod(wiring) {
      const wired = wirePod(kernel, memory, wiring);
      wiredHere.add(wiring.hostIfname);
      return wired;
    },
    cutPod(target) {
      wiredHere.delete(target.hostIfname);
      cutPod(kernel, memory, target, now());
    },
    reapLinks: () => reaper.reap(),
    observeNode: () => observeNode(kernel),
    checkPod: (target, view) => checkPod(kernel, target, view),
    forgetAddress: (ip) => kernel.nf.conntrackForget(ip),
    removeAll: () =>
      enqueue(async () => {
        await removeKernel(kernel, memory, sysctls);
        wiredHere.clear();
        settled = undefined;
      }),
    async close() {
      await tail;
      await reaper.close();
      await kernel.nft.close();
      kernel.rt.close();
      kernel.nf.close();
    },
  };
}
