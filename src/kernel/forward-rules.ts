// What a rule of a forward chain means for the packets of links with a given prefix, told of nftables and of the old
// iptables alike. Pure. Conditions that are not understood count as conditions: such a rule is `other`.

/** `accepts-from` and `accepts-to`: all that comes in by, or goes out by, links of the prefix. */
export type ForwardRule = 'drops-all' | 'accepts-all' | 'accepts-from' | 'accepts-to' | 'other';

/** How the chain drops packets of the prefix's links; null when it does not, or accepts them both ways before. */
export function howItDrops(
  policy: 'accept' | 'drop',
  rules: Iterable<ForwardRule>,
): 'policy' | 'rule' | null {
  const accepted = new Set<ForwardRule>();
  for (const rule of rules) {
    accepted.add(rule);
    if (rule === 'accepts-all' || (accepted.has('accepts-from') && accepted.has('accepts-to'))) return null;
    if (rule === 'drops-all') return 'rule';
  }
  return policy === 'drop' ? 'policy' : null;
}
