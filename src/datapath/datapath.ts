// The datapath of a node: pods' links, routes, rules, marks and source NAT. Entry: createDatapath().
// Owns everything that carries PROTOCOL, the nft table `inet podway`, links of our groups, and the set-up of secondary
// ENIs; nothing else is changed. Invariant: the kernel is written from values alone (desired.ts, nft.ts); syncNode
// converges from any state, and wirePod and cutPod are its hot special cases. Must never import cloud, ipam or kube.
// Map: marks (numbers and names), types, desired, branch, branch-elements, nft, enis, diff, concern, backoff (pure);
// settled, observe, sync and its parts, branch-part, branch-table, watch, wire, reap, check, sysctls.
import type { Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Way } from '../kernel/bpf/hooks.ts';
import { isMachineNetns, type Netns } from '../kernel/netns.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { Nft } from '../kernel/nftables.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { type History, isForgotten, judge } from './backoff.ts';
import type { Branch } from './branch.ts';
import { checkPod, type NodeView, observeNode } from './check.ts';
import { forwardDrops, legacyForwardDrops, linkManagers } from './foreign.ts';
import { slotKey } from './marks.ts';
import { emptyMemory, type Kernel, type Memory } from './memory.ts';
import { listAsked } from './observe.ts';
import { ALL_PARTS, type Part } from './parts.ts';
import { Pass, type Ruling } from './pass.ts';
import { createReaper } from './reap.ts';
import { removeKernel } from './remove.ts';
import { Settled } from './settled.ts';
import { observeStanding, type Standing } from './standing.ts';
import { syncKernel } from './sync.ts';
import { linksOfEnis } from './sync-links.ts';
import { openSysctlRecord } from './sysctls.ts';
import type {
  CheckTarget,
  CutTarget,
  Eni,
  HeldPod,
  NodeDatapath,
  PodWiring,
  SyncReport,
  Told,
  WiredPod,
} from './types.ts';
import { watchDatapath } from './watch.ts';
import { cutPod, wirePod } from './wire.ts';

export type DatapathOptions = {
  /** The node's namespace; stays open as long as the datapath. */
  netns: Netns;
  log: Log;
  /** Where the sysctls' old values are kept, under the node's run directory; in memory only when absent. */
  sysctlFile?: string;
  /** True while ADDs wait: the deletion of cut links steps back for them. */
  addsQueued?: () => boolean;
  /** enforce (default): changes by others are undone. report: they are only reported; a new state is still made. */
  repair?: 'enforce' | 'report';
  /** Called with the repairs of a sync whose desired state, pods aside, was unchanged: drift. */
  onRepair?: (changes: readonly string[], counts: ReadonlyMap<Part, number>) => void;
  /** Called once for each thing that is reported and not repaired, and again when it returns after a while. */
  onTold?: (told: Told) => void;
  /** Milliseconds, monotonic. */
  now?: () => number;
  /** How programs of branches attach; absent: by what the kernel has. */
  hooks?: Way;
};

export type Datapath = {
  /**
   * Makes the kernel match the state. Calls run one after another; of waiting calls only the newest state counts. If an
   * ENI has no link after a bounded wait, the report names it and everything else is in place.
   */
  syncNode(node: NodeDatapath): Promise<SyncReport>;
  /** The pods' links and addresses in the kernel, read without this process's memory. Reads only. */
  standing(): Standing;
  /** Compares these parts of the last state and repairs them. `urgent`: a pod waits, so back-off does not apply. */
  repair(parts: Iterable<Part>, options?: { urgent?: boolean }): Promise<SyncReport>;
  /**
   * Calls back from now on with the parts that others changed, and when a link comes that is neither a pod's nor a
   * known ENI's.
   */
  watch(onConcern: (parts: Part[]) => void, onStrangeLink?: () => void): { close(): void };
  /**
   * Makes this branch's own parts, before its pod's link, and compares nothing else. False: a sync of the node has to,
   * since what branches share is not in place or something was refused.
   */
  makeBranch(branch: Branch): Promise<boolean>;
  /** True when the wired pod's own parts of its branch are in place too; else a sync of the node has to make them. */
  hasBranch(branch: Pick<Branch, 'vlan' | 'hostIfname'>): boolean;
  /** After cutPod: takes the branch's own parts away. False: a sync of a state without it has to. */
  dropBranch(branch: Pick<Branch, 'vlan' | 'hostIfname'>): boolean;
  wirePod(wiring: PodWiring): WiredPod;
  cutPod(target: CutTarget): void;
  reapLinks(): Promise<void>;
  /** The node's side of all pods, for `checkPod` of many. */
  observeNode(): NodeView;
  checkPod(target: CheckTarget, view?: NodeView): string[];
  /** Addresses of our ENIs that no pod holds and that are on a link of the node, with its name. */
  onLinks(): ReadonlyMap<Ip, string>;
  /** One sentence for each foreign obstacle to pods' packets: chains that drop, programs that manage our links. */
  obstacles(): Promise<string[]>;
  /** Addresses of pods with branches for which something has arrived on the node in the last half minute. */
  askedPods(): Ip[];
  /** Removes the connection tracking entries that name the address; returns their number. */
  forgetAddress(ip: Ip): Promise<number>;
  /** Removes all our objects and restores the sysctls: for a node without pods and ENIs of ours. */
  removeAll(): Promise<void>;
  /** Closes sockets and threads; changes nothing in the kernel but links that are cut already. */
  close(): Promise<void>;
};

/** Ms to wait for an ENI's link after EC2 has attached the ENI. */
const LINK_WAIT_MS = 5_000;
const LINK_STEP_MS = 50;
const PRIMARY_KEY = slotKey({ networkCard: 0, deviceIndex: 0 });
/** A thing is reported again after it was absent for this long, ms. */
const TOLD_MEMORY_MS = 300_000;

type Request = { readonly parts: Set<Part>; urgent: boolean; readonly report: Promise<SyncReport> };

export function createDatapath(options: DatapathOptions): Datapath {
  const { netns, log } = options;
  const now = options.now ?? (() => performance.now());
  const kernel: Kernel = {
    netns,
    rt: RtNetlink.open(netns),
    nf: NfNetlink.open(netns),
    nft: Nft.open(netns),
    openPod: (pod) => RtNetlink.openBriefly(pod),
    hooks: options.hooks,
  };
  const memory = emptyMemory();
  const sysctls = openSysctlRecord(netns, options.sysctlFile);
  const reaper = createReaper({ kernel, memory, log, now, addsQueued: options.addsQueued ?? (() => false) });
  /** Links wired by this process; a desired state computed earlier lacks them. */
  const wiredHere = new Set<string>();
  /** ENIs whose link has come or whose wait has ended. */
  const met = new Set<string>();
  /** Repair history by object. */
  const histories = new Map<string, History>();
  /** Histories with the repairs of the present sync: a sync that fails has repaired nothing that counts. */
  const begun = new Map<string, History>();
  /** When each reported object was last seen. */
  const told = new Map<string, number>();
  let tail: Promise<unknown> = Promise.resolve();
  /** With the same state, a change is a repair. */
  const settled = new Settled();
  /** Loaded with the first branch. */
  let ofBranches: typeof import('./branch-part.ts') | undefined;
  /** Foreign chains that drop, as of their last change. */
  let drops: string[] = [];
  /** The next sync, not begun yet: requests that come meanwhile share it. */
  let waiting: Request | undefined;

  function adopt(node: NodeDatapath): void {
    memory.node = node;
    const pods = new Map<string, HeldPod>();
    for (const pod of node.pods) if (!memory.cut.has(pod.hostIfname)) pods.set(pod.hostIfname, pod);
    for (const [name, pod] of memory.pods) if (wiredHere.has(name)) pods.set(name, pod);
    memory.pods = pods;
    const present = new Set(node.enis.map((eni) => eni.id));
    for (const id of met) if (!present.has(id)) met.delete(id);
  }

  /** Waits, once for each ENI, for links that are missing; true when one came. */
  async function waitForLinks(absent: readonly Eni[]): Promise<boolean> {
    const isThere = () => {
      const found = linksOfEnis(memory.node!, kernel.rt.links());
      return absent.some((eni) => found.has(slotKey(eni)));
    };
    // An ENI that had a link before is being detached: do not wait for its link.
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

  function tell(what: Told): void {
    const at = now();
    const last = told.get(what.object);
    told.set(what.object, at);
    if (last === undefined || at - last >= TOLD_MEMORY_MS) options.onTold?.(what);
  }

  /** The verdict on one difference; `isDrift` when the desired state did not change. */
  function rule(object: string, text: string, isDrift: boolean, urgent: boolean): Ruling {
    if (options.repair === 'report' && (isDrift || told.has(object))) {
      tell({
        kind: 'withheld',
        object,
        text: `somebody changed ${object}, and repair is report: not done: ${text}`,
      });
      return { until: null };
    }
    if (!isDrift || urgent) return 'repair';
    const verdict = judge(histories.get(object), now());
    (verdict.repair ? begun : histories).set(object, verdict.history);
    if (verdict.begins) {
      tell({
        kind: 'fight',
        object,
        text: `somebody keeps changing ${object}: it is put back every 10 s from now on`,
      });
    }
    return verdict.repair ? 'repair' : { until: verdict.at };
  }

  function forgetOld(): void {
    const at = now();
    for (const [object, history] of histories) if (isForgotten(history, at)) histories.delete(object);
    for (const [object, seen] of told) if (at - seen >= TOLD_MEMORY_MS) told.delete(object);
  }

  async function sync(): Promise<SyncReport> {
    const { parts, urgent } = waiting!;
    waiting = undefined;
    const node = memory.node;
    if (!node) return { changes: [], missingPods: [], absent: [], retryAt: null };
    const isDrift = settled.begin(node);
    const pass = new Pass((object, text) => rule(object, text, isDrift, urgent));
    let result: Awaited<ReturnType<typeof syncKernel>>;
    begun.clear();
    try {
      result = await syncKernel({ kernel, memory, sysctls, parts, pass, now, tell });
      for (const [object, history] of begun) histories.set(object, history);
    } finally {
      if (isDrift && pass.changes.length > 0) options.onRepair?.(pass.changes, pass.counts);
      if (pass.changes.length > 0) log.debug({ changes: pass.changes }, 'datapath synced');
    }
    for (const eni of node.enis) if (memory.ready.has(slotKey(eni))) met.add(eni.id);
    if (parts.size === ALL_PARTS.length) {
      settled.end(node);
      forgetOld();
    }
    if (memory.cut.size > 0) void reaper.reap();
    return {
      changes: pass.changes,
      missingPods: result.missingPods,
      absent: result.absent,
      retryAt: pass.retryAt,
    };
  }

  function request(parts: Iterable<Part>, urgent: boolean): Promise<SyncReport> {
    waiting ??= { parts: new Set(), urgent: false, report: enqueue(sync) };
    for (const part of parts) waiting.parts.add(part);
    waiting.urgent ||= urgent;
    return waiting.report;
  }

  /** Null: a sync has to do it. A failure is no more than that: a sync tells what is wrong. */
  function tryPart(work: () => string[] | null): boolean {
    try {
      const changes = work();
      if (changes !== null && changes.length > 0) log.debug({ changes }, 'branch synced');
      return changes !== null;
    } catch (error) {
      log.debug({ error: (error as Error).message }, 'a branch alone was not synced');
      return false;
    }
  }

  return {
    async syncNode(node) {
      adopt(node);
      // The next sync will read this state.
      let report = await request(ALL_PARTS, false);
      // Waits outside the queue, so that a slow attachment does not delay repairs.
      while (report.absent.length > 0 && (await waitForLinks(report.absent))) {
        const next = await request(ALL_PARTS, false);
        report = { ...next, changes: [...report.changes, ...next.changes] };
      }
      return report;
    },
    standing: () => observeStanding(kernel),
    repair: (parts, { urgent = false } = {}) => request(parts, urgent),
    watch: (onConcern, onStrangeLink) => watchDatapath(kernel, memory, onConcern, onStrangeLink),
    wirePod(wiring) {
      const wired = wirePod(kernel, memory, wiring);
      wiredHere.add(wiring.hostIfname);
      const { vlan, hostIfname } = wiring;
      if (vlan !== undefined && ofBranches) {
        const { joinBranch } = ofBranches;
        tryPart(() => (joinBranch(kernel, memory, vlan, hostIfname) ? [] : null));
      }
      return wired;
    },
    async makeBranch(branch) {
      ofBranches ??= await import('./branch-part.ts');
      const { makeBranch } = ofBranches;
      const isMade = tryPart(() => makeBranch(kernel, memory, branch));
      if (isMade) settled.came(branch);
      return isMade;
    },
    hasBranch: ({ vlan, hostIfname }) => {
      const index = memory.zoned.get(vlan);
      return index !== undefined && index === memory.indexes.get(hostIfname);
    },
    dropBranch({ vlan, hostIfname }) {
      if (!ofBranches) return false;
      const { dropBranch } = ofBranches;
      const isGone = tryPart(() => dropBranch(kernel, memory, vlan, hostIfname));
      if (isGone) settled.went(vlan);
      return isGone;
    },
    cutPod(target) {
      wiredHere.delete(target.hostIfname);
      cutPod(kernel, memory, target, now());
    },
    reapLinks: () => reaper.reap(),
    observeNode: () => observeNode(kernel),
    checkPod: (target, view) => checkPod(kernel, target, view),
    onLinks: () => memory.onLinks,
    async obstacles() {
      if (memory.foreignChanged) {
        memory.foreignChanged = false;
        drops = await forwardDrops(kernel.nf);
      }
      return [...drops, ...legacyForwardDrops(kernel.netns), ...managersOf(kernel, memory)];
    },
    askedPods: () => (memory.branchTable ? listAsked(kernel) : []),
    forgetAddress: (ip) => kernel.nf.conntrackForget(ip),
    removeAll: () =>
      enqueue(async () => {
        await removeKernel(kernel, memory, sysctls);
        wiredHere.clear();
        settled.clear();
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

/** The machine's files describe only links of the machine's own namespace. */
function managersOf(kernel: Kernel, memory: Memory): string[] {
  if (!isMachineNetns(kernel.netns)) return [];
  const secondary = [...memory.eniLinks].filter(([, { key }]) => key !== PRIMARY_KEY);
  const links = new Map([
    ...[...memory.podLinks].map(([index, { name }]) => [index, name] as const),
    ...secondary.map(([index, { name }]) => [index, name] as const),
  ]);
  return linkManagers(links).map(
    ({ manager, link }) => `${manager} manages ${link}, a link of Podway: the files in deploy/ keep it away`,
  );
}
