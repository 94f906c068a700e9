// How the account's EC2 calls are shared when nodes would pass them together. Pure. Nodes on which pods wait come first, then
// those that fill their warm pools; within a class each gets the same, and nobody more than it asks. A trickle is left to
// everybody, so that no node is cut off by others' pods.

/** Calls per second; `waiting`: pods that wait for them. */
export type Ask = { readonly node: string; readonly rate: number; readonly waiting: number };

/** Of the budget, for those that come last. */
const TRICKLE_SHARE = 0.1;
/** Of one node: a call in twenty seconds. */
const TRICKLE = 0.05;

/** Null: together they ask for no more than there is, and nobody is bounded. */
export function share(asks: readonly Ask[], budget: number): Map<string, number> | null {
  const total = asks.reduce((sum, { rate }) => sum + rate, 0);
  if (total <= budget) return null;
  const least = Math.min(TRICKLE, (TRICKLE_SHARE * budget) / asks.length);
  const granted = new Map(asks.map(({ node, rate }) => [node, Math.min(rate, least)]));
  let left = budget - [...granted.values()].reduce((sum, rate) => sum + rate, 0);
  for (const isFirst of [true, false]) {
    const those = asks.filter(({ waiting }) => waiting > 0 === isFirst).sort((a, b) => a.rate - b.rate);
    for (const [index, { node, rate }] of those.entries()) {
      const more = Math.min(rate - granted.get(node)!, left / (those.length - index));
      granted.set(node, granted.get(node)! + more);
      left -= more;
    }
  }
  return granted;
}
