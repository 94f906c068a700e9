// Which tracked connections the program no longer allows. Pure. Cut means: the entry gets a bit in its mark, and the table
// drops what belongs to it. Deleting an entry cuts nothing: the next packet makes it anew, reversed. The kernel refreshes a
// marked entry as long as somebody sends, so the bit is taken away when the flow is allowed again.
import type { Ip } from '../base/ip.ts';
import type { ConntrackEntry } from '../kernel/nfnetlink.ts';
import { evaluate } from './evaluate.ts';
import type { Program } from './program.ts';

/**
 * True of an entry that is to be cut. `own`: the node's addresses, from and to which its pods always may. For one walk
 * through the entries: many connect the same two addresses by the same port, and are judged once.
 */
export function cutJudge(program: Program, own: ReadonlySet<Ip>): (entry: ConntrackEntry) => boolean {
  const judged = new Map<Ip, Map<Ip, Map<number, boolean>>>();
  return ({ orig, reply }) => {
    // After destination NAT the receiver is who sends the replies.
    const { src, protocol } = orig;
    const dst = reply.src;
    if (!program.from.has(src) && !program.to.has(dst)) return false;
    if (own.has(src) || own.has(dst)) return false;
    const port = reply.sport ?? null;
    return judged
      .getOrInsertComputed(src, () => new Map())
      .getOrInsertComputed(dst, () => new Map())
      .getOrInsertComputed(
        protocol * 65_537 + (port ?? 65_536),
        () => evaluate(program, { src, dst, protocol, port }).verdict === 'deny',
      );
  };
}
