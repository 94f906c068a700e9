// Takes policy off a node: its tables, whether or not they are there. Fails with NftError.
import type { Netns } from '../kernel/netns.ts';
import { withoutTable } from '../kernel/nft-text.ts';
import { Nft } from '../kernel/nftables.ts';
import { ISOLATION_TABLE } from './isolation.ts';
import { POLICY_TABLE } from './table.ts';

export async function removePolicyTables(netns: Netns): Promise<void> {
  await using nft = Nft.open(netns);
  await nft.run([POLICY_TABLE, ISOLATION_TABLE].map((name) => withoutTable(`inet ${name}`)).join(''));
}
