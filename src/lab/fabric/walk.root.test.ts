// Any change after any other, by the short way (elements and single operations), leaves the kernel as a fresh look at
// it would: after each step of a random walk a repair must find nothing to do.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { anyState, type Bench, bench, skipReason } from './testing.ts';

/** All that the router holds, in an order of its own; handles of rules and ages of neighbours differ and say nothing. */
async function dump({ sh }: Bench): Promise<string[]> {
  const links = sh(
    'vpc',
    "ip -o link show type bridge | sed 's/.* \\(sn-.*\\): .*mtu \\([0-9]*\\).*/\\1 \\2/'; bridge -d -o link | sed 's/^[0-9]*: //; s/state .* priority//'",
  );
  const routing = sh(
    'vpc',
    'ip rule; ip route show table all; ip -6 rule; ip -6 route show table all proto 80; ip -6 -br addr; ip neigh show nud permanent; bridge fdb | grep -v "self permanent"',
  );
  const internet = sh('internet', 'ip route; ip -6 route; ip -6 -br addr');
  const nft = sh('vpc', 'nft -j list ruleset');
  const rules = (
    JSON.parse(await nft) as { nftables: Record<string, Record<string, unknown>>[] }
  ).nftables.map((one) => {
    for (const it of Object.values(one)) {
      delete it['handle'];
      if (Array.isArray(it['elem'])) it['elem'] = it['elem'].map((element) => JSON.stringify(element)).sort();
    }
    return JSON.stringify(one);
  });
  const text = `${await links}\n${await routing}\n${await internet}`
    .split('\n')
    .map((line) => line.replace('linkdown', '').replaceAll(/ +/g, ' ').trim());
  return [...text, ...rules].sort();
}

describe('a random walk of states', { skip: skipReason, timeout: 120_000 }, () => {
  it('leaves nothing for a repair to do', async () => {
    const seed = Date.now() % 1_000_000;
    await using lab = bench();
    for (const [step, state] of fc.sample(anyState, { numRuns: 25, seed }).entries()) {
      await lab.fabric.apply(state);
      const changed = await dump(lab);
      await lab.fabric.repair();
      const repaired = await dump(lab);
      const lacked = repaired.filter((line) => !changed.includes(line));
      const left = changed.filter((line) => !repaired.includes(line));
      assert.deepEqual({ lacked, left }, { lacked: [], left: [] }, `step ${step} of seed ${seed}`);
      // The next change starts from what this one left, not from the repair's fresh look alone.
      await lab.fabric.apply(state);
    }
  });
});
