// Reports at once which parts of our objects others changed. Own changes are ignored: by the port of the socket that
// made them, or, for libnftables, by the thread that the kernel names when a transaction ends.
// Notifications are hints: when the kernel has dropped some, everything is compared.
import { existsSync } from 'node:fs';
import { type KernelEvent, watchKernel } from '../kernel/monitor.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { concernOf } from './concern.ts';
import { isUpper } from './enis.ts';
import {
  BRANCH_TABLE,
  GROUP_BRANCHES,
  GROUP_PODS,
  isBranchLink,
  isFarEnd,
  isPodLinkName,
  linkMacs,
  NFT_TABLE,
} from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { ALL_PARTS, type Part } from './parts.ts';

const GROUPS = ['link', 'address', 'route', 'rule', 'neighbour', 'netconf', 'nftables'] as const;

/** A thread of this process; in a process id namespace of its own the kernel's number says nothing, and this is false. */
const isOwnThread = (id: number): boolean => existsSync(`/proc/self/task/${id}`);

export function watchDatapath(
  kernel: Kernel,
  memory: Memory,
  onConcern: (parts: Part[]) => void,
  onStrangeLink: () => void = () => {},
): { close(): void } {
  /** Parts of the nft table that the current transaction touches; its end message names the thread that made it. */
  const touched = new Set<Part>();

  const judge = (event: KernelEvent): readonly Part[] => {
    if (event.kind === 'lost') return ALL_PARTS;
    if (event.kind === 'nftables-generation') {
      if (touched.size === 0) return [];
      const parts = isOwnThread(event.threadId) ? [] : [...touched];
      touched.clear();
      return parts;
    }
    const part = concernOf(event, memory);
    if (event.kind === 'link') noteStandIn(memory, event);
    if (event.kind === 'link' && event.change === 'new') {
      noteUp(memory, event);
      if (isStrange(event.link, memory)) onStrangeLink();
    }
    if (part === null) return [];
    if (event.kind !== 'nftables') return [part];
    touched.add(part);
    return [];
  };

  return watchKernel(
    kernel.netns,
    {
      groups: GROUPS,
      nftTables: [NFT_TABLE, BRANCH_TABLE],
      onOtherTable: () => {
        memory.foreignChanged = true;
      },
      isOwn: (port) => kernel.rt.isOwn(port) || kernel.nf.isOwn(port),
    },
    (event) => {
      const parts = judge(event);
      if (parts.length > 0) onConcern([...parts]);
    },
  );
}

/** May be an ENI's that the state does not have yet. */
const isStrange = ({ name, mac, group, kind, index }: Link, { node, eniLinks }: Memory): boolean =>
  mac !== null &&
  !isPodLinkName(name) &&
  group !== GROUP_BRANCHES &&
  !eniLinks.has(index) &&
  node?.trunk?.mac !== mac &&
  !isUpper(kind);

/** After this, a link of branches going down counts as a foreign change; a new one with its index is made down. */
function noteStandIn({ standIns }: Memory, { change, link }: KernelEvent & { kind: 'link' }): void {
  if (!isBranchLink(link) && !isFarEnd(link)) return;
  if (change === 'del') standIns.delete(link.index);
  else if (link.up) standIns.add(link.index);
}

/** After this, the link going down counts as a foreign change. */
function noteUp(memory: Memory, { link }: KernelEvent & { kind: 'link' }): void {
  if (!link.up || link.group !== GROUP_PODS || memory.podLinks.has(link.index)) return;
  if (memory.pods.has(link.name))
    memory.podLinks.set(link.index, { name: link.name, mac: linkMacs(link.name).host });
}
