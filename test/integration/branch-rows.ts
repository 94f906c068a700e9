// Who reaches whom in the world of branch-world.ts, and as whom the sender is seen, with the VPC and all pods as they
// are at first.
import assert from 'node:assert/strict';
import { INTERNET_HOST } from '../../src/lab/fabric/testing.ts';
import { type BranchWorld, DB, DB6, ipOf, NODE, NODE_PUBLIC, NODE6, PLAIN } from './branch-world.ts';

export type Row = readonly [from: string, to: string, as: string];

export const SILENT = 'silent';
/** Without an answer for this long (ms), one counts as silent. */
export const SILENCE_MS = 900;
const AT_ONCE = 6;
export const same = (ip: string) => `${ip}, same port`;
export const [A, B, C, D, E] = ['a', 'b', 'c', 'd', 'e'].map((pod) => ipOf(pod)) as [
  string,
  string,
  string,
  string,
  string,
];
export const [a6, c6, d6, e6, s6, t6] = ['a', 'c', 'd', 'e', 's', 't'].map((pod) => ipOf(pod, 6)) as string[];

const rows: Row[] = [
  ['pod-a', DB!, same(A)],
  ['pod-a', B, same(A)],
  ['pod-a', PLAIN!, same(A)],
  ['pod-a', NODE!, same(A)],
  ['pod-plain', A, same(PLAIN!)],
  ['pod-plain', NODE!, same(PLAIN!)],
  ['pod-plain', DB!, same(PLAIN!)],
  ['db', A, same(DB!)],
  ['node', A, same(NODE!)],
  ['node', DB!, same(NODE!)],
  // Of a group that lets nothing in: the node's own probes need no rule.
  ['node', C, same(NODE!)],
  ['pod-a', C, SILENT],
  ['pod-plain', C, SILENT],
  ['db', C, SILENT],
  ['pod-c', DB!, same(C)],
  ['pod-c', A, same(C)],
  // Standard: as strict towards the VPC and towards strict pods, and no group is asked on the node.
  ['pod-d', DB!, same(D)],
  ['db', D, same(DB!)],
  ['db', E, SILENT],
  ['pod-d', NODE!, same(D)],
  ['pod-d', PLAIN!, same(D)],
  ['pod-d', E, same(D)],
  ['pod-e', D, same(E)],
  ['pod-plain', D, same(PLAIN!)],
  ['pod-plain', E, same(PLAIN!)],
  ['node', D, same(NODE!)],
  ['node', E, same(NODE!)],
  ['pod-d', A, same(D)],
  ['pod-d', C, SILENT],
  ['pod-a', D, same(A)],
  ['pod-a', E, SILENT],
  ['pod-e', A, same(E)],
  // Outside the VPC a pod in standard mode has the node's address; a strict one its own, which needs a NAT gateway.
  ['pod-d', INTERNET_HOST, same(NODE_PUBLIC)],
  ['pod-a', INTERNET_HOST, SILENT],
];

const rows6: Row[] = [
  ['pod-a', DB6!, a6!],
  ['pod-a', s6!, a6!],
  ['pod-a', NODE6!, a6!],
  ['pod-a', d6!, a6!],
  ['pod-a', c6!, SILENT],
  ['pod-a', e6!, SILENT],
  ['pod-s', DB6!, s6!],
  ['pod-s', a6!, s6!],
  ['pod-s', t6!, s6!],
  ['pod-d', DB6!, d6!],
  ['pod-d', NODE6!, d6!],
  ['pod-d', e6!, d6!],
  ['pod-d', t6!, d6!],
  ['pod-d', s6!, d6!],
  ['pod-t', DB6!, t6!],
  ['pod-t', d6!, t6!],
  ['db', a6!, DB6!],
  ['db', s6!, DB6!],
  ['db', t6!, DB6!],
  ['db', c6!, SILENT],
  ['db', e6!, SILENT],
  ['node', a6!, NODE6!],
  ['node', c6!, NODE6!],
  ['node', d6!, NODE6!],
  ['node', e6!, NODE6!],
];
export const table: readonly Row[] = [
  ...rows,
  ...rows6.map(([from, to, who]) => [from, to, who === SILENT ? who : same(who)] as const),
];
/** One of each kind of way. */
export const few: readonly Row[] = [
  ['pod-a', DB!, same(A)],
  ['pod-a', B, same(A)],
  ['pod-a', PLAIN!, same(A)],
  ['pod-b', NODE!, same(B)],
  ['pod-d', DB!, same(D)],
  ['pod-d', E, same(D)],
  ['pod-plain', D, same(PLAIN!)],
  ['db', D, same(DB!)],
  ['db', A, same(DB!)],
  ['node', C, same(NODE!)],
  ['pod-s', DB6!, same(s6!)],
  ['pod-t', DB6!, same(t6!)],
];

export async function check(world: BranchWorld, which: readonly Row[]): Promise<void> {
  for (let at = 0; at < which.length; at += AT_ONCE)
    await Promise.all(
      which.slice(at, at + AT_ONCE).map(async ([from, to, as]) => {
        const seen = await world.seen(from, to, 8080, as === SILENT ? SILENCE_MS : undefined);
        assert.equal(seen, as, `${from} to ${to}`);
      }),
    );
}
