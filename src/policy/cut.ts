// Which tracked connections the program no longer allows. Pure. Cut means: the entry gets a bit in its mark, and the table
// drops what belongs to it. Deleting an entry cuts nothing: the next packet makes it anew, reversed. The kernel refreshes a
// marked entry as long as somebody sends, so the bit is taken away when the flow is allowed again.
import type { Ip } from '../base/ip.ts';
import type { ConntrackEntry } from '../kernel/nfnetlink.ts';
import { evaluate } from './evaluate.ts';
import type { Program } from './program.ts';

/**
 * True when it is to be cut. `own`: the node's addresses, from and to which its
 * pods always may.
 */
export function isCut(program: Program, { orig, reply }: ConntrackEntry, own: ReadonlySet<Ip>): boolean {
  // After destination NAT the receiver is who sends the replies.
  const { src } = orig;
  const dst = reply.src;
  if (!program.from.has(src) && !program.to.has(dst)) return false;
  if (own.has(src) || own.has(dst)) return false;
  const port = reply.sport ?? null;
  return evaluate(program, { src, dst, protocol: orig.protocol, port }).verdict === 'deny';
}
