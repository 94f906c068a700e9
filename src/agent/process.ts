// Runs the agent as a process: signals, exit code (2 for a wrong configuration), and one line for a failure to start.
import { asPodwayError } from '../base/errors.ts';
import { runAgent } from './agent.ts';
import { readAgentOptions } from './options.ts';

export async function runProcess(args: readonly string[]): Promise<never> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.once(signal, () => stop.abort(new Error(signal)));
  let isRead = false;
  try {
    const config = readAgentOptions(args, process.env);
    isRead = true;
    await runAgent(config, stop.signal);
    process.exit(0);
  } catch (thrown) {
    const error = asPodwayError(thrown);
    console.error(`podway: ${error.code}: ${error.message} (${error.details.next})`);
    if (error.code === 'INTERNAL') console.error(error.stack, error.cause ?? '');
    process.exit(isRead ? 1 : 2);
  }
}
