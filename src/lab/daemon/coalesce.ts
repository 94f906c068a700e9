// One run at a time; calls that come while one runs share the next. Each caller's promise is of a run that began after
// its call.
export function coalesced(run: () => Promise<void>): () => Promise<void> {
  let current: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  return () => {
    if (!current) {
      current = run().finally(() => {
        current = undefined;
      });
      return current;
    }
    next ??= current
      .catch(() => {})
      .then(() => {
        next = undefined;
        current = run().finally(() => {
          current = undefined;
        });
        return current;
      });
    return next;
  };
}
