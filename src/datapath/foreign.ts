// Finds foreign obstacles to pods' packets on a node: chains that drop forwarded packets, and programs that manage
// links of ours. Reads only. For `doctor`, the agent's Events, and the lab's hints.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { howItDrops } from '../kernel/forward-rules.ts';
import { legacyForward } from '../kernel/legacy-tables.ts';
import type { Netns } from '../kernel/netns.ts';
import type { ForwardDrop, NfNetlink } from '../kernel/nfnetlink.ts';
import { LINK_PREFIX, NFT_TABLE } from './marks.ts';

/**
 * One sentence for each chain of others that drops what the node forwards, and does not accept pods' packets before. Told,
 * not changed: a firewall may be meant. `iptables -I FORWARD` twice, with `-i pw+` and `-o pw+`, lets pods through.
 */
export async function forwardDrops(nf: NfNetlink): Promise<string[]> {
  const drops = await nf.forwardDrops(LINK_PREFIX);
  return drops.filter((drop) => drop.table !== NFT_TABLE).map(dropText);
}

/** The same of the old iptables, which changes without a notification. */
export function legacyForwardDrops(netns: Netns): string[] {
  const chain = legacyForward(netns, LINK_PREFIX);
  const by = chain && howItDrops(chain.policy, chain.rules);
  return by ? [sentence('FORWARD of iptables-legacy', by)] : [];
}

const dropText = ({ family, table, chain, by }: ForwardDrop): string =>
  sentence(`${chain} of nft table ${family} ${table}`, by);

const sentence = (chain: string, by: ForwardDrop['by']): string =>
  by === 'policy'
    ? `chain ${chain} drops what is forwarded unless a rule accepts it`
    : `chain ${chain} has a rule that drops everything forwarded`;

export type LinkManager = { readonly manager: 'NetworkManager' | 'systemd-networkd'; readonly link: string };

/** Where each program keeps its state of a link, by interface index, and the text that means that it manages it. */
const MANAGERS = [
  { manager: 'NetworkManager', dir: 'run/NetworkManager/devices', manages: /^managed=true$/m },
  { manager: 'systemd-networkd', dir: 'run/systemd/netif/links', manages: /^ADMIN_STATE=(?!unmanaged$)/m },
] as const;

/** Programs that manage one of the links. Their files are the machine's: only for links of its own namespace. */
export function linkManagers(links: ReadonlyMap<number, string>, root = '/'): LinkManager[] {
  const found: LinkManager[] = [];
  for (const { manager, dir, manages } of MANAGERS) {
    const folder = join(root, dir);
    for (const file of existsSync(folder) ? readdirSync(folder) : []) {
      const link = links.get(Number(file));
      if (link !== undefined && manages.test(readText(join(folder, file)))) found.push({ manager, link });
    }
  }
  return found;
}

/** Empty for a file that disappeared between the listing and the read. */
function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
