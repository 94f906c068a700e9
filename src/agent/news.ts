// What was told a moment ago is no news: the same thing is told again only after a pause. Bounded.

/** Ms during which the same thing is not told again. */
const PAUSE_MS = 60_000;
/** Things that are remembered as told. */
const MOST = 1_000;

/** Answers whether `key` was not told within the pause, and takes it as told now. */
export function createNews(now: () => number = () => performance.now()): (key: string) => boolean {
  const last = new Map<string, number>();
  return (key) => {
    const at = now();
    if (at - (last.get(key) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS) return false;
    last.delete(key);
    last.set(key, at);
    if (last.size > MOST) last.delete(last.keys().next().value!);
    return true;
  };
}
