// At most `width` async tasks at once, first come first served.
export function limiter(width: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (running >= width) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await task();
    } finally {
      // The slot goes to the next in line, or back.
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
