// Runs a daemon as its process: signals, exit code (2 for a wrong configuration), and one line for a failure to start.
import { asPodwayError } from './errors.ts';

/** Ends the process: 0 after SIGTERM or SIGINT, 2 when `read` throws, 1 when `run` does. */
export async function runProcess<C>(
  read: () => C,
  run: (config: C, signal: AbortSignal) => Promise<void>,
): Promise<never> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.once(signal, () => stop.abort(new Error(signal)));
  let isRead = false;
  try {
    const config = read();
    isRead = true;
    await run(config, stop.signal);
    process.exit(0);
  } catch (thrown) {
    const error = asPodwayError(thrown);
    console.error(`podway: ${error.code}: ${error.message} (${error.details.next})`);
    if (error.code === 'INTERNAL') console.error(error.stack, error.cause ?? '');
    process.exit(isRead ? 1 : 2);
  }
}
